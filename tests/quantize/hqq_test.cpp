// hqq: no group loses more in its own norm than with rtn, long tails lose less, and what it refuses.
#include "fewbit/quantize/hqq.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

/// Weights with long tails: Gaussian over the square root of a chi-squared, Student's t with 4 degrees of freedom.
Matrix long_tailed(std::size_t n, std::size_t k, std::uint64_t seed) {
    Matrix w = testing::gaussian_matrix(n, k, seed, 0.02);
    std::vector<Matrix> squares;
    for (std::uint64_t i = 1; i <= 4; ++i) squares.push_back(testing::gaussian_matrix(n, k, seed + i));
    for (std::size_t i = 0; i < w.values().size(); ++i) {
        float sum = 0;
        for (const Matrix& g : squares) sum += g.values()[i] * g.values()[i];
        w.values()[i] /= std::sqrt(sum / 4);
    }
    return w;
}

/// sum |w - w^|^p of each group
std::vector<double> losses(const Matrix& w, const QuantizedMatrix& q, double p) {
    std::vector<double> sums(w.rows() * q.groups_per_row());
    std::vector<float> row(w.cols());
    for (std::size_t r = 0; r < w.rows(); ++r) {
        q.dequantize(r, 0, row);
        for (std::size_t c = 0; c < w.cols(); ++c)
            sums[r * q.groups_per_row() + c / q.group_elements()] +=
                std::pow(std::abs(static_cast<double>(w(r, c)) - static_cast<double>(row[c])), p);
    }
    return sums;
}

double total(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum;
}

}  // namespace

TEST_CASE("hqq: every group is as good as with rtn in its norm, most are better", "[quantize][hqq]") {
    const Matrix w = long_tailed(20, 300, 1);
    for (const char* text :
         {"int4-g64-fzero", "int3-g64-fzero", "int2-g48-fzero", "int8-channel-fzero", "int4-g32-asym"})
        for (const double p : {0.5, 0.7, 1.0, 2.0}) {
            INFO(text << ", p " << p);
            const Format format = *parse_format(text);
            HqqOptions options;
            options.exponent = p;
            const auto ours = quantize_hqq(w, format, options);
            REQUIRE(ours);
            const auto plain = quantize_rtn(w, format);
            const auto a = losses(w, ours->linear.weights, p), b = losses(w, plain->linear.weights, p);
            for (std::size_t g = 0; g < a.size(); ++g) CHECK(a[g] <= b[g] * (1 + 1e-12));
            // Scales stay.
            CHECK(std::ranges::equal(ours->linear.weights.scales.bytes(),
                                     plain->linear.weights.scales.bytes()));
            CHECK(ours->report.method == "hqq");
            CHECK(ours->report.bits_per_weight == plain->report.bits_per_weight);
            if (format.offset == Offset::real && p == 0.7 && format.bits < 8)
                CHECK(total(a) < 0.99 * total(b));
        }
}

TEST_CASE("hqq: any shape, the same bytes for any number of threads", "[quantize][hqq]") {
    const Format format = *parse_format("int3-g32-fzero");
    for (const std::size_t k : {0u, 1u, 33u, 700u}) {
        const Matrix w = long_tailed(70, k, 3);
        const auto one = quantize_hqq(w, format);
        REQUIRE(one);
        ThreadPool pool(3);
        const auto many = quantize_hqq(w, format, {}, pool);
        REQUIRE(many);
        CHECK(std::ranges::equal(one->linear.weights.codes.bytes().bytes(),
                                 many->linear.weights.codes.bytes().bytes()));
        CHECK(std::ranges::equal(one->linear.weights.offsets.bytes(), many->linear.weights.offsets.bytes()));
    }
    Matrix constant(2, 64);
    for (float& value : constant.values()) value = 0.3f;
    const auto done = quantize_hqq(constant, format);
    REQUIRE(done);
    CHECK(done->report.relative_error < 1e-3);
    CHECK(quantize_hqq(Matrix(3, 64), format)->report.sqnr_db == std::numeric_limits<double>::infinity());
}

TEST_CASE("hqq: what is refused", "[quantize][hqq]") {
    const Matrix w = long_tailed(2, 256, 1);
    HqqOptions options;
    options.tensor = "w";
    CHECK(quantize_hqq(w, *parse_format("int4-g64"), options).error().message ==
          "tensor 'w': hqq moves zero points of groups or rows, and int4-g64 has none; formats such as "
          "int4-g64-fzero and "
          "int4-g64-asym have");
    CHECK_FALSE(quantize_hqq(w, *parse_format("q4_1"), options));
    CHECK_FALSE(quantize_hqq(w, *parse_format("nf4-g64"), options));
    for (double HqqOptions::*option : {&HqqOptions::exponent, &HqqOptions::beta, &HqqOptions::kappa}) {
        HqqOptions wrong;
        wrong.*option = NAN;
        CHECK_FALSE(quantize_hqq(w, *parse_format("int4-g64-fzero"), wrong));
    }
    Matrix bad = w;
    bad(1, 2) = NAN;
    CHECK(quantize_hqq(bad, *parse_format("int4-g64-fzero"), options).error().message ==
          "tensor 'w': weight [1, 2] is NaN");
}
