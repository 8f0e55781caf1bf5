// ggml's types that are encoded in one pass, block by block: the scale follows from the extremes of a block, codes by
// rounding. (q4_0 to q8_0 without importance are such too, and run in lanes: lane_run.hpp.)
#pragma once

#include <cmath>

#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/formats/ggml/lane_run.hpp"

namespace fewbit::inline v0::ggml::detail {

/// To the nearest integer, as the lanes do.
[[nodiscard]] inline int nearest(float v) noexcept { return static_cast<int>(nearest(One(v)).v); }
/// The weight of largest magnitude with its sign; the first of equals.
[[nodiscard]] inline float first_max(const float* x, std::size_t n) noexcept {
    float largest = 0;
    for (std::size_t i = 0; i < n; ++i)
        if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
    return largest;
}
/// 1 / d, and 0 where that is no number: then all codes are those of zero.
[[nodiscard]] inline float inverse_of(float d) noexcept { return inverse_of_scale(One(d)).v; }
/// Toward zero, within 0 .. most; what is no number is 0.
[[nodiscard]] inline std::uint8_t truncated(float v, int most) noexcept {
    if (!(v > 0)) return 0;
    return static_cast<std::uint8_t>(v >= static_cast<float>(most) ? most : static_cast<int>(v));
}
/// To the nearest integer, halves away from zero, within the codes of a byte.
[[nodiscard]] inline int rounded(float v) noexcept {
    return static_cast<int>(std::clamp(std::round(v), -128.0f, 127.0f));
}
[[nodiscard]] inline float largest_magnitude(const float* x, std::size_t n) noexcept {
    return std::fabs(first_max(x, n));
}
inline void encode_q8_k(const float* x, std::uint8_t* out) noexcept {
    const float m = first_max(x, 256), inverse = m != 0 ? -127 / m : 0.0f;
    std::uint8_t codes[256];
    for (std::size_t i = 0; i < 256; ++i)
        // Its low byte: where 1 / scale overflows, nearest() gives -2^22, and the code is 0.
        codes[i] = static_cast<std::uint8_t>(std::min(127, nearest(inverse * x[i])) + 128);
    store32(out, std::bit_cast<std::uint32_t>(m != 0 ? 1 / inverse : 0.0f));
    pack_codes(BlockType::q8_k, codes, out);
}
/// q2_0, tq1_0, tq2_0: -d, 0 and d, with d the largest magnitude. (The fourth value of q2_0, 2 d, stays free.)
inline void encode_ternary(BlockType type, const float* x, std::uint8_t* out) noexcept {
    const std::size_t n = traits(type).elements;
    const float d = largest_magnitude(x, n), inverse = inverse_of(d);
    std::uint8_t codes[256];
    for (std::size_t i = 0; i < n; ++i) codes[i] = static_cast<std::uint8_t>(rounded(x[i] * inverse) + 1);
    store_half(out + (type == BlockType::tq1_0 ? 52 : type == BlockType::tq2_0 ? 64 : 0), d);
    pack_codes(type, codes, out);
}
/// q1_0: signs and the mean magnitude.
inline void encode_signs(const float* x, std::uint8_t* out) noexcept {
    float sum = 0;
    std::uint8_t codes[128];
    for (std::size_t i = 0; i < 128; ++i) {
        sum += std::fabs(x[i]);
        codes[i] = x[i] >= 0;
    }
    store_half(out, sum / 128);
    pack_codes(BlockType::q1_0, codes, out);
}

/// floor(log2f(v)) of a v > 0, with log2f rounded to f32: just below 2^n, n past +-2, it is n already. How many
/// floats there are: those closer than ln 2 times half the distance of floats at n.
[[nodiscard]] inline int floor_of_rounded_log2(float v) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(v);
    if (bits < 0x00800000u) return std::bit_width(bits) - 150;  // subnormal
    const int next = static_cast<int>(bits >> 23) - 126;        // v < 2^next
    const auto size = static_cast<unsigned>(next < 0 ? -next : next);
    if (size == 0) return next - 1;
    const int binade = std::bit_width(size) - 1 - (next > 0 && std::has_single_bit(size));
    const double closest = 0.6931471805599453 * (binade < 0 ? 0.5 : 1 << binade);
    const std::uint32_t below = 0x00800000u - (bits & 0x007FFFFFu);  // units of 2^(next - 24)
    return static_cast<double>(below) < closest ? next : next - 1;
}
/// The first of the values of E2M1 (doubled) times `scale` that is closest.
[[nodiscard]] inline std::uint8_t closest_e2m1(float scale, float x) noexcept {
    std::uint8_t best = 0;
    float least = std::fabs(e2m1_doubled[0] * scale - x);
    for (std::uint8_t i = 1; i < 16; ++i) {
        const float error = std::fabs(e2m1_doubled[i] * scale - x);
        if (error < least) {
            least = error;
            best = i;
        }
    }
    return best;
}
inline void encode_mxfp4(const float* x, std::uint8_t* out) noexcept {
    const float m = largest_magnitude(x, 32);
    out[0] = static_cast<std::uint8_t>(m > 0 ? std::clamp(floor_of_rounded_log2(m) - 2 + 127, 0, 254) : 0);
    const float scale = mxfp4_scale(out[0]);
    std::uint8_t codes[32];
    for (std::size_t i = 0; i < 32; ++i) codes[i] = closest_e2m1(scale, x[i]);
    pack_codes(BlockType::mxfp4, codes, out);
}
/// E4M3 without sign, halves up; everything from 256 on is 448.
[[nodiscard]] inline std::uint8_t nvfp4_scale_code(float v) noexcept {
    if (!(v > 0)) return 0;
    v = std::min(v, 448.0f);
    const auto bits = std::bit_cast<std::uint32_t>(v);
    int exponent = static_cast<int>(bits >> 23) - 127 + 7;
    if (exponent <= 0) return truncated(v * 512 + 0.5f, 7);
    auto mantissa = static_cast<int>(bits >> 20 & 7) + static_cast<int>(bits >> 19 & 1);
    if (mantissa == 8) {
        mantissa = 0;
        ++exponent;
    }
    return static_cast<std::uint8_t>(exponent >= 15 ? 0x7E : exponent << 3 | mantissa);
}
inline void encode_nvfp4(const float* x, std::uint8_t* out) noexcept {
    std::uint8_t codes[64];
    for (std::size_t g = 0; g < 4; ++g) {
        out[g] = nvfp4_scale_code(largest_magnitude(x + 16 * g, 16) / 6);
        const float scale = nvfp4_scale(out[g]);
        for (std::size_t i = 16 * g; i < 16 * g + 16; ++i) codes[i] = closest_e2m1(scale, x[i]);
    }
    pack_codes(BlockType::nvfp4, codes, out);
}

/// A block of a type of this header.
inline void encode_block(BlockType type, const float* x, std::uint8_t* out) noexcept {
    switch (type) {
        case BlockType::q8_k: return encode_q8_k(x, out);
        case BlockType::mxfp4: return encode_mxfp4(x, out);
        case BlockType::nvfp4: return encode_nvfp4(x, out);
        case BlockType::tq1_0:
        case BlockType::tq2_0:
        case BlockType::q2_0: return encode_ternary(type, x, out);
        case BlockType::q1_0: return encode_signs(x, out);
        default: return;
    }
}

}  // namespace fewbit::inline v0::ggml::detail
