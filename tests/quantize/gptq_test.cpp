// gptq against a direct transcription of the published algorithm, its laws over all kinds of grids, and the numbers that
// break it elsewhere.
#include "fewbit/quantize/gptq.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/quantize/grid.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "src/quantize/inverse_factor.hpp"
#include "src/quantize/subtract_product.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/statistics.hpp"

using namespace fewbit;
using testing::gaussian_matrix;
using testing::products;
using testing::statistics_of;

namespace {

using Square = std::vector<double>;  ///< (k, k)

/// Inputs that are correlated from channel to channel, some channels larger than others.
Matrix correlated_inputs(std::size_t tokens, std::size_t k, std::uint64_t seed) {
    const Matrix noise = gaussian_matrix(tokens, k, seed);
    Matrix x(tokens, k);
    for (std::size_t t = 0; t < tokens; ++t) {
        float last = 0;
        for (std::size_t c = 0; c < k; ++c) {
            last = 0.8f * last + 0.6f * noise(t, c);
            x(t, c) = last * (c % 7 == 3 ? 5.0f : 1.0f);
        }
    }
    return x;
}

Matrix decoded(const Linear& linear) {
    const QuantizedMatrix& q = linear.weights;
    Matrix out(q.n(), q.k());
    std::vector<float> row(q.k());
    for (std::size_t r = 0; r < q.n(); ++r) {
        q.dequantize(r, 0, row);
        for (std::size_t c = 0; c < q.k(); ++c)
            out(r, linear.transform.permutation.empty() ? c : linear.transform.permutation[c]) = row[c];
    }
    return out;
}

/// sum over tokens and rows of (target - W^ x)^2
double lost(const Matrix& w, const Matrix& x_of_w, const Matrix& q, const Matrix& x_of_q) {
    double sum = 0;
    for (std::size_t t = 0; t < x_of_w.rows(); ++t)
        for (std::size_t r = 0; r < w.rows(); ++r) {
            double y = 0;
            for (std::size_t c = 0; c < w.cols(); ++c)
                y += static_cast<double>(w(r, c)) * static_cast<double>(x_of_w(t, c)) -
                     static_cast<double>(q(r, c)) * static_cast<double>(x_of_q(t, c));
            sum += y * y;
        }
    return sum;
}

std::vector<std::byte> bytes_of(const QuantizedMatrix& q) {
    std::vector<std::byte> all;
    for (const Tensor* part :
         {&q.codes.bytes(), &q.scales, &q.zeros.bytes(), &q.offsets, &q.row_scales, &q.blocks})
        all.insert(all.end(), part->bytes().begin(), part->bytes().end());
    return all;
}

// --- the published algorithm, as it is written: invert, factor the inverse, go through the columns -----------------------

Square inverse(Square h, std::size_t k) {
    Square out(k * k);
    for (std::size_t i = 0; i < k; ++i) out[i * k + i] = 1;
    for (std::size_t p = 0; p < k; ++p) {
        const double pivot = h[p * k + p];
        for (std::size_t c = 0; c < k; ++c) h[p * k + c] /= pivot, out[p * k + c] /= pivot;
        for (std::size_t r = 0; r < k; ++r) {
            if (r == p) continue;
            const double factor = h[r * k + p];
            for (std::size_t c = 0; c < k; ++c)
                h[r * k + c] -= factor * h[p * k + c], out[r * k + c] -= factor * out[p * k + c];
        }
    }
    return out;
}

/// U, upper, with A = U^T U.
Square upper_cholesky(const Square& a, std::size_t k) {
    Square u(k * k);
    for (std::size_t i = 0; i < k; ++i)
        for (std::size_t j = i; j < k; ++j) {
            double sum = a[i * k + j];
            for (std::size_t p = 0; p < i; ++p) sum -= u[p * k + i] * u[p * k + j];
            u[i * k + j] = i == j ? std::sqrt(sum) : sum / u[i * k + i];
        }
    return u;
}

Square damped(const TensorStatistics& statistics, double damping) {
    const std::size_t k = statistics.channels();
    const auto sums = statistics.hessian_sum.as<double>();
    Square h(sums.begin(), sums.end());
    double mean = 0;
    for (double& value : h) value /= static_cast<double>(statistics.tokens);
    for (std::size_t i = 0; i < k; ++i) mean += h[i * k + i] / static_cast<double>(k);
    for (std::size_t i = 0; i < k; ++i) h[i * k + i] += damping * mean;
    return h;
}

/// W^ (N, K) of integers or a codebook with min-max grids that are fitted when their group's turn comes, or before.
Matrix transcription(const Matrix& w, const TensorStatistics& statistics, const Format& format,
                     double damping, bool static_groups) {
    const std::size_t n = w.rows(), k = w.cols(), group = format.group_elements(k);
    const Square u = upper_cholesky(inverse(damped(statistics, damping), k), k);
    Matrix out(n, k);
    for (std::size_t r = 0; r < n; ++r) {
        std::vector<double> now(w.row(r).begin(), w.row(r).end());
        std::vector<GroupGrid> grids;
        const auto fit = [&](std::size_t first) {
            const std::size_t last = std::min(k, first + group);
            float low = static_cast<float>(now[first]), high = low;
            for (std::size_t c = first; c < last; ++c)
                low = std::min(low, static_cast<float>(now[c])),
                high = std::max(high, static_cast<float>(now[c]));
            grids.push_back(*fit_grid(format, low, high));
        };
        for (std::size_t c = 0; c < k && static_groups; c += group) fit(c);
        for (std::size_t c = 0; c < k; ++c) {
            if (!static_groups && c % group == 0) fit(c);
            const float weight = static_cast<float>(now[c]);
            std::uint8_t code = 0;
            encode(format, grids[c / group], {&weight, 1}, {&code, 1});
            out(r, c) = decode(format, grids[c / group], code);
            const double error = (now[c] - static_cast<double>(out(r, c))) / u[c * k + c];
            for (std::size_t i = c + 1; i < k; ++i) now[i] -= error * u[c * k + i];
        }
    }
    return out;
}

const char* const some_formats[] = {"int4-g32",         "int3-g48-asym",         "int2-g16-fzero",
                                    "int4-g128-narrow", "int8-channel",          "nf4-g64",
                                    "e2m1-g32-sbf16",   "fp8-e4m3-g32",          "int4-g32-asym-dq",
                                    "int3-tensor",      "int5-channel-asym-sf32"};

}  // namespace

TEST_CASE("C -= A B: the bits of the plain loops, for every shape and vector", "[quantize][gptq]") {
    for (const std::size_t m : {1u, 4u, 5u, 11u})
        for (const std::size_t n : {1u, 2u, 12u, 13u, 40u})
            for (const std::size_t k : {0u, 1u, 16u, 255u, 513u}) {
                const std::size_t gap = 3;
                Square a(m * (k + gap)), b((k + 1) * (n + gap)), c(m * (n + gap));
                testing::Random random(m * 100 + n * 10 + k);
                for (Square* matrix : {&a, &b, &c})
                    for (double& value : *matrix) value = random.uniform(-1, 1);
                Square expected = c, narrow = c;
                for (std::size_t i = 0; i < m; ++i)
                    for (std::size_t j = 0; j < n; ++j)
                        for (std::size_t p = 0; p < k; ++p) {
                            const double product = a[i * (k + gap) + p] * b[p * (n + gap) + j];
                            expected[i * (n + gap) + j] -= product;
                        }
                detail::ProductOperands operands{c.data(), n + gap, a.data(), k + gap, b.data(),
                                                 n + gap,  m,       n,        k};
                detail::subtract_product(operands);
                operands.c = narrow.data();
                detail::ProductLanes<16>::run(operands);
                INFO(m << " x " << n << " x " << k);
                CHECK(c == expected);  // the gaps too
                CHECK(narrow == expected);
            }
}

TEST_CASE("the factor of the inverse: U is upper and U^T U H is the identity", "[quantize][gptq]") {
    ThreadPool pool(3);
    for (const std::size_t k : {1u, 2u, 63u, 64u, 65u, 130u, 200u}) {
        const TensorStatistics statistics = statistics_of(correlated_inputs(2 * k + 5, k, k));
        const Square h = damped(statistics, 0.01);
        Square u = h, again = h;
        REQUIRE(detail::invert_to_factor(u, k, {}));
        REQUIRE(detail::invert_to_factor(again, k, pool));
        CHECK(u == again);
        double worst = 0, below = 0;
        for (std::size_t i = 0; i < k; ++i)
            for (std::size_t j = 0; j < k; ++j) {
                below += j < i ? std::abs(u[i * k + j]) : 0;
                // (U H U^T)_ij
                double sum = 0;
                for (std::size_t p = i; p < k; ++p) {
                    double row = 0;
                    for (std::size_t q = j; q < k; ++q) row += h[p * k + q] * u[j * k + q];
                    sum += u[i * k + p] * row;
                }
                worst = std::max(worst, std::abs(sum - (i == j)));
            }
        INFO("k = " << k);
        CHECK(below == 0);
        CHECK(worst <= 1e-12 * static_cast<double>(k));  // roundings of 2^-53, times a condition below 1e4
    }
    Square indefinite{1, 2, 2, 1}, infinite{1, 0, 0, INFINITY}, zero{0};
    CHECK_FALSE(detail::invert_to_factor(indefinite, 2, {}));
    CHECK_FALSE(detail::invert_to_factor(infinite, 2, {}));
    CHECK_FALSE(detail::invert_to_factor(zero, 1, {}));
}

TEST_CASE("gptq: a direct transcription of the algorithm gives the same weights", "[quantize][gptq]") {
    for (const char* text : some_formats) {
        const Format format = *parse_format(text);
        if (format.double_quantized() || format.granularity == Granularity::tensor)
            continue;  // more than a group's grid
        for (const std::size_t k : {1u, 50u, 160u}) {
            const Matrix w = gaussian_matrix(9, k, 7), x = correlated_inputs(300, k, 8);
            const TensorStatistics statistics = statistics_of(x);
            for (const bool static_groups : {false, true}) {
                INFO(text << ", K = " << k << ", static " << static_groups);
                GptqOptions options;
                options.order = ColumnOrder::natural;
                options.static_groups = static_groups;
                options.grid.max_shrink = 0;
                const auto done = quantize_gptq(w, statistics, format, options);
                REQUIRE(done);
                const Matrix ours = decoded(done->linear);
                const Matrix theirs =
                    transcription(w, statistics, format, options.damping,
                                  static_groups || format.granularity != Granularity::group);
                if (std::ranges::equal(ours.values(), theirs.values())) continue;
                CHECK(lost(w, x, ours, x) == Approx(lost(w, x, theirs, x)).epsilon(1e-6));
            }
        }
    }
}

TEST_CASE("gptq: without correlations it rounds to the same grids as mse", "[quantize][gptq]") {
    const std::size_t k = 256;
    const Matrix w = gaussian_matrix(5, k, 1);
    TensorStatistics statistics;
    REQUIRE(statistics.add(gaussian_matrix(3, k, 2)));
    statistics.hessian_sum = *Tensor::allocate(Scalar::f64, {k, k});
    for (std::size_t i = 0; i < k * k; ++i)
        statistics.hessian_sum.as_mutable<double>()[i] =
            i % (k + 1) == 0 ? 1.0 + static_cast<double>(i % 5) : 0.0;
    for (const char* text : some_formats)
        for (const ColumnOrder order :
             {ColumnOrder::natural, ColumnOrder::group_aware, ColumnOrder::activation})
            for (const bool static_groups : {false, true}) {
                INFO(text);
                const Format format = *parse_format(text);
                GptqOptions options;
                options.order = order;
                options.static_groups = static_groups;
                const auto ours = quantize_gptq(w, statistics, format, options);
                REQUIRE(ours);
                CHECK(bytes_of(ours->linear.weights) == bytes_of(quantize_mse(w, format)->linear.weights));
            }
}

TEST_CASE("gptq: every grid and order loses less of the output than rounding to it", "[quantize][gptq]") {
    // Under sanitizers and emulators, whose minutes are few: fewer rows, and for each format one order in turn.
    const bool reduced = fewbit_test::sampled();
    const std::size_t k = 512;
    const Matrix w = gaussian_matrix(reduced ? 4 : 16, k, 3), x = correlated_inputs(700, k, 4),
                 fresh = correlated_inputs(reduced ? 30 : 100, k, 5);
    const TensorStatistics statistics = statistics_of(x);
    std::vector<std::string> formats(std::begin(some_formats), std::end(some_formats));
    for (const char* block : {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k",
                              "iq4_nl", "iq4_xs", "mxfp4", "nvfp4", "tq1_0", "tq2_0", "q2_0"})
        formats.emplace_back(block);
    std::size_t turn = 0;
    for (const std::string& text : formats) {
        ++turn;
        const Format format = *parse_format(text);
        const double plain = lost(w, fresh, decoded(quantize_mse(w, format)->linear), fresh);
        for (const ColumnOrder order : {ColumnOrder::natural, ColumnOrder::group_aware,
                                        ColumnOrder::activation, ColumnOrder::permuted}) {
            if (reduced && turn % 4 != static_cast<std::size_t>(order)) continue;
            INFO(text << ", order " << static_cast<int>(order));
            GptqOptions options;
            options.order = order;
            const auto done = quantize_gptq(w, statistics, format, options);
            REQUIRE(done);
            const Linear& linear = done->linear;
            CHECK(linear.transform.permutation.empty() ==
                  (order != ColumnOrder::permuted ||
                   (!format.is_block() && format.granularity != Granularity::group)));
            CHECK(done->report.bits_per_weight == linear.bits_per_weight());
            // On tokens that calibration has not seen; a half and less in most formats.
            CHECK(lost(w, fresh, decoded(linear), fresh) < 0.8 * plain);
        }
    }
}

TEST_CASE("gptq: the same bytes for any number of threads", "[quantize][gptq]") {
    const std::size_t k = 300;
    const Matrix w = gaussian_matrix(101, k, 3), x = correlated_inputs(400, k, 4),
                 other = correlated_inputs(400, k, 6);
    TensorStatistics statistics = statistics_of(x);
    statistics.asymmetry_sum = products(other, x);
    for (const char* text : {"int4-g32", "int3-g64-asym", "int4-channel"}) {
        const auto one = quantize_gptq(w, statistics, *parse_format(text));
        REQUIRE(one);
        for (const std::size_t threads : {2u, 7u}) {
            ThreadPool pool(threads);
            const auto many = quantize_gptq(w, statistics, *parse_format(text), {}, pool);
            REQUIRE(many);
            CHECK(bytes_of(one->linear.weights) == bytes_of(many->linear.weights));
        }
    }
}

TEST_CASE("gptq: what the inputs have lost is compensated", "[quantize][gptq]") {
    const std::size_t k = 96, tokens = 500;
    const Matrix w = gaussian_matrix(12, k, 3), exact = correlated_inputs(tokens, k, 4);
    Matrix x = exact, difference(tokens, k);  // the quantized model's inputs: a tenth too small, and mixed
    for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t c = 0; c < k; ++c) x(t, c) = 0.9f * exact(t, c) + 0.1f * exact(t, (c + 1) % k);
    for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t c = 0; c < k; ++c) difference(t, c) = exact(t, c) - x(t, c);
    TensorStatistics statistics = statistics_of(x);
    statistics.asymmetry_sum = products(difference, x);
    std::vector<double> losses;
    double rounding = 0;  // what quantizing W alone costs on these inputs
    for (const double share : {0.0, 0.5, 1.0}) {
        GptqOptions options;
        options.asymmetry = share;
        options.damping = 1e-6;
        const auto done = quantize_gptq(w, statistics, *parse_format("int8-channel"), options);
        REQUIRE(done);
        losses.push_back(lost(w, exact, decoded(done->linear), x));
        if (share == 0) rounding = lost(w, x, decoded(done->linear), x);
    }
    // W x_exact is a linear function of x: for 1 only rounding remains, for 1/2 a quarter of the loss.
    CHECK(losses[2] < 2 * rounding);
    CHECK(rounding < 0.02 * losses[0]);
    CHECK(losses[1] == Approx(0.25 * losses[0]).epsilon(0.05));
}

TEST_CASE("gptq: fragile numbers are reported, not passed on", "[quantize][gptq]") {
    const std::size_t k = 64;
    const Matrix w = gaussian_matrix(6, k, 3);
    const Format format = *parse_format("int4-g32");
    const auto finite = [](const Quantized& q) {
        const Matrix values = decoded(q.linear);
        return std::ranges::all_of(values.values(), [](float value) { return std::isfinite(value); });
    };
    SECTION("dead channels are rounded to nearest") {
        Matrix x = correlated_inputs(100, k, 1);
        for (std::size_t t = 0; t < x.rows(); ++t) x(t, 5) = x(t, 40) = 0;
        const auto done = quantize_gptq(w, statistics_of(x), format);
        REQUIRE(done);
        CHECK(done->report.dead_channels == 2);
        GptqOptions options;
        options.static_groups = true;
        const auto fixed = quantize_gptq(w, statistics_of(x), format, options);
        const auto plain = quantize_mse(w, format);
        for (std::size_t r = 0; r < w.rows(); ++r)
            for (const std::size_t c : {5u, 40u})
                CHECK(decoded(fixed->linear)(r, c) == decoded(plain->linear)(r, c));
    }
    SECTION("nothing but zeros: the tensor is rounded by mse, and the report says so") {
        const auto done = quantize_gptq(w, statistics_of(Matrix(10, k)), format);
        REQUIRE(done);
        CHECK(bytes_of(done->linear.weights) == bytes_of(quantize_mse(w, format)->linear.weights));
        REQUIRE(done->report.notes.size() == 1);
        CHECK(done->report.notes[0] ==
              "no damping gave the Hessian a factor (all inputs were zero): rounded by mse");
    }
    SECTION("one token: a Hessian of rank 1") {
        GptqOptions options;
        options.tensor = "w";
        const auto done = quantize_gptq(w, statistics_of(correlated_inputs(1, k, 1)), format, options);
        REQUIRE(done);
        CHECK(finite(*done));
        CHECK(done->report.damping == 0.01);
        REQUIRE(done->report.notes.size() == 1);
        CHECK(done->report.notes[0] ==
              "tensor 'w': 1 tokens for 64 channels: the Hessian has a rank of at most 1");
    }
    SECTION("a Hessian that is none: more damping, then the diagonal, then rounding to nearest") {
        TensorStatistics statistics = statistics_of(correlated_inputs(200, k, 1));
        const auto h = statistics.hessian_sum.as_mutable<double>();
        const double mean = [&] {
            double sum = 0;
            for (std::size_t i = 0; i < k; ++i) sum += h[i * (k + 1)];
            return sum / static_cast<double>(k);
        }();
        // Two channels with a 2 x 2 block of eigenvalues a +- b.
        const auto with_block = [&](double a, double b) {
            for (std::size_t i = 0; i < k; ++i)
                for (const std::size_t c : {2u, 9u}) h[i * k + c] = h[c * k + i] = 0;
            h[2 * k + 2] = h[9 * k + 9] = a * mean;
            h[2 * k + 9] = h[9 * k + 2] = b * mean;
        };
        with_block(1, 1.035);
        auto done = quantize_gptq(w, statistics, format);
        REQUIRE(done);
        CHECK(finite(*done));
        CHECK(done->report.damping == Approx(0.04).epsilon(1e-9));
        CHECK(done->report.notes.size() == 1);
        with_block(1, 1.3);
        done = quantize_gptq(w, statistics, format);
        REQUIRE(done);
        CHECK(finite(*done));
        CHECK(done->report.damping > 0.3);
        with_block(1, 1e6);
        done = quantize_gptq(w, statistics, format);
        REQUIRE(done);
        CHECK(bytes_of(done->linear.weights) == bytes_of(quantize_mse(w, format)->linear.weights));
        CHECK(done->report.notes.back() == "no damping gave the Hessian a factor: rounded by mse");
    }
    SECTION("constant and zero groups, empty matrices, float formats") {
        const TensorStatistics statistics = statistics_of(correlated_inputs(200, k, 1));
        Matrix odd(3, k);
        for (std::size_t c = 0; c < k; ++c) odd(1, c) = 0.25f, odd(2, c) = c < 32 ? 0.0f : -3.0f;
        for (const char* text : {"int4-g32", "int4-g32-asym", "int2-g32-fzero", "nf4-g32", "q4_0", "q4_1"}) {
            INFO(text);
            const auto done = quantize_gptq(odd, statistics, *parse_format(text));
            REQUIRE(done);
            CHECK(finite(*done));
            CHECK(std::ranges::all_of(decoded(done->linear).row(0), [](float value) { return value == 0; }));
        }
        CHECK(quantize_gptq(Matrix(0, k), statistics, format));
        TensorStatistics none = statistics_of(Matrix(0, 0));
        none.tokens = 1;
        none.hessian_sum = *Tensor::allocate(Scalar::f64, {0, 0});
        CHECK(quantize_gptq(Matrix(3, 0), none, format));
        const auto half = quantize_gptq(w, statistics, *parse_format("f16"));
        REQUIRE(half);
        CHECK(bytes_of(half->linear.weights) ==
              bytes_of(quantize_rtn(w, *parse_format("f16"))->linear.weights));
    }
    SECTION("what cannot be") {
        TensorStatistics statistics = statistics_of(correlated_inputs(200, k, 1));
        GptqOptions options;
        options.tensor = "w";
        CHECK(quantize_gptq(w, {}, format, options).error().message ==
              "tensor 'w': gptq needs a Hessian of 64 x 64 from calibration; the statistics have none");
        CHECK(quantize_gptq(gaussian_matrix(2, 32, 1), statistics, format, options).error().message ==
              "tensor 'w': gptq needs a Hessian of 32 x 32 from calibration; the statistics have one of (64, "
              "64) and "
              "200 tokens");
        statistics.hessian_sum.as_mutable<double>()[3 * k + 2] = NAN;
        CHECK(quantize_gptq(w, statistics, format, options).error().message ==
              "tensor 'w': the Hessian is NaN at [3, 2]");
        statistics = statistics_of(correlated_inputs(200, k, 1));
        options.damping = -1;
        CHECK_FALSE(quantize_gptq(w, statistics, format, options));
        options.damping = 0.01;
        options.asymmetry = NAN;
        CHECK_FALSE(quantize_gptq(w, statistics, format, options));
        Matrix bad = w;
        bad(4, 7) = INFINITY;
        options = {};
        options.tensor = "w";
        CHECK(quantize_gptq(bad, statistics, format, options).error().message ==
              "tensor 'w': weight [4, 7] is infinity");
    }
}
