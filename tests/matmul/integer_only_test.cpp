// Integer-only products: fixed-point arithmetic against 128-bit rationals, products bit for bit against an
// oracle written from the formulas at the heads of fixed_point.hpp and integer_only.hpp, and the error
// against reals.
#include "fewbit/matmul/integer_only.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

__extension__ typedef __int128 Wide;
constexpr std::int32_t least = std::numeric_limits<std::int32_t>::min(),
                       most = std::numeric_limits<std::int32_t>::max();

Wide floor_div(Wide a, Wide b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
Wide saturated(Wide v) { return v < least ? Wide{least} : v > most ? Wide{most} : v; }
/// Nearest integer to a / b, ties away from zero.
Wide away(Wide a, Wide b) { return a >= 0 ? (2 * a + b) / (2 * b) : -((-2 * a + b) / (2 * b)); }

Wide exact_rescale(Wide x, const FixedPointMultiplier& m) {
    const int left = std::max(m.shift, 0), right = std::max(-m.shift, 0);
    const Wide high = saturated(
        floor_div(2 * saturated(x * (Wide{1} << left)) * m.multiplier + (Wide{1} << 31), Wide{1} << 32));
    return away(high, Wide{1} << right);
}

}  // namespace

TEST_CASE("high_mul and rounding_shift: gemmlowp's cases, ties and the saturation") {
    static_assert(high_mul(least, least) == most);
    static_assert(high_mul(least, most) == -most);
    static_assert(high_mul(1 << 30, 1) == 1);     // 1/2 goes up
    static_assert(high_mul(-(1 << 30), 1) == 0);  // -1/2 too
    static_assert(high_mul(3 << 29, 2) == 2);     // 3/2
    static_assert(rounding_shift(3, 1) == 2);
    static_assert(rounding_shift(-3, 1) == -2);
    static_assert(rounding_shift(1, 1) == 1);
    static_assert(rounding_shift(-1, 1) == -1);
    static_assert(rounding_shift(least, 31) == -1);
    static_assert(rounding_shift(most, 31) == 1);
    static_assert(rounding_shift(least, 0) == least);
    testing::Random random(1);
    const auto any = [&] {
        const auto value = static_cast<std::int32_t>(random.below(1ull << 32) - (1ull << 31));
        return value >> random.below(31);
    };
    for (int i = 0; i < 100000; ++i) {
        const std::int32_t a = any(), b = any();
        const int n = static_cast<int>(random.below(32));
        REQUIRE(high_mul(a, b) == saturated(floor_div(2 * Wide{a} * b + (Wide{1} << 31), Wide{1} << 32)));
        REQUIRE(rounding_shift(a, n) == away(a, Wide{1} << n));
    }
}

TEST_CASE("multipliers: nearest, normalized, on both sides of 1") {
    CHECK(*fixed_point_multiplier(0.5) == FixedPointMultiplier{1 << 30, 0});
    CHECK(*fixed_point_multiplier(1.0) == FixedPointMultiplier{1 << 30, 1});
    CHECK(*fixed_point_multiplier(0.25) == FixedPointMultiplier{1 << 30, -1});
    CHECK(*fixed_point_multiplier(3.0) == FixedPointMultiplier{3 << 29, 2});
    CHECK(*fixed_point_multiplier(0) == FixedPointMultiplier{});
    CHECK(*fixed_point_multiplier(0x1p-33) == FixedPointMultiplier{});
    CHECK(*fixed_point_multiplier(0x1p-32) == FixedPointMultiplier{1 << 30, -31});
    CHECK(*fixed_point_multiplier(1.0 - 0x1p-53) == FixedPointMultiplier{1 << 30, 1});  // M0 rounds to 2^31
    for (const double bad : std::vector<double>{-1.0, 0x1p31, 0x1p31 - 0x1p-22, NAN, INFINITY}) {
        const auto refused = fixed_point_multiplier(bad);
        INFO(bad);
        REQUIRE(!refused);
        CHECK(refused.error().message.find("a multiplier of ") == 0);
    }
    testing::Random random(2);
    for (int i = 0; i < 100000; ++i) {
        const double real = std::exp2(random.uniform(-32, 30.9));
        const FixedPointMultiplier m = *fixed_point_multiplier(real);
        REQUIRE(m.multiplier >= 1 << 30);
        REQUIRE(std::fabs(m.value() - real) <= 0x1p-31 * real);
        const auto x = static_cast<std::int32_t>(random.below(1ull << 32) - (1ull << 31)) >> random.below(31);
        const std::int32_t scaled = rescale(x, m);
        REQUIRE(scaled == exact_rescale(x, m));
        const double wanted = x * real,
                     bound = 0.5 + (m.shift < 0 ? std::ldexp(0.5, m.shift) : 0) + std::fabs(wanted) * 0x1p-31;
        if (std::fabs(wanted) < 0x1p30) REQUIRE(std::fabs(scaled - wanted) <= bound);
    }
}

TEST_CASE("products are the oracle's, bit for bit, and within the stated error of real arithmetic") {
    testing::Random random(3);
    ThreadPool pool(3);
    const std::size_t ks[] = {0, 1, 2, 3, 8, 31, 64, 257, 1000};
    for (int i = 0; i < 300; ++i) {
        const std::size_t m = random.below(6), n = random.below(7), k = ks[random.below(9)];
        const bool extreme = random.below(4) == 0, per_channel = random.below(2) == 0,
                   relu = random.below(3) == 0;
        const auto codes = [&](std::size_t count) {
            std::vector<std::uint8_t> out(count);
            for (auto& code : out)
                code = static_cast<std::uint8_t>(extreme ? 255 * random.below(2) : random.below(256));
            return out;
        };
        const auto x = codes(m * k), w = codes(n * k), w_zeros = codes(per_channel ? n : 1), one = codes(2);
        std::vector<float> scales(per_channel ? n : 1);
        for (float& scale : scales) scale = static_cast<float>(std::exp2(random.uniform(-12, 0)));
        if (!scales.empty() && random.below(8) == 0) scales[0] = 0;
        const double x_scale = std::exp2(random.uniform(-8, 0)), y_scale = std::exp2(random.uniform(-8, 8));
        const auto multipliers = integer_only_multipliers(x_scale, scales, y_scale);
        REQUIRE(multipliers);
        std::vector<std::int32_t> bias(random.below(2) == 0 ? n : 0);
        for (auto& value : bias)
            value =
                random.below(8) == 0 ? most : static_cast<std::int32_t>(random.below(1 << 20)) - (1 << 19);
        const IntegerOnlyWeights weights{{w.data(), n, k}, w_zeros, *multipliers, bias};
        const std::uint8_t x_zero = one[0];
        const IntegerOnlyOutput output{one[1], relu ? one[1] : std::uint8_t{0}, 255};
        std::vector<std::uint8_t> y(m * n, 77), threaded(m * n, 78);
        REQUIRE(integer_only_matmul({x.data(), m, k}, x_zero, weights, output, {y.data(), m, n}));
        REQUIRE(
            integer_only_matmul({x.data(), m, k}, x_zero, weights, output, {threaded.data(), m, n}, pool));
        CHECK(y == threaded);
        for (std::size_t r = 0; r < m; ++r)
            for (std::size_t c = 0; c < n; ++c) {
                const std::size_t p = per_channel ? c : 0;
                Wide acc = bias.empty() ? 0 : bias[c];
                for (std::size_t j = 0; j < k; ++j)
                    acc += (Wide{x[r * k + j]} - x_zero) * (Wide{w[c * k + j]} - w_zeros[p]);
                acc = saturated(acc);
                const Wide code = exact_rescale(acc, (*multipliers)[p]) + output.zero;
                const int expected = static_cast<int>(std::clamp<Wide>(code, output.least, 255));
                INFO("m " << m << " n " << n << " k " << k);
                REQUIRE(int{y[r * n + c]} == expected);
                // Against reals: half an output step, the first rounding, M0's error.
                const double real = x_scale * static_cast<double>(scales[p]) * static_cast<double>(acc);
                const double clamped =
                    std::clamp(real / y_scale + output.zero, static_cast<double>(output.least), 255.0);
                const int shift = (*multipliers)[p].shift;
                const double steps = 0.5 + (shift < 0 ? std::ldexp(0.5, shift) : 0) +
                                     std::fabs(real / y_scale) * 0x1p-31 + 1e-12;
                REQUIRE(std::fabs(int{y[r * n + c]} - clamped) <= steps);
            }
    }
}

TEST_CASE("K at the bound is exact, one more is refused") {
    for (const std::uint8_t zero : {std::uint8_t{0}, std::uint8_t{255}}) {
        const auto code = static_cast<std::uint8_t>(255 - zero);  // |q - Z| = 255 on both sides
        for (const std::size_t k : {max_integer_only_k, max_integer_only_k + 1}) {
            const std::vector<std::uint8_t> x(k, code), w(k, code), w_zero{zero};
            const std::vector<FixedPointMultiplier> scale{
                *fixed_point_multiplier(200.0 / (33025.0 * 65025.0))};
            std::uint8_t y = 0;
            const auto done = integer_only_matmul({x.data(), 1, k}, zero,
                                                  {{w.data(), 1, k}, w_zero, scale, {}}, {}, {&y, 1, 1});
            CHECK(done.has_value() == (k == max_integer_only_k));
            if (done)
                CHECK(int{y} == 200);
            else
                CHECK(done.error().message.find("33025 products of 8-bit codes, not for 33026") !=
                      std::string::npos);
        }
        // The other sign: everything negative.
        const std::size_t k = max_integer_only_k;
        const std::vector<std::uint8_t> x(k, code), w(k, zero), w_zero{code};
        const std::vector<FixedPointMultiplier> scale{*fixed_point_multiplier(200.0 / (33025.0 * 65025.0))};
        std::uint8_t y = 0;
        REQUIRE(integer_only_matmul({x.data(), 1, k}, zero, {{w.data(), 1, k}, w_zero, scale, {}},
                                    {250, 0, 255}, {&y, 1, 1}));
        CHECK(int{y} == 50);
    }
}

TEST_CASE("integer-only: what does not fit is refused") {
    const std::vector<std::uint8_t> x(6), w(8), zeros(2), three(3);
    const std::vector<FixedPointMultiplier> scales(2);
    std::vector<std::uint8_t> y(4);
    const auto run = [&](std::size_t x_cols, std::span<const std::uint8_t> z,
                         std::span<const std::int32_t> bias, IntegerOnlyOutput output) {
        return integer_only_matmul({x.data(), 2, x_cols}, 0, {{w.data(), 2, 3}, z, scales, bias}, output,
                                   {y.data(), 2, 2})
            .has_value();
    };
    const std::vector<std::int32_t> bias(3);
    CHECK(run(3, zeros, {}, {}));
    CHECK(!run(2, zeros, {}, {}));
    CHECK(!run(3, three, {}, {}));
    CHECK(!run(3, {}, {}, {}));
    CHECK(!run(3, zeros, bias, {}));
    CHECK(!run(3, zeros, {}, {0, 9, 8}));
    const float scale = 1;
    CHECK(!integer_only_multipliers(1, {&scale, 1}, 0));
    CHECK(integer_only_multipliers(1e12, {&scale, 1}, 1).error().message.find("output channel 0") == 0);
}
