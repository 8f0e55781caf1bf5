// Fixed-point multiplication by a real number, in int32 alone: how integer-only inference rescales its sums
// (arXiv 1712.05877, section 2.2; the arithmetic is gemmlowp's, fixedpoint/fixedpoint.h). With a multiplier
// M = M0 * 2^(shift - 31), M0 in [2^30, 2^31), left = max(shift, 0), right = max(-shift, 0):
//
//   rescale(x, M)    = rounding_shift(high_mul(saturate(x * 2^left), M0), right)
//   high_mul(a, b)   = floor(a b / 2^31 + 1/2), and 2^31 - 1 for a = b = -2^31, the only product that
//                      does not fit ("saturating rounding doubling high multiply"; ties go up)
//   rounding_shift(x, n) = x / 2^n to the nearest, ties away from zero
//   saturate(v)      = v clamped to int32
//
// Two roundings, as in gemmlowp: without saturation the result differs from x M by at most
//   1/2 + (right > 0 ? 2^-(right + 1) : 0) + |x| M 2^-31        (last rounding, first rounding, M0's error)
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "fewbit/core/result.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0 {

/// M = multiplier * 2^(shift - 31). multiplier is in [2^30, 2^31), or 0 together with shift 0.
struct FixedPointMultiplier {
    std::int32_t multiplier = 0;
    int shift = 0;  ///< -31 .. 31; to the left when positive

    [[nodiscard]] double value() const noexcept { return std::ldexp(multiplier, shift - 31); }

    friend bool operator==(const FixedPointMultiplier&, const FixedPointMultiplier&) = default;
};

/// The multiplier nearest to `real`, relative error at most 2^-31. Below 2^-32 it is 0: no int32 times that
/// reaches 1/2. Error: `real` is negative, not finite, or 2^31 or more.
[[nodiscard]] inline Result<FixedPointMultiplier> fixed_point_multiplier(double real) {
    if (!(real >= 0) || !std::isfinite(real) || real >= 0x1p31)
        return fail(ErrorKind::bad_input, "a multiplier of ", real,
                    " has no fixed-point form; it is at least 0 and below 2^31");
    if (real < 0x1p-32) return FixedPointMultiplier{};
    // real = 1.f * 2^exponent: M0 is the upper 31 of its 53 bits, rounded half up.
    const auto bits = std::bit_cast<std::uint64_t>(real);
    int shift = static_cast<int>(bits >> 52) - 1022;  // real = 0.1f * 2^shift
    const std::uint64_t mantissa = (bits & ((1ull << 52) - 1)) | 1ull << 52;
    std::uint64_t rounded = (mantissa + (1ull << 21)) >> 22;
    if (rounded == 1ull << 31) {
        rounded >>= 1;
        ++shift;
    }
    if (shift > 31)
        return fail(ErrorKind::bad_input, "a multiplier of ", real, " rounds to 2^31, which is too large");
    return FixedPointMultiplier{static_cast<std::int32_t>(rounded), shift};
}

[[nodiscard]] constexpr std::int32_t saturate_int32(std::int64_t value) noexcept {
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(value, std::numeric_limits<std::int32_t>::min(),
                                                              std::numeric_limits<std::int32_t>::max()));
}

/// floor(a b / 2^31 + 1/2), saturated.
[[nodiscard]] constexpr std::int32_t high_mul(std::int32_t a, std::int32_t b) noexcept {
    // |a b| <= 2^62, so that the sum fits; >> of a negative number rounds down in C++20.
    return saturate_int32((static_cast<std::int64_t>(a) * b + (1ll << 30)) >> 31);
}

/// x / 2^n to the nearest, ties away from zero. Precondition: 0 <= n <= 31.
[[nodiscard]] constexpr std::int32_t rounding_shift(std::int32_t x, int n) noexcept {
    const std::int64_t mask = (1ll << n) - 1, remainder = x & mask;
    const std::int64_t threshold = (mask >> 1) + (x < 0 ? 1 : 0);
    return static_cast<std::int32_t>((static_cast<std::int64_t>(x) >> n) + (remainder > threshold ? 1 : 0));
}

/// x * M as the head of this file defines it.
[[nodiscard]] constexpr std::int32_t rescale(std::int32_t x, const FixedPointMultiplier& m) noexcept {
    const int left = m.shift > 0 ? m.shift : 0, right = m.shift < 0 ? -m.shift : 0;
    return rounding_shift(
        high_mul(saturate_int32(static_cast<std::int64_t>(x) * (1ll << left)), m.multiplier), right);
}

}  // namespace fewbit::inline v0
