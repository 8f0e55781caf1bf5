// The bytes of ggml's blocks: codes in and out (unpack.hpp), parameters of a group. One byte per code in memory, in the
// order of the weights. (d, m, dmin: f16 scales; qs: codes; offsets in bytes.)
//
//   halves   32 codes of 4 bits in 16 bytes: byte j = code j | code 16 + j << 4
//            q4_0 d qs@2 · q4_1 d m qs@4 · q5_0 d qh@2 qs@6 · q5_1 d m qh@4 qs@8 (qh: bit i = fifth bit of i)
//            iq4_nl d qs@2 · mxfp4 e qs@1 · iq4_xs d scales@2 8 x qs@8 · nvfp4 4 scales, 4 x 16 codes in 8 bytes
//   planes   128 codes of 2 bits in 32 bytes: byte l = codes l, 32 + l, 64 + l, 96 + l, low bits first
//            q2_k scales@0 qs@16 d@80 dmin@82 · tq2_0 qs@0 d@64 · q3_k hmask@0 qs@32 scales@96 d@108
//   pairs    64 codes of 4 bits in 32 bytes: byte l = code l | code 32 + l << 4
//            q4_k d dmin scales@4 qs@16 · q5_k d dmin scales@4 qh@16 qs@48 (bit g of qh[l]: code l of group g)
//   q6_k     ql@0 qh@128 scales@192 d@208 · q8_0 d qs@2 · q8_k d(f32) qs@4 sums@260
//   tq1_0    5 trits a byte, qs@0 qh@48 d@52 · q1_0 d, 1 bit each @2 · q2_0 d, 2 bits each @2
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>

#include "fewbit/core/scalar.hpp"
#include "fewbit/formats/ggml/types.hpp"
#include "fewbit/formats/ggml/unpack.hpp"

namespace fewbit::inline v0::ggml {

/// What the codes of one group are multiplied with; offset is 0 unless the grid is Grid::real.
struct GroupParameters {
    float scale = 0;
    float offset = 0;
};

namespace detail {

[[nodiscard]] inline std::uint16_t load16(Bytes p) noexcept {
    return static_cast<std::uint16_t>(p[0] | p[1] << 8);
}
[[nodiscard]] inline float load_half(Bytes p) noexcept { return float_from_f16(load16(p)); }
inline void store16(std::uint8_t* p, std::uint32_t value) noexcept {
    p[0] = static_cast<std::uint8_t>(value);
    p[1] = static_cast<std::uint8_t>(value >> 8);
}
inline void store_half(std::uint8_t* p, float value) noexcept { store16(p, f16_from_float(value)); }
[[nodiscard]] inline std::uint32_t load32(Bytes p) noexcept {
    return load16(p) | static_cast<std::uint32_t>(load16(p + 2)) << 16;
}
inline void store32(std::uint8_t* p, std::uint32_t value) noexcept {
    store16(p, value);
    store16(p + 2, value >> 16);
}
/// ORs `value` into a byte: blocks are cleared before codes are put.
inline void put(std::uint8_t& byte, unsigned value) noexcept {
    byte = static_cast<std::uint8_t>(byte | value);
}

inline void halves_out(const std::uint8_t* codes, std::uint8_t* qs, std::size_t half) noexcept {
    for (std::size_t j = 0; j < half; ++j)
        qs[j] = static_cast<std::uint8_t>((codes[j] & 15) | codes[half + j] << 4);
}
/// The fifth bits of 32 codes.
[[nodiscard]] inline std::uint32_t fifth_out(const std::uint8_t* codes) noexcept {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 32; ++i) bits |= static_cast<std::uint32_t>(codes[i] >> 4 & 1) << i;
    return bits;
}
/// 256 codes whose two low bits stand in planes.
inline void planes_out(const std::uint8_t* codes, std::uint8_t* qs) noexcept {
    for (std::size_t i = 0; i < 256; ++i)
        put(qs[i / 128 * 32 + i % 32], (codes[i] & 3u) << (2 * (i % 128 / 32)));
}

/// The 6-bit scale and minimum of group g < 8 of q4_k and q5_k.
struct ScaleMin {
    int scale, min;
};
[[nodiscard]] inline ScaleMin scale_min(Bytes s, std::size_t g) noexcept {
    if (g < 4) return {s[g] & 63, s[g + 4] & 63};
    return {(s[g + 4] & 15) | (s[g - 4] >> 6) << 4, s[g + 4] >> 4 | (s[g] >> 6) << 4};
}
inline void put_scale_min(std::uint8_t* s, std::size_t g, ScaleMin value) noexcept {
    const auto scale = static_cast<unsigned>(value.scale), min = static_cast<unsigned>(value.min);
    if (g < 4) {
        put(s[g], scale);
        put(s[g + 4], min);
    } else {
        put(s[g + 4], (scale & 15) | (min & 15) << 4);
        put(s[g - 4], scale >> 4 << 6);
        put(s[g], min >> 4 << 6);
    }
}
/// The 6-bit scale code of group g < 16 of q3_k; 32 is 0.
[[nodiscard]] inline int q3_scale(Bytes s, std::size_t g) noexcept {
    const int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
    return low | (s[8 + g % 4] >> (2 * (g / 4)) & 3) << 4;
}
inline void put_q3_scale(std::uint8_t* s, std::size_t g, unsigned code) noexcept {
    put(s[g % 8], g < 8 ? code & 15 : (code & 15) << 4);
    put(s[8 + g % 4], code >> 4 << (2 * (g / 4)));
}
/// The 6-bit scale code of group g < 8 of iq4_xs; 32 is 0. `block` is the whole block.
[[nodiscard]] inline int iq4_scale(Bytes block, std::size_t g) noexcept {
    const int low = block[4 + g / 2] >> (4 * (g % 2)) & 15;
    return low | (load16(block + 2) >> (2 * g) & 3) << 4;
}
inline void put_iq4_scale(std::uint8_t* block, std::size_t g, unsigned code) noexcept {
    put(block[4 + g / 2], (code & 15) << (4 * (g % 2)));
    store16(block + 2, load16(block + 2) | code >> 4 << (2 * g));
}
/// nvfp4's scale: E4M3 whose sign bit is ignored; 0x7F is 0, 0xFF is 480. Half of it, because the codebook is
/// doubled.
[[nodiscard]] constexpr float nvfp4_scale(std::uint8_t byte) noexcept {
    if (byte == 0x7F) return 0;
    return 0.5f * (byte == 0xFF ? 480.0f : float_from_fp8_e4m3(byte & 0x7F));
}
/// 2^(e - 128), e = 0 and 1 subnormal.
[[nodiscard]] constexpr float mxfp4_scale(std::uint8_t e) noexcept {
    return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<std::uint32_t>(e - 1) << 23);
}

/// tq1_0: where trit i of 256 is, and its power of 3.
struct TritPlace {
    std::size_t byte, trit;
};
[[nodiscard]] inline TritPlace trit_place(std::size_t i) noexcept {
    if (i < 160) return {i % 32, i / 32};
    if (i < 240) return {32 + (i - 160) % 16, (i - 160) / 16};
    return {48 + (i - 240) % 4, (i - 240) / 4};
}
inline constexpr unsigned powers_of_3[5]{1, 3, 9, 27, 81};
}  // namespace detail

/// Puts codes into a block; the bytes that hold them are overwritten, parameters stay. q8_k's sums, which only
/// repeat the codes, are made.
inline void pack_codes(BlockType type, const std::uint8_t* codes, std::uint8_t* block) noexcept {
    using namespace detail;
    const auto clear = [block](std::size_t first, std::size_t bytes) {
        std::memset(block + first, 0, bytes);
    };
    switch (type) {
        case BlockType::q4_0:
        case BlockType::iq4_nl: return halves_out(codes, block + 2, 16);
        case BlockType::q4_1: return halves_out(codes, block + 4, 16);
        case BlockType::mxfp4: return halves_out(codes, block + 1, 16);
        case BlockType::q5_0: store32(block + 2, fifth_out(codes)); return halves_out(codes, block + 6, 16);
        case BlockType::q5_1: store32(block + 4, fifth_out(codes)); return halves_out(codes, block + 8, 16);
        case BlockType::nvfp4:
            for (std::size_t g = 0; g < 4; ++g) halves_out(codes + 16 * g, block + 4 + 8 * g, 8);
            return;
        case BlockType::iq4_xs:
            for (std::size_t g = 0; g < 8; ++g) halves_out(codes + 32 * g, block + 8 + 16 * g, 16);
            return;
        case BlockType::q8_0:
            for (std::size_t i = 0; i < 32; ++i) block[2 + i] = codes[i] ^ 0x80;
            return;
        case BlockType::q8_k:
            for (std::size_t g = 0; g < 16; ++g) {
                int sum = 0;
                for (std::size_t i = 16 * g; i < 16 * g + 16; ++i) {
                    block[4 + i] = codes[i] ^ 0x80;
                    sum += codes[i] - 128;
                }
                store16(block + 260 + 2 * g, static_cast<std::uint32_t>(sum));
            }
            return;
        case BlockType::q2_k: clear(16, 64); return planes_out(codes, block + 16);
        case BlockType::tq2_0: clear(0, 64); return planes_out(codes, block);
        case BlockType::q3_k:
            clear(0, 96);
            planes_out(codes, block + 32);
            for (std::size_t i = 0; i < 256; ++i) put(block[i % 32], (codes[i] >> 2 & 1u) << (i / 32));
            return;
        case BlockType::q4_k:
            for (std::size_t p = 0; p < 4; ++p) halves_out(codes + 64 * p, block + 16 + 32 * p, 32);
            return;
        case BlockType::q5_k:
            clear(16, 32);
            for (std::size_t p = 0; p < 4; ++p) halves_out(codes + 64 * p, block + 48 + 32 * p, 32);
            for (std::size_t i = 0; i < 256; ++i) put(block[16 + i % 32], (codes[i] >> 4 & 1u) << (i / 32));
            return;
        case BlockType::q6_k:
            clear(128, 64);
            for (std::size_t h = 0; h < 2; ++h) halves_out(codes + 128 * h, block + 64 * h, 64);
            for (std::size_t i = 0; i < 256; ++i)
                put(block[128 + i / 128 * 32 + i % 32], (codes[i] >> 4 & 3u) << (2 * (i % 128 / 32)));
            return;
        case BlockType::tq1_0: {
            // The five trits as a fraction of 3^5, scaled so that multiplying by powers of 3 brings them out.
            unsigned sums[52] = {};
            for (std::size_t i = 0; i < 256; ++i) {
                const auto [byte, trit] = trit_place(i);
                sums[byte] += codes[i] * powers_of_3[4 - trit];
            }
            for (std::size_t b = 0; b < 52; ++b)
                block[b] = static_cast<std::uint8_t>((sums[b] * 256 + 242) / 243);
            return;
        }
        case BlockType::q1_0:
            clear(2, 16);
            for (std::size_t i = 0; i < 128; ++i) put(block[2 + i / 8], (codes[i] & 1u) << (i % 8));
            return;
        case BlockType::q2_0:
            clear(2, 16);
            for (std::size_t i = 0; i < 64; ++i) put(block[2 + i / 4], (codes[i] & 3u) << (2 * (i % 4)));
            return;
    }
}

/// Integer scales of a group under those of its block.
struct GroupFactors {
    int scale = 0;    ///< -128 to 127
    int minimum = 0;  ///< 0 to 63
};

/// Those of group g. Precondition: has_two_levels(type).
[[nodiscard]] inline GroupFactors group_factors(BlockType type, const std::uint8_t* block,
                                                std::size_t g) noexcept {
    using namespace detail;
    switch (type) {
        case BlockType::q2_k: return {block[g] & 15, block[g] >> 4};
        case BlockType::q3_k: return {q3_scale(block + 96, g) - 32};
        case BlockType::q6_k: return {std::bit_cast<std::int8_t>(block[192 + g])};
        case BlockType::iq4_xs: return {iq4_scale(block, g) - 32};
        default: {
            const auto [scale, minimum] = scale_min(block + 4, g);
            return {scale, minimum};
        }
    }
}

/// Parameters of group g of a block. All products here are exact in f32.
[[nodiscard]] inline GroupParameters group_parameters(BlockType type, const std::uint8_t* block,
                                                      std::size_t g) noexcept {
    using namespace detail;
    if (has_two_levels(type)) {
        const auto [scale, minimum] = group_factors(type, block, g);
        const HalfPlaces halves = half_places(type);
        const float offset =
            halves.minimum ? -(load_half(block + *halves.minimum) * static_cast<float>(minimum)) : 0.0f;
        return {load_half(block + *halves.scale) * static_cast<float>(scale), offset};
    }
    switch (type) {
        case BlockType::q4_1:
        case BlockType::q5_1: return {load_half(block), load_half(block + 2)};
        case BlockType::q8_k: return {std::bit_cast<float>(load32(block))};
        case BlockType::mxfp4: return {mxfp4_scale(block[0])};
        case BlockType::nvfp4: return {nvfp4_scale(block[g])};
        case BlockType::tq1_0: return {load_half(block + 52)};
        case BlockType::tq2_0: return {load_half(block + 64)};
        default: return {load_half(block)};  // q4_0, q5_0, q8_0, iq4_nl, q1_0, q2_0
    }
}

/// The values of a block, each rounded once: the product to f32, or the exact product and the offset's sum.
inline void dequantize_block(BlockType type, const std::uint8_t* block, float* out) noexcept {
    const BlockTraits& t = traits(type);
    const std::span<const float> values = codebook(type);
    std::uint8_t codes[max_block_elements];
    unpack_codes(type, block, codes);
    for (std::size_t g = 0; g < t.elements / t.group; ++g) {
        const auto [scale, offset] = group_parameters(type, block, g);
        for (std::size_t i = g * t.group; i < (g + 1) * t.group; ++i) switch (t.grid) {
                case Grid::integer: out[i] = scale * static_cast<float>(codes[i] - t.zero); break;
                case Grid::codebook: out[i] = scale * values[codes[i]]; break;
                case Grid::real: {
                    const float product = scale * static_cast<float>(codes[i]);
                    out[i] = product + offset;
                }
            }
    }
}

}  // namespace fewbit::inline v0::ggml
