// Registers of 512 bits for products of bf16 activations (floats.hpp): words of two elements, multiplied and added
// by one instruction. Products of two bf16 are exact in f32.
#pragma once

#include "kernels/tile16/lanes_avx512_f32.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct Avx512Bf16 : Avx512F32 {
    static constexpr std::size_t word_elements = 2;
    static constexpr int chains = 12, most_parts = 8, few_rows = 8;

    /// (Not as a float, or g++ does not put the broadcast into the product.)
    static Floats word(const float* x) {
        int bits;
        std::memcpy(&bits, x, sizeof bits);
        return as_floats(_mm512_set1_epi32(bits));
    }
    static Floats dot(Floats sum, Floats w, Floats x) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(x));
    }
    /// Two numbers of each channel, rounded to bf16.
    static Floats pack_word(const Floats (&v)[2]) {
        // The first register's numbers are the lower half; words alternate.
        const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(v[1], v[0]));
        const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                               23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        return as_floats(_mm512_permutexvar_epi16(order, both));
    }
    /// 32 numbers along K, rounded to bf16.
    static Floats round_neighbours(Floats first, Floats second) {
        return reinterpret_cast<Floats>(_mm512_cvtne2ps_pbh(second, first));
    }
    /// Two that are bf16 already.
    static Floats pack_exact(const Floats (&v)[2]) {
        return as_floats(_mm512_or_si512(shift_right<16>(as_bits(v[0])), as_bits(v[1])));
    }
    static float element(const float* x, std::size_t stride, std::size_t k) {
        std::uint32_t word;
        std::memcpy(&word, x + (k / 4 * 2 + k % 2) * stride, sizeof word);
        word = k % 4 < 2 ? word << 16 : word & 0xFFFF0000u;
        float value;
        std::memcpy(&value, &word, sizeof value);
        return value;
    }
    /// 16 numbers in bf16, twice: places of 5 bits find them by their lower 4.
    static Bytes load_pairs(const float* p) {
        const __m512i rounded =
            _mm512_castsi256_si512(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(p))));
        return _mm512_maskz_shuffle_i64x2(0xFF, rounded, rounded, 0x44);
    }
    /// The numbers of both halves of each word of places.
    template <int Shift>
    static Floats find_pairs(Bytes table, Bytes places) {
        return as_floats(_mm512_permutexvar_epi16(_mm512_srli_epi16(places, Shift), table));
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
