// Registers of 256 bits for products of f32 activations (floats.hpp): two hold 16 channels, and there are 16 of them.
#pragma once

#include "kernels/tile16/lanes256.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct Avx2F32 : Lanes256 {
    static constexpr std::size_t word_elements = 1;  ///< of K in 4 bytes of x
    static constexpr int tile_rows = 6;            ///< 6 x 2 sums, 2 weights and one of x: 15 of 16 registers
    static constexpr int panel_tiles = 1;          ///< x 6 rows
    static constexpr int few_rows = 2;             ///< with which panels do not pay
    static constexpr bool many_registers = false;  ///< room for the constants of PlacedLevels
    static constexpr bool finds_fast = false;  ///< Table: as many instructions as arithmetic takes, and more
    static constexpr int chains = 4, most_parts = 4;  ///< independent sums of a single row
    static constexpr std::size_t chunk_words = 2048;  ///< of K in a panel: 128 KiB of L2

    /// (v & mask) | or_with
    static Bytes and_or(Bytes v, Bytes mask, Bytes or_with) {
        return _mm256_or_si256(_mm256_and_si256(v, mask), or_with);
    }
    /// magnitude < least ? a : b
    static Bytes select_below(Bytes magnitude, int least, Bytes a, Bytes b) {
        return _mm256_blendv_epi8(b, a, _mm256_cmpgt_epi32(set_bits(least), magnitude));
    }
    /// v, where `magnitude` >= least: v | bits.
    static Bytes or_from(Bytes v, Bytes magnitude, int least, int bits) {
        const Bytes there = _mm256_cmpgt_epi32(magnitude, set_bits(least - 1));
        return _mm256_or_si256(v, _mm256_and_si256(there, set_bits(bits)));
    }
    static Floats as_floats(Bytes v) { return _mm256_castsi256_ps(v); }
    static Bytes as_bits(Floats v) { return _mm256_castps_si256(v); }
    static Ints subtract_ints(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
    static Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }

    /// 16 numbers, found by the low 4 bits of each place: two permutations, which look at three bits.
    struct Table {
        Floats low, high;
    };
    static Table load_table(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
    template <int Shift>
    static Floats find(const Table& table, Bytes places) {
        const Bytes place = shift_right<Shift>(places);
        const Floats fourth = as_floats(shift_left<28 - Shift>(places));  // bit, as a sign
        return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.low, place),
                                _mm256_permutevar8x32_ps(table.high, place), fourth);
    }

    // Words: what a product takes of each channel and row.
    static Floats dot(Floats sum, Floats w, Floats x) { return _mm256_fmadd_ps(w, x, sum); }
    static Floats word(const float* x) { return _mm256_broadcast_ss(x); }
    static Floats pack_word(const Floats (&v)[1]) { return v[0]; }
    static Floats pack_exact(const Floats (&v)[1]) { return v[0]; }
    /// Element k of a row, of words `stride` apart.
    static float element(const float* x, std::size_t stride, std::size_t k) { return x[k * stride]; }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
