// Scalar types: f32, f16, bf16, fp8 (E4M3, E5M2), e8m0 and small integers, with conversions that give the
// same bits on every compiler and CPU (integer arithmetic; no F16C, no library calls).
//
//   type      sign exponent mantissa  bias  largest   notes
//   f16        1      5       10       15   65504     IEEE binary16
//   bf16       1      8        7      127   3.39e38   the upper half of an f32
//   fp8_e4m3   1      4        3        7   448       no infinity; S.1111.111 is NaN ("fn")
//   fp8_e5m2   1      5        2       15   57344     IEEE-like, has infinity
//   e8m0       0      8        0      127   2^127     a power of two; 0xFF is NaN (OCP MX)
//
// All roundings are to nearest, ties to even. fp8 saturates (OCP), f16 and bf16 overflow to infinity (IEEE).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "fewbit/core/scalar_type.hpp"

namespace fewbit::inline v0 {

namespace detail {

/// Decodes sign/exponent/mantissa bits of a small IEEE-like float into an f32 (always exact). Without branches, so that
/// loops vectorize.
template <int ExponentBits, int MantissaBits, bool HasInfinity>
[[nodiscard]] constexpr float float_from_small(std::uint32_t bits) noexcept {
    constexpr int bias = (1 << (ExponentBits - 1)) - 1, shift = 23 - MantissaBits;
    constexpr std::uint32_t infinity = ((1u << ExponentBits) - 1) << MantissaBits;
    constexpr std::uint32_t mantissa_mask = (1u << MantissaBits) - 1;
    constexpr std::uint32_t least = static_cast<std::uint32_t>(128 - bias) << 23;  // the least normal, as f32
    const std::uint32_t sign = (bits >> (ExponentBits + MantissaBits) & 1u) << 31;
    const std::uint32_t magnitude = bits & (infinity | mantissa_mask), widened = magnitude << shift;
    // Zero and subnormals: (1 + m) 2^(1 - bias) - 2^(1 - bias), which no flushing of subnormals touches.
    const float small = std::bit_cast<float>(widened + least) - std::bit_cast<float>(least);
    const std::uint32_t normal = widened + (static_cast<std::uint32_t>(127 - bias) << 23);
    const auto ones_if = [](bool condition) { return 0u - static_cast<std::uint32_t>(condition); };
    const std::uint32_t is_small = ones_if(magnitude <= mantissa_mask);
    const std::uint32_t finite = (std::bit_cast<std::uint32_t>(small) & is_small) | (normal & ~is_small);
    if constexpr (HasInfinity)  // an exponent of ones; the mantissa of infinity is 0, that of a NaN stays
        return std::bit_cast<float>(sign | finite | (ones_if(magnitude >= infinity) & 0x7F800000u));
    const std::uint32_t is_nan = ones_if(magnitude == (infinity | mantissa_mask));
    return std::bit_cast<float>(sign | (finite & ~is_nan) | (is_nan & 0x7FC00000u));
}

/// Rounds an f32 to a small IEEE-like float, nearest with ties to even, subnormals kept. `largest` is the
/// greatest finite magnitude's bit pattern; beyond it: infinity, or saturation where Saturate. NaN -> quiet
/// NaN.
template <int ExponentBits, int MantissaBits, std::uint32_t Largest, bool Saturate, std::uint32_t Nan>
[[nodiscard]] constexpr std::uint32_t small_from_float(float value) noexcept {
    constexpr int bias = (1 << (ExponentBits - 1)) - 1;
    constexpr int shift = 23 - MantissaBits;
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = bits >> 31 << (ExponentBits + MantissaBits);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return sign | Nan;

    // The exponent at which the result's last mantissa bit stops moving: the subnormal range.
    const int exponent = static_cast<int>(magnitude >> 23) - 127 + bias;
    std::uint32_t rounded = 0;
    if (exponent > 0) {
        const std::uint32_t rebased = magnitude - (static_cast<std::uint32_t>(127 - bias) << 23);
        rounded = (rebased + (1u << (shift - 1)) - 1 + (rebased >> shift & 1u)) >> shift;
    } else if (shift + 1 - exponent <= 25) {  // subnormal or rounds to the first one; below it is zero
        const int drop = shift + 1 - exponent;
        const std::uint32_t significand = (magnitude & 0x007FFFFFu) | 0x00800000u;
        rounded =
            (significand >> drop) +
            ((significand & ((1u << drop) - 1)) + (significand >> drop & 1u) > (1u << (drop - 1)) ? 1u : 0u);
    }
    if (rounded > Largest || magnitude >= 0x7F800000u) {
        constexpr std::uint32_t infinity = ((1u << ExponentBits) - 1) << MantissaBits;
        rounded = Saturate ? Largest : infinity;
    }
    return sign | rounded;
}

}  // namespace detail

[[nodiscard]] constexpr float float_from_f16(std::uint16_t bits) noexcept {
    return detail::float_from_small<5, 10, true>(bits);
}
[[nodiscard]] constexpr std::uint16_t f16_from_float(float value) noexcept {
    return static_cast<std::uint16_t>(detail::small_from_float<5, 10, 0x7BFF, false, 0x7E00>(value));
}

[[nodiscard]] constexpr float float_from_bf16(std::uint16_t bits) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}
/// Ties to even; a NaN keeps its upper bits and is made quiet.
[[nodiscard]] constexpr std::uint16_t bf16_from_float(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x0040u);
    return static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

[[nodiscard]] constexpr float float_from_fp8_e4m3(std::uint8_t bits) noexcept {
    return detail::float_from_small<4, 3, false>(bits);
}
/// Saturates at +-448; NaN -> 0x7F with the sign kept.
[[nodiscard]] constexpr std::uint8_t fp8_e4m3_from_float(float value) noexcept {
    return static_cast<std::uint8_t>(detail::small_from_float<4, 3, 0x7E, true, 0x7F>(value));
}

[[nodiscard]] constexpr float float_from_fp8_e5m2(std::uint8_t bits) noexcept {
    return detail::float_from_small<5, 2, true>(bits);
}
/// Saturates at +-57344, infinities too (OCP's saturating mode); NaN -> 0x7E with the sign kept.
[[nodiscard]] constexpr std::uint8_t fp8_e5m2_from_float(float value) noexcept {
    return static_cast<std::uint8_t>(detail::small_from_float<5, 2, 0x7B, true, 0x7E>(value));
}

/// 2^(bits - 127); 0 -> 2^-127 (an f32 subnormal), 255 -> NaN.
[[nodiscard]] constexpr float float_from_e8m0(std::uint8_t bits) noexcept {
    if (bits == 0) return std::bit_cast<float>(0x00400000u);
    if (bits == 255) return std::bit_cast<float>(0x7FC00000u);
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 23);
}
/// The power of two at or below |value| (OCP MX's floor rule); zero and below 2^-127 -> 2^-127; infinity ->
/// 2^127; NaN -> NaN.
[[nodiscard]] constexpr std::uint8_t e8m0_from_float(float value) noexcept {
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return 255;
    const std::uint32_t exponent = magnitude >> 23;
    return static_cast<std::uint8_t>(exponent > 254 ? 254 : exponent);
}

/// Reads one element of a floating scalar type as f32 (f64 is rounded); `data` needs no alignment.
/// Integer types give 0: they are codes, not values.
[[nodiscard]] inline float load_float(Scalar type, const std::byte* data) noexcept {
    const auto bytes = [data](auto zero) {
        for (std::size_t i = 0; i < sizeof zero; ++i)  // files are little-endian, whatever the CPU is
            zero = static_cast<decltype(zero)>(
                zero | static_cast<decltype(zero)>(static_cast<decltype(zero)>(data[i]) << (8 * i)));
        return zero;
    };
    switch (type) {
        case Scalar::f32: return std::bit_cast<float>(bytes(std::uint32_t{0}));
        case Scalar::f64: return static_cast<float>(std::bit_cast<double>(bytes(std::uint64_t{0})));
        case Scalar::f16: return float_from_f16(bytes(std::uint16_t{0}));
        case Scalar::bf16: return float_from_bf16(bytes(std::uint16_t{0}));
        case Scalar::fp8_e4m3: return float_from_fp8_e4m3(bytes(std::uint8_t{0}));
        case Scalar::fp8_e5m2: return float_from_fp8_e5m2(bytes(std::uint8_t{0}));
        case Scalar::e8m0: return float_from_e8m0(bytes(std::uint8_t{0}));
        default: return 0.0f;
    }
}

/// `count` numbers of a floating scalar type that lie one after another.
inline void load_floats(Scalar type, const std::byte* data, std::size_t count, float* out) noexcept {
    const auto halves = [&](auto convert) {
        for (std::size_t i = 0; i < count; ++i) {
            const auto low = static_cast<unsigned>(data[2 * i]),
                       high = static_cast<unsigned>(data[2 * i + 1]);
            out[i] = convert(static_cast<std::uint16_t>(low | high << 8));
        }
    };
    if (type == Scalar::f16) return halves([](std::uint16_t bits) { return float_from_f16(bits); });
    if (type == Scalar::bf16) return halves([](std::uint16_t bits) { return float_from_bf16(bits); });
    for (std::size_t i = 0; i < count; ++i) out[i] = load_float(type, data + i * size_bytes(type));
}

/// Writes `value`, rounded to a floating scalar type, little-endian; integer types are left untouched.
inline void store_float(Scalar type, float value, std::byte* data) noexcept {
    const auto put = [data](auto bits) {
        for (std::size_t i = 0; i < sizeof bits; ++i) data[i] = static_cast<std::byte>(bits >> (8 * i));
    };
    switch (type) {
        case Scalar::f32: return put(std::bit_cast<std::uint32_t>(value));
        case Scalar::f64: return put(std::bit_cast<std::uint64_t>(static_cast<double>(value)));
        case Scalar::f16: return put(f16_from_float(value));
        case Scalar::bf16: return put(bf16_from_float(value));
        case Scalar::fp8_e4m3: return put(fp8_e4m3_from_float(value));
        case Scalar::fp8_e5m2: return put(fp8_e5m2_from_float(value));
        case Scalar::e8m0: return put(e8m0_from_float(value));
        default: return;
    }
}

}  // namespace fewbit::inline v0
