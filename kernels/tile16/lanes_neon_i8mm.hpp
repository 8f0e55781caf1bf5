// Registers of 128 bits with smmla, a product of matrices: two rows of x times two channels of W, eight of K each. Sums of
// two rows and two channels share a register:
//
//   x      row r: k..k+7 | row r + 1: k..k+7          as x stands, with runs of eight
//   w      channel c     | channel c + 1              as panels are filled: fours of K of 4 channels, interleaved
//   sums   (r, c) | (r, c + 1) | (r + 1, c) | (r + 1, c + 1)
#pragma once

#include "kernels/tile16/lanes_neon_dotprod.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct NeonI8mm : LanesNeon {
    using Few =
        NeonDotprod<8>;  ///< interleaving costs more than it saves where each weight is met by few rows
    static constexpr int registers = 8;         ///< for 16 channels
    static constexpr std::size_t channels = 2;  ///< of a register
    static constexpr int rows = 2, depth = 8, run = 8;
    static constexpr std::size_t chunk_elements = 2048;

    static Bytes quad(const std::int8_t* x) { return vld1q_s8(x); }
    static Ints dot(Ints sum, Bytes w, Bytes x) { return vmmlaq_s32(sum, x, w); }
    /// Runs of eight of four channels from their fours a and b.
    static void store_runs(std::uint8_t* p, Bytes a, Bytes b) {
        const int32x4_t first = vreinterpretq_s32_s8(a), second = vreinterpretq_s32_s8(b);
        store_bytes(p, vreinterpretq_s8_s32(vzip1q_s32(first, second)));
        store_bytes(p + 16, vreinterpretq_s8_s32(vzip2q_s32(first, second)));
    }

    /// A number of each of two rows, for both channels. (Reads two more, where there is room for them.)
    static Ints ints_of_rows(const std::int32_t* p) { return vzip1q_s32(vld1q_s32(p), vld1q_s32(p)); }
    static Floats floats_of_rows(const float* p) { return vzip1q_f32(vld1q_f32(p), vld1q_f32(p)); }
    /// Of a row like a, and one like b.
    static Floats join(Floats a, Floats b) { return vcombine_f32(vget_low_f32(a), vget_high_f32(b)); }
    static Floats second_row(Floats v) { return vcombine_f32(vget_high_f32(v), vget_high_f32(v)); }
    /// Numbers of the first `count` of two channels, for both rows; zeros behind them.
    static Floats load_part(const float* p, std::size_t count) {
        const float32x2_t both = count < 2 ? vset_lane_f32(*p, vdup_n_f32(0), 0) : vld1_f32(p);
        return vcombine_f32(both, both);
    }
    static void store_part(float* p, std::size_t count, Floats v) {
        if (count < 2)
            *p = vgetq_lane_f32(v, 0);
        else
            vst1_f32(p, vget_low_f32(v));
    }
    using LanesNeon::load;
    static Floats load(const std::uint8_t* p, Scalar type, std::size_t index) {
        const auto both = [](std::uint64_t bits) { return bits << 32 | bits; };
        switch (type) {
            case Scalar::f32: return load_part(reinterpret_cast<const float*>(p) + index, 2);
            case Scalar::e8m0: return powers(two(vcreate_u8(word(p + index, 2))));
            default: return from_halves(vcreate_u16(both(word(p + 2 * index, 4))), type);
        }
    }
    static Floats load_signed(const std::uint8_t* p) {
        const int32x2_t both = vget_low_s32(widened_signed(word(p, 2)));
        return vcvtq_f32_s32(vcombine_s32(both, both));
    }
    static Ints bytes_to_ints(const std::uint8_t* p) {
        return vreinterpretq_s32_u32(two(vcreate_u8(word(p, 2))));
    }
    static Ints nibbles_to_ints(const std::uint8_t* p, std::size_t first) {
        return vreinterpretq_s32_u32(two(nibbles(word(p + first / 2, 1))));
    }

    // Of quantize.hpp: as LanesNeon has them, in runs of eight.
    static void store_codes(const Codes (&codes)[activation_tile_rows], std::size_t count, std::int8_t* out) {
        if (count == 1) return vst1q_s8(out, codes[0]);
        int64x2_t c[activation_tile_rows];
        for (std::size_t r = 0; r < activation_tile_rows; ++r) c[r] = vreinterpretq_s64_s8(codes[r]);
        const auto store = [&](std::int8_t* to, int64x2_t a, int64x2_t b) {
            vst1q_s8(to, vreinterpretq_s8_s64(a));
            vst1q_s8(to + 16, vreinterpretq_s8_s64(b));
        };
        store(out, vzip1q_s64(c[0], c[1]), vzip1q_s64(c[2], c[3]));
        store(out + 8 * count, vzip2q_s64(c[0], c[1]), vzip2q_s64(c[2], c[3]));
    }
    static void store_sums(const std::int8_t* codes, std::size_t begin, std::size_t end, std::size_t count,
                           std::int32_t* out) {
        int32x4_t low = vdupq_n_s32(0), high = low;  // two halves of each run
        for (std::size_t k = begin; k < end; k += 8) {
            low = vpadalq_s16(low, vpaddlq_s8(vld1q_s8(codes + k * count)));
            high = vpadalq_s16(high, vpaddlq_s8(vld1q_s8(codes + k * count + 16)));
        }
        vst1q_s32(out, vpaddq_s32(low, high));
    }

private:
    /// The first two bytes, widened, twice.
    static uint32x4_t two(uint8x8_t bytes) {
        const uint32x4_t v = widened(bytes);
        return vcombine_u32(vget_low_u32(v), vget_low_u32(v));
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
