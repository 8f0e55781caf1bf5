// Zero points, static ranges and tensor grids through whole layers: PackedLinear against reference::matmul.
// (tests/contract covers kernels, formats and shapes.)
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/matmul/linear.hpp"
#include "fewbit/matmul/reference.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

ActivationFormat format_of(const char* name) { return *parse_activation_format(name); }

Linear layer(std::size_t n, std::size_t k, const char* weights, std::uint64_t seed) {
    auto quantized = quantize_rtn(testing::gaussian_matrix(n, k, seed), *parse_format(weights));
    REQUIRE(quantized);
    return quantized->linear;
}

Matrix shifted(std::size_t m, std::size_t k, float shift, std::uint64_t seed) {
    Matrix x = testing::gaussian_matrix(m, k, seed);
    for (float& value : x.values()) value += shift;
    return x;
}

/// Root mean square of y - x W^T over that of x W^T.
double relative_error(const Matrix& x, const QuantizedMatrix& w, const Matrix& y) {
    const std::vector<double> truth = reference::matmul(x.view(), w, exact_activations());
    double error = 0, energy = 0;
    for (std::size_t i = 0; i < truth.size(); ++i) {
        error += std::pow(static_cast<double>(y.values()[i]) - truth[i], 2);
        energy += std::pow(truth[i], 2);
    }
    return std::sqrt(error / energy);
}

}  // namespace

TEST_CASE("a layer with zero points or a static range is the reference, for any number of threads") {
    ThreadPool pool(3);
    const StaticRange range{-1.5f, 3};
    for (const char* weights :
         {"int4-g32", "int8-channel", "int4-g32-asym", "int8-g64-fzero", "int3-channel", "int8-tensor-asym"})
        for (const char* word : {"int8-row-asym", "int4-row-asym", "int8-tensor-asym", "int8-tensor",
                                 "int8-tensor-static", "int5-tensor-asym-static"}) {
            const ActivationFormat format = format_of(word);
            Linear linear = layer(37, 200, weights, 3);
            for (std::size_t n = 0; n < 37; ++n) linear.bias.push_back(0.01f * static_cast<float>(n));
            std::optional<StaticRange> given;
            if (format.is_static) given = range;
            const auto packed = PackedLinear::create(linear, format, Fallback::allow, {}, given);
            INFO(weights << " " << word);
            REQUIRE(packed);
            const Matrix x = shifted(7, 200, 1.0f, 5);
            Matrix y(7, 37), again(7, 37);
            REQUIRE(packed->apply(x.view(), y));
            REQUIRE(packed->apply(x.view(), again, pool));
            CHECK(std::memcmp(y.values().data(), again.values().data(), y.values().size_bytes()) == 0);
            std::vector<double> magnitudes;
            const std::vector<double> truth =
                reference::matmul(x.view(), linear.weights, format, linear.bias, &magnitudes, given);
            // tests/contract/contract_test.cpp derives it: two terms per piece, and 8 more.
            const double terms = 2 * static_cast<double>(linear.weights.format().groups_per_row(200) + 1) + 8;
            for (std::size_t i = 0; i < truth.size(); ++i)
                CHECK(std::fabs(static_cast<double>(y.values()[i]) - truth[i]) <=
                      1.01 * terms * 0x1p-24 * magnitudes[i]);
        }
}

TEST_CASE("row sums are those of the dequantized weights") {
    for (const char* word : {"int4-g32", "int4-g20-asym", "int8-channel-asym", "int5-g64-fzero",
                             "int2-tensor", "int8-tensor-asym", "int3-g40-sbf16", "int8-tensor-fzero"})
        for (const std::size_t k : {0, 1, 100, 777}) {
            const QuantizedMatrix w = layer(5, k, word, 1).weights;
            for (const Layout layout : {Layout::rows, Layout::tile16}) {
                const auto packed = pack(w, layout, {}, format_of("int8-row-asym"));
                if (!packed) continue;  // a layout that does not hold the format
                INFO(word << " K " << k);
                REQUIRE(packed->row_sums().size() == 5);
                for (std::size_t n = 0; n < 5; ++n) {
                    double sum = 0, size = 0;
                    const auto [values, magnitudes] = reference::weight_row(w, n);
                    for (std::size_t i = 0; i < k; ++i) {
                        sum += values[i];
                        size += magnitudes[i];
                    }
                    CHECK(std::fabs(packed->row_sums()[n] - sum) <= static_cast<double>(k) * 0x1p-52 * size);
                }
                CHECK(pack(w, layout)->row_sums().empty());
                CHECK(pack(w, layout, {}, int8_row_activations())->row_sums().empty());
            }
        }
}

TEST_CASE("weights without row sums are refused where zero points need them") {
    const QuantizedMatrix w = layer(8, 64, "int4-g32", 1).weights;
    const auto kernel = *select_kernel({w.format(), format_of("int8-row-asym"), 1, 8, 64, Fallback::allow});
    const auto packed = *pack(w, kernel.layout());
    Matrix x(1, 64), y(1, 8);
    const auto ran = matmul(kernel, x.view(), packed, y.view());
    REQUIRE(!ran);
    CHECK(ran.error().message.find("packed without row sums") != std::string::npos);
    const auto good = *pack(w, kernel.layout(), {}, kernel.activations());
    const auto report = matmul(kernel, x.view(), good, y.view());
    REQUIRE(report);
    CHECK(report->activations == format_of("int8-row-asym"));
    CHECK(report->weight_bytes == good.size_bytes() + 8 * sizeof(double));
}

TEST_CASE("static layers need a range, and share inputs only with layers of the same one") {
    const Linear linear = layer(8, 64, "int8-channel", 1);
    const ActivationFormat format = format_of("int8-tensor-static");
    const auto missing = PackedLinear::create(linear, format, Fallback::allow);
    REQUIRE(!missing);
    CHECK(missing.error().message.find("8 x 64 with int8-tensor-static") != std::string::npos);
    CHECK(!PackedLinear::create(linear, format, Fallback::allow, {}, StaticRange{2, 1}));
    const auto a = PackedLinear::create(linear, format, Fallback::allow, {}, StaticRange{-1, 1}),
               b = PackedLinear::create(linear, format, Fallback::allow, {}, StaticRange{-1, 1}),
               c = PackedLinear::create(linear, format, Fallback::allow, {}, StaticRange{-1, 2});
    REQUIRE((a && b && c));
    CHECK(a->reads_like(*b));
    CHECK(!a->reads_like(*c));
    // Float weights read x as it is, and other formats find their ranges: nobody asks for one.
    Linear floats;
    floats.weights = *float_matrix(testing::gaussian_matrix(8, 64, 2).view());
    CHECK(PackedLinear::create(floats, format, Fallback::allow));
    const auto dynamic =
        PackedLinear::create(linear, int8_row_activations(), Fallback::allow, {}, StaticRange{-1, 1});
    REQUIRE(dynamic);
    Matrix x(1, 64), y(1, 8);
    CHECK(dynamic->apply(x.view(), y));
}

TEST_CASE("zero points pay where inputs are shifted") {
    const Linear linear = layer(64, 256, "int8-channel", 3);
    for (const char* bits : {"int8", "int4"}) {
        std::vector<double> errors;
        const Matrix x = shifted(16, 256, 3.0f, 9);  // [0, 6] or so
        for (const char* rest : {"-row", "-row-asym", "-tensor", "-tensor-asym"}) {
            const auto packed =
                PackedLinear::create(linear, format_of(text(bits, rest).c_str()), Fallback::allow);
            REQUIRE(packed);
            Matrix y(16, 64);
            REQUIRE(packed->apply(x.view(), y));
            errors.push_back(relative_error(x, linear.weights, y));
        }
        INFO(bits << ": row " << errors[0] << ", asym " << errors[1] << ", tensor " << errors[2] << ", asym "
                  << errors[3]);
        // Twice the codes for the same values: half the step. (0.7: sampling.)
        CHECK(errors[1] < 0.7 * errors[0]);
        CHECK(errors[3] < 0.7 * errors[2]);
    }
}
