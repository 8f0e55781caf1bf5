// Methods that keep input channels in floating point: llm-int8 and owq. Independent truth: least squares on the channels that are
// kept, and gptq itself.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/statistics.hpp"

using namespace fewbit;
using testing::gaussian_matrix;
using testing::statistics_of;

namespace {

/// Correlated inputs; channels 5 and 17 are large, 17 only below zero.
Matrix drifting_inputs(std::size_t tokens, std::size_t k, std::uint64_t seed) {
    const Matrix noise = gaussian_matrix(tokens, k, seed);
    Matrix x(tokens, k);
    for (std::size_t t = 0; t < tokens; ++t) {
        float last = 0;
        for (std::size_t c = 0; c < k; ++c) {
            last = 0.7f * last + 0.7f * noise(t, c);
            x(t, c) = c == 5 ? 30 * last : c == 17 ? -12 * std::abs(last) : last;
        }
    }
    return x;
}

/// sum over tokens of (row of w - row of q) x, squared
double lost(const Matrix& w, const Matrix& q, std::size_t r, const Matrix& x) {
    double sum = 0;
    for (std::size_t t = 0; t < x.rows(); ++t) {
        double y = 0;
        for (std::size_t c = 0; c < w.cols(); ++c)
            y += (static_cast<double>(w(r, c)) - static_cast<double>(q(r, c))) * static_cast<double>(x(t, c));
        sum += y * y;
    }
    return sum;
}
double lost(const Matrix& w, const Matrix& q, const Matrix& x) {
    double sum = 0;
    for (std::size_t r = 0; r < w.rows(); ++r) sum += lost(w, q, r, x);
    return sum;
}

Format format_of(const char* name) { return *parse_format(name); }

void check_zeros(const Linear& linear) {
    Linear codes = linear;
    codes.columns = {};
    const Matrix values = dequantized(codes);
    for (const std::uint32_t channel : linear.columns.channels)
        for (std::size_t r = 0; r < values.rows(); ++r) CHECK(values(r, channel) == 0);
}

}  // namespace

TEST_CASE("llm-int8: channels that reach the threshold are kept, the others are rtn", "[quantize][columns]") {
    const std::size_t n = 21, k = 40;
    const Matrix w = gaussian_matrix(n, k, 3), x = drifting_inputs(100, k, 4);
    const TensorStatistics statistics = statistics_of(x);
    for (const char* name : {"int8-channel", "int4-g16-asym", "int8-tensor", "nf4-g16", "e2m1-g8"}) {
        INFO(name);
        const auto done = quantize_llm_int8(w.view(), statistics, format_of(name));
        REQUIRE(done);
        std::vector<std::uint32_t> expected;
        for (std::uint32_t c = 0; c < k; ++c) {
            float most = 0;
            for (std::size_t t = 0; t < x.rows(); ++t) most = std::max(most, std::abs(x(t, c)));
            if (most >= 6) expected.push_back(c);
        }
        REQUIRE(expected.size() >= 2);
        CHECK(done->linear.columns.channels == expected);
        check_zeros(done->linear);
        const Matrix q = dequantized(done->linear);
        Matrix rest = w;
        for (std::size_t r = 0; r < n; ++r)
            for (const std::uint32_t c : expected) {
                CHECK(std::abs(q(r, c) - w(r, c)) <= 0x1p-11f * std::abs(w(r, c)));  // f16
                rest(r, c) = 0;
            }
        const auto plain = quantize_rtn(rest.view(), format_of(name));
        REQUIRE(plain);
        CHECK(std::ranges::equal(plain->linear.weights.codes.bytes().bytes(),
                                 done->linear.weights.codes.bytes().bytes()));
        CHECK(done->report.method == "llm-int8");
        const double count = static_cast<double>(expected.size());
        CHECK(done->report.bits_per_weight ==
              Catch::Approx(bits_per_weight(format_of(name), n, k) + 16 * count / k + 32 * count / (n * k)));
    }
    LlmInt8Options high;
    high.threshold = 1e9;
    CHECK(quantize_llm_int8(w.view(), statistics, format_of("int8-channel"), high)->linear.columns.empty());
}

TEST_CASE("llm-int8: what is no use is refused, and what f16 cannot hold is f32", "[quantize][columns]") {
    Matrix w = gaussian_matrix(4, 16, 3);
    const TensorStatistics statistics = statistics_of(drifting_inputs(10, 16, 1));
    LlmInt8Options options;
    options.tensor = "q";
    options.threshold = 0;
    CHECK_FALSE(quantize_llm_int8(w.view(), statistics, format_of("int8-channel"), options));
    options.threshold = 6;
    CHECK(quantize_llm_int8(w.view(), statistics, format_of("int4-g16-fzero"), options).error().message ==
          "tensor 'q': llm-int8 leaves zeros where float columns are, and grids of int4-g16-fzero have no "
          "exact 0");
    CHECK(quantize_llm_int8(w.view(), {}, format_of("int8-channel"), options).error().message ==
          "tensor 'q': llm-int8 needs the ranges of 16 channels from calibration; the statistics have 0 and "
          "0 tokens");
    w(2, 5) = 1e6f;
    const auto done = quantize_llm_int8(w.view(), statistics, format_of("int8-channel"), options);
    REQUIRE(done);
    CHECK(done->linear.columns.values.format() == float_format(Scalar::f32));
    CHECK(dequantized(done->linear)(2, 5) == 1e6f);
    w(2, 5) = NAN;
    CHECK_FALSE(quantize_llm_int8(w.view(), statistics, format_of("int8-channel"), options));
}

TEST_CASE("owq: float columns are where they compensate most, and nothing better could stand there",
          "[quantize][columns]") {
    const std::size_t n = 12, k = 64;
    const Matrix w = gaussian_matrix(n, k, 3), x = drifting_inputs(400, k, 4);
    const TensorStatistics statistics = statistics_of(x);
    for (const char* name : {"int3-g16", "int2-channel", "int3-g16-asym", "nf4-g16", "q4_0"}) {
        for (const ColumnOrder order : {ColumnOrder::natural, ColumnOrder::group_aware,
                                        ColumnOrder::activation, ColumnOrder::permuted}) {
            INFO(name << ", order " << static_cast<int>(order));
            OwqOptions options;
            options.extra_bits = 0.75;  // ceil(0.75 * 64 / 16) = 3 columns
            options.gptq.order = order;
            options.gptq.damping = 1e-6;
            const auto done = quantize_owq(w.view(), statistics, format_of(name), options);
            REQUIRE(done);
            const auto& channels = done->linear.columns.channels;
            REQUIRE(channels.size() == 3);
            CHECK(std::ranges::count(channels, 5u) == 1);
            CHECK(std::ranges::count(channels, 17u) == 1);
            check_zeros(done->linear);
            CHECK(done->report.method == "owq");

            // No change of the float weights makes the output better: the gradient over them vanishes, up to f16 and damping.
            Matrix q = dequantized(done->linear);
            const double base = lost(w, q, x);
            for (const std::uint32_t c : channels)
                for (const float step : {-0.02f, 0.02f}) {
                    Matrix moved = q;
                    for (std::size_t r = 0; r < n; ++r) moved(r, c) += step;
                    CHECK(lost(w, moved, x) > base);
                }
            GptqOptions plain = options.gptq;
            const auto without = quantize_gptq(w.view(), statistics, format_of(name), plain);
            REQUIRE(without);
            CHECK(base < 0.9 * lost(w, dequantized(without->linear), x));
        }
    }
}

TEST_CASE("owq is gptq with its float columns last", "[quantize][columns]") {
    // Order the columns as the paper does, S last, and let gptq round R: with natural order and one grid per row, the codes of R
    // are equal, because error feedback of R does not depend on what follows.
    const std::size_t n = 8, k = 32;
    const Matrix w = gaussian_matrix(n, k, 9), x = drifting_inputs(300, k, 10);
    const TensorStatistics statistics = statistics_of(x);
    OwqOptions options;
    options.extra_bits = 1;  // 2 columns
    options.gptq.order = ColumnOrder::natural;
    options.gptq.damping = 1e-9;  // a share of the mean diagonal, which is another one without S
    options.gptq.grid.max_shrink = 0;
    const Format format = format_of("int4-channel");
    const auto owq = quantize_owq(w.view(), statistics, format, options);
    REQUIRE(owq);
    const auto& kept = owq->linear.columns.channels;
    REQUIRE(kept.size() == 2);
    std::vector<std::size_t> order;
    for (std::size_t c = 0; c < k; ++c)
        if (std::ranges::count(kept, c) == 0) order.push_back(c);
    const std::size_t rest = order.size();
    for (const std::uint32_t c : kept) order.push_back(c);
    Matrix sorted(n, k), sorted_x(x.rows(), k);
    for (std::size_t i = 0; i < k; ++i) {
        for (std::size_t r = 0; r < n; ++r) sorted(r, i) = i < rest ? w(r, order[i]) : 0.0f;
        for (std::size_t t = 0; t < x.rows(); ++t) sorted_x(t, i) = x(t, order[i]);
    }
    // The grid of a row must be that of R: S is zero in `sorted`, and zero columns of weights send no error on.
    TensorStatistics moved = statistics_of(sorted_x);
    GptqOptions gptq = options.gptq;
    const auto reference = quantize_gptq(sorted.view(), moved, format, gptq);
    REQUIRE(reference);
    std::size_t equal = 0;
    for (std::size_t r = 0; r < n; ++r)
        for (std::size_t i = 0; i < rest; ++i)
            equal +=
                reference->linear.weights.codes.code(r, i) == owq->linear.weights.codes.code(r, order[i]);
    CHECK(equal == n * rest);
}

TEST_CASE("owq: any number of threads, odd shapes, numbers that break things", "[quantize][columns]") {
    ThreadPool two(2), seven(7);
    for (const auto& [n, k] : {std::pair<std::size_t, std::size_t>{1, 1}, {3, 17}, {130, 40}, {5, 129}}) {
        const Matrix w = gaussian_matrix(n, k, 3);
        const TensorStatistics statistics = statistics_of(drifting_inputs(20, k, 4));
        const auto bytes = [&](ExecutionContext context) {
            const auto done = quantize_owq(w.view(), statistics, format_of("int3-g16"), {}, context);
            REQUIRE(done);
            const Matrix q = dequantized(done->linear);
            return std::vector<float>(q.values().begin(), q.values().end());
        };
        const auto one = bytes({});
        CHECK(one == bytes(two));
        CHECK(one == bytes(seven));
        for (const float value : one) CHECK(std::isfinite(value));
    }
    // All columns kept; dead channels; no Hessian.
    const Matrix w = gaussian_matrix(4, 16, 3);
    OwqOptions all;
    all.extra_bits = 16;
    Matrix x = drifting_inputs(20, 16, 4);
    for (std::size_t t = 0; t < x.rows(); ++t) x(t, 3) = 0;
    const auto done = quantize_owq(w.view(), statistics_of(x), format_of("int2-g16"), all);
    REQUIRE(done);
    CHECK(done->linear.columns.channels.size() == 16);
    CHECK(done->report.sqnr_db > 60);
    all.extra_bits = 0;
    CHECK(quantize_owq(w.view(), statistics_of(x), format_of("int2-g16"), all)->linear.columns.empty());
    all.extra_bits = 17;
    CHECK_FALSE(quantize_owq(w.view(), statistics_of(x), format_of("int2-g16"), all));
    CHECK_FALSE(quantize_owq(w.view(), {}, format_of("int2-g16")));
    CHECK_FALSE(quantize_owq(w.view(), statistics_of(x), format_of("q4_1")));
}
