// The arithmetic under the grids: rounding, stored types, powers; fit_grid, encode and decode on single
// groups.
#include "fewbit/quantize/grid.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "fewbit/quantize/rounding.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

Format grid_format(const char* name) { return *parse_format(name); }

std::vector<std::uint8_t> encoded(const Format& format, const GroupGrid& grid, const std::vector<float>& w) {
    std::vector<std::uint8_t> codes(w.size());
    encode(format, grid, w, codes);
    return codes;
}

}  // namespace

TEST_CASE("rounding: halves go to even, the rest to the nearest", "[quantize][rounding]") {
    for (int i = -2000; i <= 2000; ++i) {
        const double half = i + 0.5;
        const double even = i % 2 == 0 ? i : i + 1;
        CHECK(detail::round_half_even(half) == even);
        CHECK(detail::round_half_even(std::nextafter(half, 1e9)) == i + 1);
        CHECK(detail::round_half_even(std::nextafter(half, -1e9)) == i);
        CHECK(detail::round_half_even(i) == i);
    }
    CHECK(detail::round_half_even(1e300) == 1e300);  // far away stays far away
}

TEST_CASE("rounding: powers agree with the library's", "[quantize][rounding]") {
    testing::Random random(4);
    for (int i = 0; i < 20000; ++i) {
        const double x = std::ldexp(random.uniform(0.5, 1), static_cast<int>(random.below(240)) - 150);
        const double exponent = random.uniform(1, 4);
        const double expected = std::pow(x, exponent);
        if (expected < 1e-300) continue;
        CHECK(std::abs(detail::power(x, exponent) - expected) <= 1e-12 * expected);
    }
    CHECK(detail::power(0, 2.4) == 0);
    CHECK(std::abs(detail::power(1, 2.4) - 1) <= 1e-15);
}

TEST_CASE("rounding: offsets are the largest stored number at or below", "[quantize][rounding]") {
    testing::Random random(5);
    for (const Scalar type : {Scalar::f32, Scalar::f16, Scalar::bf16}) {
        INFO(name(type));
        for (int i = 0; i < 20000; ++i) {
            const double value = random.gaussian() * std::ldexp(1.0, static_cast<int>(random.below(40)) - 30);
            const float below = detail::stored_below(type, value);
            CHECK(detail::rounded_to(type, below) == below);  // representable
            CHECK(static_cast<double>(below) <= value);
            CHECK(static_cast<double>(detail::neighbour(type, below, true)) > value);
        }
        CHECK(detail::stored_below(type, 0.0) == 0.0f);
        CHECK(!std::signbit(detail::stored_below(type, -0.0)));
        CHECK(detail::stored_below(type, -1e-60) < 0.0f);
    }
    CHECK(detail::stored_below(Scalar::f16, 70000.0) == 65504.0f);
}

TEST_CASE("rounding: scales are nearest when normal, never below when subnormal", "[quantize][rounding]") {
    testing::Random random(6);
    for (const Scalar type : {Scalar::f32, Scalar::f16, Scalar::bf16}) {
        INFO(name(type));
        const double smallest = detail::smallest_normal(type);
        for (int i = 0; i < 20000; ++i) {
            const double value = smallest * std::exp2(random.uniform(-30, 10));
            const float stored = detail::stored_scale(type, value);
            CHECK(detail::rounded_to(type, stored) == stored);
            if (static_cast<double>(stored) < smallest) {
                CHECK(static_cast<double>(stored) >= value);
                CHECK(static_cast<double>(detail::neighbour(type, stored, false)) < value);
            } else if (value >= smallest) {
                CHECK(stored == detail::rounded_to(type, value));
            }
            CHECK(stored > 0);
        }
    }
}

TEST_CASE("grid: the formulas, with scales that f32 holds exactly", "[quantize][grid]") {
    const auto fit = [](const char* format, float min, float max, double shrink = 1.0) {
        auto grid = fit_grid(grid_format(format), min, max, shrink);
        REQUIRE(grid);
        return *grid;
    };
    CHECK(fit("int4-g32-sf32", -7.5f, 3.0f) == GroupGrid{1.0f, 8, 0.0f, false});  // 2 * 7.5 / 15
    CHECK(fit("int4-g32-narrow-sf32", -7.0f, 3.0f) == GroupGrid{1.0f, 8, 0.0f, false});
    CHECK(fit("int4-g32-asym-sf32", -5.0f, 10.0f) == GroupGrid{1.0f, 5, 0.0f, false});
    CHECK(fit("int4-g32-asym-sf32", 5.0f, 15.0f) == GroupGrid{1.0f, 0, 0.0f, false});  // widened to [0, 15]
    CHECK(fit("int4-g32-asym-sf32", -15.0f, -5.0f) ==
          GroupGrid{1.0f, 15, 0.0f, false});                                            // widened to [-15, 0]
    CHECK(fit("int4-g32-fzero-sf32", 5.0f, 20.0f) == GroupGrid{1.0f, 0, 5.0f, false});  // not widened
    CHECK(fit("int4-g32-sf32", -7.5f, 3.0f, 0.5) == GroupGrid{0.5f, 8, 0.0f, false});
    CHECK(fit("int4-g32-asym-sf32", -10.0f, 20.0f, 0.5) == GroupGrid{1.0f, 5, 0.0f, false});
    CHECK(fit("int4-g32-fzero-sf32", 0.0f, 30.0f, 0.5) ==
          GroupGrid{1.0f, 0, 7.5f, false});  // around the middle
    CHECK(fit("int4-g32-sf32", 0.0f, 0.0f) == GroupGrid{0.0f, 8, 0.0f, false});
    CHECK(fit("int4-g32-asym-sf32", 3.0f, 3.0f) == GroupGrid{3.0f, 0, 0.0f, false});  // constant
    CHECK(fit("int4-g32-asym-sf32", -3.0f, -3.0f) == GroupGrid{3.0f, 1, 0.0f, false});
    CHECK(fit("int4-g32-fzero-sf32", 3.0f, 3.0f) == GroupGrid{0.0f, 0, 3.0f, false});
}

TEST_CASE("grid: ties of weights go to the even step", "[quantize][grid]") {
    const Format format = grid_format("int4-g32-sf32");
    const GroupGrid grid{0.25f, 8, 0.0f, false};
    // w / scale = -2.5, -1.5, -0.5, 0.5, 1.5, 2.5: steps -2, -2, 0, 0, 2, 2
    CHECK(encoded(format, grid, {-0.625f, -0.375f, -0.125f, 0.125f, 0.375f, 0.625f}) ==
          std::vector<std::uint8_t>{6, 6, 8, 8, 10, 10});
    // Next to a tie, on both sides.
    CHECK(encoded(format, grid, {std::nextafter(0.125f, 1.0f), std::nextafter(0.125f, 0.0f)}) ==
          std::vector<std::uint8_t>{9, 8});
}

TEST_CASE("grid: codes are clamped, whatever comes", "[quantize][grid]") {
    const float largest = std::numeric_limits<float>::max();
    for (const char* name : {"int2-g32", "int4-g32-narrow", "int8-g32", "int5-g32-asym", "int3-g32-fzero"}) {
        INFO(name);
        const Format format = grid_format(name);
        const GroupGrid grid = *fit_grid(format, -1.0f, 1.0f);
        const auto codes = encoded(format, grid, {-largest, -5.0f, 5.0f, largest});
        CHECK(codes == std::vector<std::uint8_t>{static_cast<std::uint8_t>(format.min_code()),
                                                 static_cast<std::uint8_t>(format.min_code()),
                                                 static_cast<std::uint8_t>(format.max_code()),
                                                 static_cast<std::uint8_t>(format.max_code())});
    }
}

TEST_CASE("grid: decode is what QuantizedMatrix decodes", "[quantize][grid]") {
    const Format real = grid_format("int4-g32-fzero-sf32");
    CHECK(decode(real, GroupGrid{0.5f, 0, -2.0f, false}, 3) == -0.5f);
    CHECK(decode(grid_format("int4-g32-asym"), GroupGrid{0.5f, 5, 0.0f, false}, 3) == -1.0f);
}
