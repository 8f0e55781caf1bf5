// Registers of 512 bits for products of float activations (floats.hpp): what Avx512 does, and floats from fields of codes.
#pragma once

#include "kernels/tile16/lanes_avx512.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct Avx512F32 : Avx512 {
    static constexpr std::size_t word_elements = 1;  ///< of K in 4 bytes of x
    static constexpr int tile_rows = 8;           ///< 8 x 3 sums, 3 weights and one of x: 28 of 32 registers
    static constexpr int panel_tiles = 3;         ///< x 8 rows
    static constexpr int few_rows = 32;           ///< with which panels do not pay
    static constexpr bool many_registers = true;  ///< room for the constants of PlacedLevels
    static constexpr bool finds_fast = true;      ///< Table: one instruction for any 16 numbers
    static constexpr int chains = 8, most_parts = 4;  ///< independent sums that hide the latency of dot()
    static constexpr std::size_t chunk_words = 1024;  ///< of K in a panel: 192 KiB of L2

    /// (v & mask) | or_with
    static Bytes and_or(Bytes v, Bytes mask, Bytes or_with) {
        return _mm512_ternarylogic_epi32(v, mask, or_with, 0xEA);
    }
    /// magnitude < least ? a : b
    static Bytes select_below(Bytes magnitude, int least, Bytes a, Bytes b) {
        return _mm512_mask_blend_epi32(_mm512_cmplt_epi32_mask(magnitude, set_bits(least)), b, a);
    }
    /// v, where `magnitude` >= least: v | bits.
    static Bytes or_from(Bytes v, Bytes magnitude, int least, int bits) {
        return _mm512_mask_or_epi32(v, _mm512_cmpge_epi32_mask(magnitude, set_bits(least)), v,
                                    set_bits(bits));
    }
    // (Not the form without a mask: g++ 12 takes its undefined operand for a mistake of ours.)
    static Floats to_floats(Ints v) { return _mm512_maskz_cvtepi32_ps(0xFFFF, v); }
    static Floats as_floats(Bytes v) { return _mm512_castsi512_ps(v); }
    static Bytes as_bits(Floats v) { return _mm512_castps_si512(v); }
    static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }

    /// 16 numbers, found by the low 4 bits of each place.
    using Table = __m512;
    static Table load_table(const float* p) { return _mm512_loadu_ps(p); }
    template <int Shift>
    static Floats find(Table table, Bytes places) {
        return _mm512_permutexvar_ps(shift_right<Shift>(places), table);
    }

    // Words: what a product takes of each channel and row.
    static Floats dot(Floats sum, Floats w, Floats x) { return _mm512_fmadd_ps(w, x, sum); }
    static Floats word(const float* x) { return _mm512_set1_ps(*x); }
    static Floats pack_word(const Floats (&v)[1]) { return v[0]; }
    static Floats pack_exact(const Floats (&v)[1]) { return v[0]; }
    /// Element k of a row, of words `stride` apart.
    static float element(const float* x, std::size_t stride, std::size_t k) { return x[k * stride]; }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
