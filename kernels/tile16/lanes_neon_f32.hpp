// Registers of 128 bits for products of f32 activations (floats.hpp) on 64-bit Arm: four hold 16 channels, and there are 32 of them.
#pragma once

#include "kernels/tile16/lanes_neon.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct NeonF32 : LanesNeon {
    static constexpr std::size_t word_elements = 1;  ///< of K in 4 bytes of x
    static constexpr int tile_rows = 6;    ///< 6 x 4 sums, 4 weights and one of x: 29 of 32 registers
    static constexpr int panel_tiles = 1;  ///< x 6 rows
    static constexpr int few_rows = 2;  ///< with which panels do not pay; sums and totals of more fill memory
    static constexpr bool many_registers = false;  ///< room for the constants of PlacedLevels
    static constexpr bool finds_fast = false;      ///< Table: as many instructions as arithmetic takes
    static constexpr int chains = 8,
                         most_parts = 4;  ///< independent sums of a single row: two a cycle of four cycles
    static constexpr std::size_t chunk_words = 1024;  ///< of K in a panel: 64 KiB of L2

    static void fetch(const void* p) { __asm__ volatile("prfm pldl1keep, [%0]" : : "r"(p)); }

    // Bits of all channels, in words of 32.
    template <int Bits>
    static Bytes shift_right(Bytes v) {
        if constexpr (Bits == 0)
            return v;
        else
            return LanesNeon::shift_right<Bits>(v);
    }
    using LanesNeon::add;
    static Bytes add(Bytes a, Bytes b) { return bytes(vaddq_u32(words(a), words(b))); }
    /// magnitude < least ? a : b
    static Bytes select_below(Bytes magnitude, int least, Bytes a, Bytes b) {
        return either(bytes(vcltq_s32(ints(magnitude), vdupq_n_s32(least))), a, b);
    }
    /// v, where `magnitude` >= least: v | bits.
    static Bytes or_from(Bytes v, Bytes magnitude, int least, int bits) {
        const Bytes there = bytes(vcgeq_s32(ints(magnitude), vdupq_n_s32(least)));
        return bit_or(v, bit_and(there, set_bits(bits)));
    }
    static Floats as_floats(Bytes v) { return vreinterpretq_f32_s8(v); }
    static Bytes as_bits(Floats v) { return vreinterpretq_s8_f32(v); }
    static Ints subtract_ints(Bytes a, Ints b) { return vsubq_s32(ints(a), b); }
    static Floats subtract(Floats a, Floats b) { return vsubq_f32(a, b); }

    /// 16 numbers, found by the low 4 bits of each place: four bytes of 64, which lie side by side.
    using Table = uint8x16x4_t;
    static Table load_table(const float* p) {
        const auto part = [p](int i) { return vreinterpretq_u8_f32(vld1q_f32(p + 4 * i)); };
        return {{part(0), part(1), part(2), part(3)}};
    }
    template <int Shift>
    static Floats find(const Table& table, Bytes places) {
        const uint32x4_t place = vandq_u32(words(shift_right<Shift>(places)), vdupq_n_u32(15));
        const uint32x4_t at = vmlaq_u32(vdupq_n_u32(0x03020100), place, vdupq_n_u32(0x04040404));
        return vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_u32(at)));
    }

    // Words: what a product takes of each channel and row.
    static Floats dot(Floats sum, Floats w, Floats x) { return vfmaq_f32(sum, w, x); }
    static Floats word(const float* x) { return vld1q_dup_f32(x); }
    static Floats pack_word(const Floats (&v)[1]) { return v[0]; }
    static Floats pack_exact(const Floats (&v)[1]) { return v[0]; }
    /// Element k of a row, of words `stride` apart.
    static float element(const float* x, std::size_t stride, std::size_t k) { return x[k * stride]; }

private:
    static Bytes bytes(uint32x4_t v) { return vreinterpretq_s8_u32(v); }
    static uint32x4_t words(Bytes v) { return vreinterpretq_u32_s8(v); }
    static Ints ints(Bytes v) { return vreinterpretq_s32_s8(v); }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
