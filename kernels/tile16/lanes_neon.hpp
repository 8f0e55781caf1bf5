// Registers of 128 bits for tile16 (int8.hpp) on 64-bit Arm: four hold 16 channels. Codes and levels are multiplied as
// signed bytes: those of 4 bits as they are, those of 8 less 128.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "kernels/tile16/constants.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// What does not depend on how products are made.
struct LanesNeon {
    using Bytes = int8x16_t;
    using X = std::int8_t;  ///< what x is multiplied as
    using Ints = int32x4_t;
    using Narrow = int16x8_t;
    using Floats = float32x4_t;
    using Codes = int8x16_t;                    ///< sixteen of a row of x
    static constexpr int registers = 4;         ///< for 16 channels
    static constexpr std::size_t channels = 4;  ///< of a register
    static constexpr std::size_t register_bytes = 16;
    static constexpr int rows = 1;                ///< of x in a register of sums
    static constexpr int depth = 4;               ///< elements of K that dot() sums
    static constexpr int run = 4;                 ///< of a row that stand together in x
    static constexpr int x_quads = 1;             ///< fours of x that quad() loads
    static constexpr int chains = 8;              ///< two a cycle of four cycles, with or without forwarding
    static constexpr int narrow_quads = 0;        ///< sums of 16 bits: none
    static constexpr int halves = 1;              ///< of x, multiplied one after the other
    static constexpr bool signed_weights = true;  ///< of dot()
    static constexpr int tile_rows = 4, few_rows = 4, panel_tiles = 1;
    static constexpr int side_by_side(int, int) { return 1; }
    static bool prefers_streams() { return false; }
    static constexpr bool streams_go_on = false;
    /// Sixteen sums leave too few of 32 registers for sixteen totals: told so, compilers move nothing about in the loop.
    static constexpr bool holds_totals = false;
    static constexpr bool nests = false, scales_ints = false;
    static constexpr std::size_t chunk_elements = 1024;  ///< of K in a panel: 16 KiB, half of the smallest L1

    static void fetch(const void*) {}  // panels lie in L1
    static void fetch_ahead(const void* p) { __asm__ volatile("prfm pldl2keep, [%0]" : : "r"(p)); }

    static Bytes load_bytes(const std::uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
    static Bytes load_in_order(const std::uint8_t* p) { return load_bytes(p); }
    static void store_bytes(std::uint8_t* p, Bytes v) { vst1q_u8(p, vreinterpretq_u8_s8(v)); }
    static Bytes low_nibbles(Bytes v) { return vandq_s8(v, vdupq_n_s8(15)); }
    static Bytes high_nibbles(Bytes v) { return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(v), 4)); }
    static Bytes table(const std::int8_t* levels) { return vld1q_s8(levels); }
    static Bytes look_up(Bytes table, Bytes places) { return vqtbl1q_s8(table, vreinterpretq_u8_s8(places)); }
    static Bytes flip_signs(Bytes v) { return veorq_s8(v, vdupq_n_s8(-128)); }

    // Bits of all channels, in words of 32.
    static Bytes set_bits(int v) { return vreinterpretq_s8_s32(vdupq_n_s32(v)); }
    static Bytes bit_and(Bytes a, Bytes b) { return vandq_s8(a, b); }
    static Bytes bit_or(Bytes a, Bytes b) { return vorrq_s8(a, b); }
    /// mask ? a : b
    static Bytes either(Bytes mask, Bytes a, Bytes b) { return vbslq_s8(vreinterpretq_u8_s8(mask), a, b); }
    template <int Bits>
    static Bytes shift_right(Bytes v) {
        return vreinterpretq_s8_u32(vshrq_n_u32(vreinterpretq_u32_s8(v), Bits));
    }
    template <int Bits>
    static Bytes shift_left(Bytes v) {
        return vreinterpretq_s8_u32(vshlq_n_u32(vreinterpretq_u32_s8(v), Bits));
    }
    /// Words of 16 bits, widened to 32.
    static Bytes load_words(const std::uint8_t* p) {
        return vreinterpretq_s8_u32(vmovl_u16(vcreate_u16(word(p, 8))));
    }

    static Ints zero_ints() { return vdupq_n_s32(0); }
    static Ints set_int(std::int32_t v) { return vdupq_n_s32(v); }
    static Ints add(Ints a, Ints b) { return vaddq_s32(a, b); }
    static Ints multiply_ints(Ints a, Ints b) { return vmulq_s32(a, b); }
    static Ints load_ints(const std::int32_t* p) { return vld1q_s32(p); }
    static void store_ints(std::int32_t* p, Ints v) { vst1q_s32(p, v); }
    static Ints bytes_to_ints(const std::uint8_t* p) {
        return vreinterpretq_s32_u32(widened(vcreate_u8(word(p, 4))));
    }
    /// Four codes of 4 bits from number `first` on, two a byte, low nibble first.
    static Ints nibbles_to_ints(const std::uint8_t* p, std::size_t first) {
        return vreinterpretq_s32_u32(widened(nibbles(word(p + first / 2, 2))));
    }

    static Floats zero() { return vdupq_n_f32(0); }
    static Floats set(float v) { return vdupq_n_f32(v); }
    static Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
    static Floats multiply(Floats a, Floats b) { return vmulq_f32(a, b); }
    static Floats multiply_add(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
    static Floats to_floats(Ints v) { return vcvtq_f32_s32(v); }
    static Floats load(const float* p) { return vld1q_f32(p); }
    static void store(float* p, Floats v) { vst1q_f32(p, v); }
    static Floats load(const std::uint8_t* p, Scalar type, std::size_t index) {
        switch (type) {
            case Scalar::f32: return vld1q_f32(reinterpret_cast<const float*>(p) + index);
            case Scalar::e8m0: return powers(widened(vcreate_u8(word(p + index, 4))));
            default: return from_halves(vcreate_u16(word(p + 2 * index, 8)), type);
        }
    }
    /// Numbers from -128 to 127.
    static Floats load_signed(const std::uint8_t* p) { return vcvtq_f32_s32(widened_signed(word(p, 4))); }
    static Floats broadcast(const std::uint8_t* p, Scalar type) {
        switch (type) {
            case Scalar::f32:
                return vreinterpretq_f32_u32(vdupq_n_u32(static_cast<std::uint32_t>(word(p, 4))));
            case Scalar::e8m0: return powers(vdupq_n_u32(*p));
            default: return from_halves(vdup_n_u16(static_cast<std::uint16_t>(word(p, 2))), type);
        }
    }
    /// The first `count` numbers, 1 to 3; zeros behind them.
    static Floats load_part(const float* p, std::size_t count) {
        Floats v = vld1q_lane_f32(p, zero(), 0);
        if (count > 1) v = vld1q_lane_f32(p + 1, v, 1);
        if (count > 2) v = vld1q_lane_f32(p + 2, v, 2);
        return v;
    }
    static void store_part(float* p, std::size_t count, Floats v) {
        vst1q_lane_f32(p, v, 0);
        if (count > 1) vst1q_lane_f32(p + 1, v, 1);
        if (count > 2) vst1q_lane_f32(p + 2, v, 2);
    }

    // Of quantize.hpp.
    using Magnitudes = int32x4_t;
    static Magnitudes no_magnitudes() { return vdupq_n_s32(0); }
    static Magnitudes larger(Magnitudes most, const float* p) {
        for (int i = 0; i < 4; ++i) most = larger(most, vld1q_f32(p + 4 * i));
        return most;
    }
    static Magnitudes larger(Magnitudes most, const float* p, std::size_t count) {
        const Sixteen x(p, count);
        return larger(most, x.values);
    }
    static std::int32_t largest(Magnitudes v) { return vmaxvq_s32(v); }
    /// Codes of the first `count` of 16 values; zeros behind them.
    static Codes codes(const float* p, std::size_t count, float scale, int largest_code) {
        if (count >= 16) return codes(p, scale, largest_code);
        const Sixteen x(p, count);
        return codes(x.values, scale, largest_code);
    }
    /// Sixteen codes of each of `count` rows to where their tile has them; what follows them there may be overwritten.
    static void store_codes(const Codes (&codes)[activation_tile_rows], std::size_t count, std::int8_t* out) {
        if (count == 1) return vst1q_s8(out, codes[0]);
        int32x4_t c[activation_tile_rows];
        for (std::size_t r = 0; r < activation_tile_rows; ++r) c[r] = vreinterpretq_s32_s8(codes[r]);
        const auto store = [&](std::size_t quad, int32x4_t a, int32x4_t b) {
            const int64x2_t low = vreinterpretq_s64_s32(a), high = vreinterpretq_s64_s32(b);
            vst1q_s8(out + 4 * count * quad, vreinterpretq_s8_s64(vzip1q_s64(low, high)));
            vst1q_s8(out + 4 * count * (quad + 1), vreinterpretq_s8_s64(vzip2q_s64(low, high)));
        };
        store(0, vzip1q_s32(c[0], c[1]), vzip1q_s32(c[2], c[3]));
        store(2, vzip2q_s32(c[0], c[1]), vzip2q_s32(c[2], c[3]));
    }
    /// Sums of codes [begin, end) of the rows of a tile; three numbers after them may be overwritten.
    static void store_sums(const std::int8_t* codes, std::size_t begin, std::size_t end, std::size_t count,
                           std::int32_t* out) {
        int32x4_t sums = vdupq_n_s32(0);
        for (std::size_t k = begin; k < end; k += 4)
            sums = vpadalq_s16(sums, vpaddlq_s8(vld1q_s8(codes + k * count)));
        vst1q_s32(out, sums);
    }

protected:
    /// `bytes` bytes at p as a number.
    static std::uint64_t word(const std::uint8_t* p, std::size_t bytes) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, p, bytes);
        return bits;
    }
    static uint32x4_t widened(uint8x8_t bytes) { return vmovl_u16(vget_low_u16(vmovl_u8(bytes))); }
    static int32x4_t widened_signed(std::uint64_t bytes) {
        return vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(bytes))));
    }
    /// Four nibbles as bytes, the low one first.
    static uint8x8_t nibbles(std::uint64_t two_bytes) {
        const uint8x8_t both = vcreate_u8(two_bytes);
        return vzip1_u8(vand_u8(both, vdup_n_u8(15)), vshr_n_u8(both, 4));
    }
    /// From f16 or bf16.
    static Floats from_halves(uint16x4_t bits, Scalar type) {
        return type == Scalar::f16 ? vcvt_f32_f16(vreinterpret_f16_u16(bits))
                                   : vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
    }
    /// Powers of two from their exponents, 0 (the subnormal 2^-127) and 255 (NaN) included.
    static Floats powers(uint32x4_t exponents) {
        const uint32x4_t subnormal = vdupq_n_u32(0x00400000);
        const uint32x4_t power = vmaxq_u32(vshlq_n_u32(exponents, 23), subnormal);
        const uint32x4_t nan = vceqq_u32(exponents, vdupq_n_u32(255));
        return vreinterpretq_f32_u32(vorrq_u32(power, vandq_u32(nan, subnormal)));
    }

private:
    /// The first `count` of 16 numbers, zeros behind them.
    struct Sixteen {
        Sixteen(const float* p, std::size_t count) {
            std::memcpy(values, p, smaller(count, 16) * sizeof(float));
        }
        float values[16] = {};
    };
    static Magnitudes larger(Magnitudes most, Floats v) {
        return vmaxq_s32(most, vandq_s32(vreinterpretq_s32_f32(v), vdupq_n_s32(0x7FFFFFFF)));
    }
    static Codes codes(const float* p, float scale, int largest_code) {
        const auto rounded = [&](int i) {
            return vqmovn_s32(vcvtnq_s32_f32(vdivq_f32(vld1q_f32(p + 4 * i), vdupq_n_f32(scale))));
        };
        const auto clamped = [&](int i) {
            const int16x8_t v = vcombine_s16(rounded(i), rounded(i + 1));
            const int16x8_t most = vdupq_n_s16(static_cast<std::int16_t>(largest_code));
            return vmovn_s16(vmaxq_s16(vminq_s16(v, most), vnegq_s16(most)));
        };
        return vcombine_s8(clamped(0), clamped(2));
    }
};

/// ARMv8.0: products in 16 bits, neighbours added in 16 bits, their sums added in 32.
struct Neon : LanesNeon {
    using Few = Neon;
    static_assert(2 * 128 * 127 <= 32767);  // activations lie in -127..127

    /// Four activations for every channel.
    static Bytes quad(const std::int8_t* x) {
        return vreinterpretq_s8_u32(
            vdupq_n_u32(static_cast<std::uint32_t>(word(reinterpret_cast<const std::uint8_t*>(x), 4))));
    }
    static Ints dot(Ints sum, Bytes w, Bytes x) {
        const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
        return vpadalq_s16(sum, vpaddq_s16(low, high));
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
