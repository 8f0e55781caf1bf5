// What products in tiles of AMX (int8_matrices.hpp) do beside the tiles, in registers of 512 bits.
#pragma once

#include "kernels/tile16/lanes_avx512.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct LanesAmx : Avx512 {
    static constexpr bool signed_weights = true;

    /// Adds codes of four rows, which stand together, to sums whose word r % 4 belongs to row r.
    static Ints add_codes(Ints sums, Bytes four_rows) { return dot(sums, _mm512_set1_epi8(1), four_rows); }
    static void store_four_sums(Ints sums, std::int32_t* to) {
        const __m256i half =
            _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_maskz_extracti64x4_epi64(15, sums, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                         _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
    }
    static Bytes subtract_bytes(Bytes a, Bytes b) { return _mm512_sub_epi8(a, b); }
    /// The lowest byte of each word of 32 bits, four times.
    static Bytes repeat_byte(Ints v) {
        return _mm512_mullo_epi32(_mm512_and_si512(v, _mm512_set1_epi32(255)), _mm512_set1_epi32(0x01010101));
    }
    /// (Not the intrinsic: g++ 12 takes its undefined operand for a mistake of ours.)
    static Floats to_floats(Ints v) { return __builtin_convertvector(reinterpret_cast<__v16si>(v), __v16sf); }
    static Ints subtract(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
    /// `Run` of K, 16 or 64, of each of four rows, from where they stand four together to rows `row_bytes` apart.
    /// Returns `sums` with their codes added (add_codes).
    template <int Run>
    static Ints part_rows(const std::int8_t* together, std::int8_t* to, std::size_t row_bytes, Ints sums) {
        // Sixteen of K: those of a row are a quarter of a register.
        const auto sixteen = [&](std::size_t i) {
            const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            const __m512i v = _mm512_loadu_si512(together + 64 * i);
            sums = add_codes(sums, v);
            return _mm512_maskz_permutexvar_epi32(0xFFFF, order, v);
        };
        if constexpr (Run == 16) {
            const auto store = [&](std::size_t row, __m128i v) {
                _mm_storeu_si128(reinterpret_cast<__m128i*>(to + row * row_bytes), v);
            };
            const __m512i v = sixteen(0);
            store(0, _mm512_castsi512_si128(v));
            store(1, _mm512_maskz_extracti32x4_epi32(15, v, 1));
            store(2, _mm512_maskz_extracti32x4_epi32(15, v, 2));
            store(3, _mm512_maskz_extracti32x4_epi32(15, v, 3));
        } else {
            static_assert(Run == 64);
            const __m512i a = sixteen(0), b = sixteen(1), c = sixteen(2), d = sixteen(3);
            constexpr int low = 0x44, high = 0xEE, even = 0x88, odd = 0xDD;
            const __m512i ab_low = quarters<low>(a, b), cd_low = quarters<low>(c, d);
            const __m512i ab_high = quarters<high>(a, b), cd_high = quarters<high>(c, d);
            const auto store = [&](std::size_t row, __m512i v) {
                _mm512_storeu_si512(to + row * row_bytes, v);
            };
            store(0, quarters<even>(ab_low, cd_low));
            store(1, quarters<odd>(ab_low, cd_low));
            store(2, quarters<even>(ab_high, cd_high));
            store(3, quarters<odd>(ab_high, cd_high));
        }
        return sums;
    }

private:
    /// Two quarters of v and two of w.
    template <int Which>
    static __m512i quarters(__m512i v, __m512i w) {
        return _mm512_maskz_shuffle_i32x4(0xFFFF, v, w, Which);
    }
};

/// For codes of 8 bits, which are tiles as they stand: unsigned.
struct LanesAmxBytes : LanesAmx {
    static constexpr bool signed_weights = false;
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
