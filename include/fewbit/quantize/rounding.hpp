// Arithmetic that chooses codes: double precision, fixed order, nothing from libm. Internal to the room: only
// its own sources include this, which the build compiles with -ffp-contract=off.
#pragma once

#include <bit>
#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fewbit/core/scalar.hpp"

// x87 arithmetic rounds to 64 bits or when the compiler pleases; the trick below and byte equality would both
// fail.
static_assert(FLT_EVAL_METHOD == 0 || FLT_EVAL_METHOD == 16,
              "fewbit needs float and double arithmetic as written (on 32-bit x86: -msse2 -mfpmath=sse)");

namespace fewbit::inline v0::detail {

/// To the nearest integer, ties to even, for |x| < 2^51; larger values stay far away. Adding 1.5 * 2^52
/// leaves no bits below the point, so the addition itself rounds; unlike nearbyint it vectorizes without
/// SSE4.
[[nodiscard]] inline double round_half_even(double x) noexcept {
    constexpr double shift = 6755399441055744.0;
    return (x + shift) - shift;
}

[[nodiscard]] inline float smallest_normal(Scalar type) noexcept {
    return type == Scalar::f16 ? 0x1p-14f
                               : std::numeric_limits<float>::min();  // f32 and bf16 share exponents
}

/// `value` as an f32, f16 or bf16 holds it; nearest (from the double through f32).
[[nodiscard]] inline float rounded_to(Scalar type, double value) noexcept {
    const float single = static_cast<float>(value);
    switch (type) {
        case Scalar::f16: return float_from_f16(f16_from_float(single));
        case Scalar::bf16: return float_from_bf16(bf16_from_float(single));
        default: return single;
    }
}

/// The neighbour of a representable, finite or infinite `value` within its type, towards +infinity or
/// -infinity.
[[nodiscard]] inline float neighbour(Scalar type, float value, bool up) noexcept {
    // Patterns of one sign are ordered like integers; the neighbours of zero are the smallest subnormals.
    const auto step = [&](auto bits, auto sign) {
        using Bits = decltype(bits);
        if (static_cast<Bits>(bits & ~sign) == 0) return static_cast<Bits>(up ? 1u : sign | 1u);
        return static_cast<Bits>(((bits & sign) == 0) == up ? bits + 1u : bits - 1u);
    };
    switch (type) {
        case Scalar::f16: return float_from_f16(step(f16_from_float(value), std::uint16_t{0x8000}));
        case Scalar::bf16: return float_from_bf16(step(bf16_from_float(value), std::uint16_t{0x8000}));
        default:
            return std::bit_cast<float>(step(std::bit_cast<std::uint32_t>(value), std::uint32_t{0x80000000}));
    }
}

/// A scale as stored: nearest in the normal range. In the subnormal range the relative error of rounding has
/// no bound, and a scale rounded down to half (or to zero) would clip the group's largest weights; so it is
/// rounded up there.
[[nodiscard]] inline float stored_scale(Scalar type, double value) noexcept {
    const float nearest = rounded_to(type, value);
    if (nearest < smallest_normal(type) && static_cast<double>(nearest) < value)
        return neighbour(type, nearest, true);
    return nearest;
}

/// The largest stored number at or below `value`.
[[nodiscard]] inline float stored_below(Scalar type, double value) noexcept {
    const float nearest =
        rounded_to(type, value) + 0.0f;  // -0 becomes 0: the sign of a zero must not reach the bytes
    return static_cast<double>(nearest) > value ? neighbour(type, nearest, false) : nearest;
}

/// x^exponent for x >= 0, to about 1e-13, the same bits everywhere (std::pow is not).
[[nodiscard]] inline double power(double x, double exponent) noexcept {
    if (!(x > 0)) return 0;
    if (x < 0x1p-1022) x = 0x1p-1022;
    // x = 2^e m with m in [1/sqrt2, sqrt2); log m = 2 atanh((m - 1) / (m + 1))
    const auto bits = std::bit_cast<std::uint64_t>(x);
    double e = static_cast<double>(static_cast<int>(bits >> 52) - 1023);
    double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
    if (m > 1.4142135623730951) m *= 0.5, e += 1;
    const double t = (m - 1) / (m + 1);
    const double t2 = t * t;
    double series = 0;
    for (int k = 21; k >= 1; k -= 2) series = series * t2 + 1.0 / k;
    const double log2_x = e + 2 * t * series * 1.4426950408889634;
    // 2^y = 2^n e^(f ln 2), f in [-1/2, 1/2]
    const double y = exponent * log2_x;
    if (y < -1021) return 0;
    if (y > 1023) return std::numeric_limits<double>::infinity();
    const double n = round_half_even(y);
    const double f = (y - n) * 0.6931471805599453;
    double sum = 1;
    for (int k = 14; k >= 1; --k) sum = sum * f / k + 1;
    return sum * std::bit_cast<double>(static_cast<std::uint64_t>(static_cast<std::int64_t>(n) + 1023) << 52);
}

}  // namespace fewbit::inline v0::detail
