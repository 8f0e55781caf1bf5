// Scales of channels: awq and SmoothQuant against their formulas, ties, and what they are for.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/quantize/awq.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "fewbit/quantize/smoothquant.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/statistics.hpp"

using namespace fewbit;
using testing::gaussian_matrix;
using testing::statistics_of;

namespace {

/// Inputs with a few channels that are far larger than the others.
Matrix inputs_with_outliers(std::size_t tokens, std::size_t k, std::uint64_t seed) {
    Matrix x = gaussian_matrix(tokens, k, seed);
    for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t c = 3; c < k; c += 17) x(t, c) *= 30;
    return x;
}

/// sum over tokens of (W x - y)^2 over that of (W x)^2, y as the Linear computes it
double output_error(const Matrix& w, const Linear& linear, const Matrix& x) {
    const Matrix read = codes_read(linear, x.view());
    std::vector<float> row(w.cols());
    double lost = 0, all = 0;
    for (std::size_t r = 0; r < w.rows(); ++r) {
        linear.weights.dequantize(r, 0, row);
        for (std::size_t t = 0; t < x.rows(); ++t) {
            double exact = 0, y = 0;
            for (std::size_t c = 0; c < w.cols(); ++c) {
                exact += static_cast<double>(w(r, c)) * static_cast<double>(x(t, c));
                y += static_cast<double>(row[c]) * static_cast<double>(read(t, c));
            }
            lost += (exact - y) * (exact - y);
            all += exact * exact;
        }
    }
    return lost / all;
}

}  // namespace

TEST_CASE("smoothquant: the formula, channel by channel", "[quantize][scales]") {
    const std::size_t k = 40;
    Matrix x = inputs_with_outliers(50, k, 1);
    for (std::size_t t = 0; t < x.rows(); ++t) x(t, 7) = 0;
    Matrix a = gaussian_matrix(6, k, 2), b = gaussian_matrix(9, k, 3);
    for (Matrix* w : {&a, &b})
        for (std::size_t r = 0; r < w->rows(); ++r) (*w)(r, 9) = 0;
    const MatrixView<const float> readers[] = {std::as_const(a).view(), std::as_const(b).view()};
    TensorStatistics statistics;
    REQUIRE(statistics.add(x));
    const auto largest = [](const Matrix& m, std::size_t c) {
        double most = 0;
        for (std::size_t r = 0; r < m.rows(); ++r)
            most = std::max(most, std::abs(static_cast<double>(m(r, c))));
        return most;
    };
    for (const double alpha : {0.0, 0.5, 0.85, 1.0}) {
        const auto scales = smoothquant_scales(readers, statistics, {{}, alpha});
        REQUIRE(scales);
        for (std::size_t c = 0; c < k; ++c) {
            const double w = std::max(largest(a, c), largest(b, c));
            const double expected =
                c == 7 || c == 9 ? 1.0 : std::pow(largest(x, c), alpha) / std::pow(w, 1 - alpha);
            CHECK(scales->scales[c] == Approx(expected).epsilon(1e-6));
        }
    }
    // Tied channels count as one: their largest x, their largest w.
    std::vector<std::uint32_t> tied(k);
    for (std::size_t c = 0; c < k; ++c) tied[c] = static_cast<std::uint32_t>(c % 20);
    const auto scales = smoothquant_scales(readers, statistics, {}, tied);
    REQUIRE(scales);
    for (std::size_t c = 0; c < 20; ++c) {
        CHECK(scales->scales[c] == scales->scales[c + 20]);
        const double most_x = std::max(largest(x, c), largest(x, c + 20)),
                     most_w =
                         std::max({largest(a, c), largest(b, c), largest(a, c + 20), largest(b, c + 20)});
        CHECK(scales->scales[c] == Approx(std::sqrt(most_x / most_w)).epsilon(1e-6));
    }
    CHECK_FALSE(smoothquant_scales({}, statistics));
    CHECK_FALSE(smoothquant_scales(readers, {}));
    CHECK_FALSE(smoothquant_scales(readers, statistics, {{}, 1.5}));
    CHECK_FALSE(smoothquant_scales(readers, statistics, {{}, std::numeric_limits<double>::quiet_NaN()}));
    CHECK(smoothquant_scales(readers, statistics, {"w", 2.0}).error().message ==
          "tensor 'w': smoothquant's alpha is 2, not 0 to 1");
}

TEST_CASE("statistics of x / s are those of x, divided", "[quantize][scales]") {
    const std::size_t k = 12;
    const Matrix x = inputs_with_outliers(30, k, 1);
    std::vector<float> scales(k);
    Matrix divided(30, k);
    for (std::size_t c = 0; c < k; ++c) {
        scales[c] = 0.25f * static_cast<float>(c + 1);
        for (std::size_t t = 0; t < 30; ++t) divided(t, c) = x(t, c) / scales[c];
    }
    const auto ours = scaled_statistics(statistics_of(x), scales);
    REQUIRE(ours);
    const TensorStatistics expected = statistics_of(divided);
    CHECK(ours->tokens == expected.tokens);
    for (std::size_t c = 0; c < k; ++c) {
        CHECK(ours->sum_abs[c] == Approx(expected.sum_abs[c]).epsilon(1e-5));
        CHECK(ours->sum_square[c] == Approx(expected.sum_square[c]).epsilon(1e-5));
        CHECK(ours->channel_ranges[c].max == Approx(expected.channel_ranges[c].max).epsilon(1e-5));
    }
    for (std::size_t i = 0; i < k * k; ++i)
        CHECK(ours->hessian_sum.as<double>()[i] ==
              Approx(expected.hessian_sum.as<double>()[i]).epsilon(1e-5).margin(1e-4));
}

TEST_CASE("awq: loses less of the output than rtn and mse, on tokens it has not seen", "[quantize][scales]") {
    const std::size_t k = 256;
    const Matrix w = gaussian_matrix(24, k, 3), x = inputs_with_outliers(400, k, 4),
                 fresh = inputs_with_outliers(200, k, 5);
    const TensorStatistics statistics = statistics_of(x);
    int used = 0;
    for (const char* text : {"int3-g64", "int4-g128-asym", "int4-channel", "nf4-g64", "q4_0", "q3_k"}) {
        INFO(text);
        const Format format = *parse_format(text);
        const auto ours = quantize_awq(w, statistics, format);
        REQUIRE(ours);
        CHECK(ours->report.method == "awq");
        const bool scaled = !ours->linear.transform.channel_scales.empty();
        used += scaled;
        CHECK(ours->report.bits_per_weight == ours->linear.bits_per_weight());
        const double awq = output_error(w, ours->linear, fresh);
        CHECK(awq < 0.5 * output_error(w, quantize_rtn(w, format)->linear, fresh));
        CHECK(awq < 0.5 * output_error(w, quantize_mse(w, format)->linear, fresh));
        // Clipping by importance alone is among the candidates.
        const double clipped = output_error(w, quantize_awq_clip(w, statistics, format)->linear, fresh);
        if (scaled)
            CHECK(awq < clipped);
        else
            CHECK(awq == clipped);
    }
    CHECK(used >= 4);
}

TEST_CASE("awq: the same scales for any number of threads, tied ones alike; what it says it lost",
          "[quantize][scales]") {
    const std::size_t k = 96;
    const Matrix w = gaussian_matrix(40, k, 3), v = gaussian_matrix(70, k, 6),
                 x = inputs_with_outliers(300, k, 4);
    const TensorStatistics statistics = statistics_of(x);
    const MatrixView<const float> readers[] = {w.view(), v.view()};
    std::vector<std::uint32_t> tied(k);
    for (std::size_t c = 0; c < k; ++c) tied[c] = static_cast<std::uint32_t>(c / 32 * 16 + c % 16);
    AwqOptions options;
    options.steps = 6;
    options.rows = 0;
    const Format format = *parse_format("int3-g32");
    const auto one = awq_scales(readers, statistics, format, options, tied);
    REQUIRE(one);
    CHECK(one->loss_after < one->loss_before);
    CHECK(one->how != "none");
    for (std::size_t c = 0; c < k; ++c) CHECK(one->scales[c] == one->scales[c / 32 * 32 + c % 16]);
    for (const std::size_t threads : {2u, 7u}) {
        ThreadPool pool(threads);
        const auto many = awq_scales(readers, statistics, format, options, tied, pool);
        REQUIRE(many);
        CHECK(many->scales == one->scales);
        CHECK(many->loss_after == one->loss_after);
    }
    // With all rows of one reader and no scales, the loss is that of clipping by importance.
    options.steps = 1;
    options.grid.steps = 20;
    const MatrixView<const float> single[] = {w.view()};
    const auto loss = awq_scales(single, statistics, format, options);
    REQUIRE(loss);
    CHECK(
        loss->loss_before ==
        Approx(output_error(w, quantize_awq_clip(w, statistics, format, options)->linear, x)).epsilon(1e-3));
}

TEST_CASE("awq: what is refused, and inputs that say nothing", "[quantize][scales]") {
    const Matrix w = gaussian_matrix(4, 32, 1);
    const Format format = *parse_format("int4-g16");
    AwqOptions options;
    options.tensor = "w";
    CHECK(quantize_awq(w, {}, format, options).error().message ==
          "tensor 'w': awq needs statistics of 32 channels with a Hessian; these have 0 channels, 0 tokens "
          "and no "
          "Hessian");
    const auto silent = quantize_awq(w, statistics_of(Matrix(5, 32)), format);
    REQUIRE(silent);
    CHECK(silent->linear.transform.empty());
    TensorStatistics broken = statistics_of(inputs_with_outliers(20, 32, 1));
    broken.hessian_sum.as_mutable<double>()[5] = NAN;
    CHECK(quantize_awq(w, broken, format, options).error().message ==
          "tensor 'w': the Hessian is not finite");
    options.steps = 0;
    CHECK_FALSE(quantize_awq(w, statistics_of(inputs_with_outliers(20, 32, 1)), format, options));
    Matrix dead = inputs_with_outliers(50, 32, 2);
    for (std::size_t t = 0; t < 50; ++t) dead(t, 4) = 0;
    const auto some = quantize_awq(w, statistics_of(dead), format);
    REQUIRE(some);
    for (const float s : some->linear.transform.channel_scales) CHECK((s > 0 && std::isfinite(s)));
}

TEST_CASE("mse weighs errors by importance, in integers and codebooks too", "[quantize][scales]") {
    const std::size_t k = 128;
    const Matrix w = gaussian_matrix(16, k, 9);
    std::vector<float> importance(k);
    for (std::size_t c = 0; c < k; ++c) importance[c] = c % 8 == 0 ? 50.0f : 1.0f;
    const auto weighed = [&](const QuantizedMatrix& q) {
        std::vector<float> row(k);
        double sum = 0;
        for (std::size_t r = 0; r < w.rows(); ++r) {
            q.dequantize(r, 0, row);
            for (std::size_t c = 0; c < k; ++c) {
                const double e = static_cast<double>(w(r, c)) - static_cast<double>(row[c]);
                sum += static_cast<double>(importance[c]) * e * e;
            }
        }
        return sum;
    };
    for (const char* text :
         {"int3-g32", "int4-g64-asym", "int2-channel", "int4-tensor", "nf4-g32", "int3-g32-fzero"}) {
        INFO(text);
        const Format format = *parse_format(text);
        MseOptions options;
        options.importance = importance;
        const auto ours = quantize_mse(w, format, options);
        REQUIRE(ours);
        CHECK(weighed(ours->linear.weights) < weighed(quantize_mse(w, format)->linear.weights));
        // Equal importance is none.
        const std::vector<float> equal(k, 2.0f);
        options.importance = equal;
        CHECK(std::ranges::equal(quantize_mse(w, format, options)->linear.weights.codes.bytes().bytes(),
                                 quantize_mse(w, format)->linear.weights.codes.bytes().bytes()));
    }
    MseOptions wrong;
    wrong.importance = std::span(importance).first(7);
    CHECK(quantize_mse(w, *parse_format("int4-g32"), wrong).error().message ==
          "the importance has 7 values for 128 input channels");
}
