// Registers of 512 bits for products of bf16 activations (floats.hpp): words of two elements along K, multiplied and added by
// one instruction. Products of two bf16 are exact in f32.
#pragma once

#include "kernels/tile16/lanes_avx512_f32.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct Avx512Bf16 : Avx512F32 {
    static constexpr std::size_t word_elements = 2;

    static Floats dot(Floats sum, Floats w, Floats x) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(x));
    }
    /// Two numbers of each channel, rounded to bf16.
    static Floats pack_word(const Floats (&v)[2]) {
        // The first register's numbers are the lower half; words alternate.
        const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(v[1], v[0]));
        const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                               7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        return as_floats(_mm512_permutexvar_epi16(order, both));
    }
    /// Two that are bf16 already.
    static Floats pack_exact(const Floats (&v)[2]) {
        return as_floats(_mm512_or_si512(shift_right<16>(as_bits(v[0])), as_bits(v[1])));
    }
    static float element(const float* x, std::size_t i) {
        std::uint32_t word;
        std::memcpy(&word, x, sizeof word);
        word = i == 0 ? word << 16 : word & 0xFFFF0000u;
        float value;
        std::memcpy(&value, &word, sizeof value);
        return value;
    }
    static Table load_table(const float* p) {
        const __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(p)));
        return as_floats(shift_left<16>(_mm512_cvtepu16_epi32(rounded)));
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
