// Registers of 512 bits for tile16 (int8.hpp): one holds 16 channels, and a 64-byte vector of the layout is one load.
#pragma once

#include "kernels/tile16/lanes_x86.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct Avx512 : LanesX86 {
    using Bytes = __m512i;
    using Ints = __m512i;
    using Narrow = __m512i;
    using Floats = __m512;
    using Magnitudes = __m512i;
    using Few = Avx512;                          ///< for few rows of x
    static constexpr int registers = 1;          ///< for 16 channels
    static constexpr std::size_t channels = 16;  ///< of a register
    static constexpr std::size_t register_bytes = 64;
    static constexpr int chains = 4;        ///< independent sums that hide the latency of dot()
    static constexpr int narrow_quads = 0;  ///< sums of 16 bits: none
    static constexpr int halves = 1;        ///< of x, multiplied one after the other
    static constexpr int tile_rows = 12;  ///< straight from the stream: 12 sums and 12 totals of 32 registers
    static constexpr int few_rows = all_rows;  ///< with which panels do not pay
    static constexpr bool nests = true;
    static constexpr int side_by_side(int rows, int bits) {
        return rows <= 2 ? 8 / rows : rows <= 4 && bits > 4 ? 2 : 1;
    }
    static bool prefers_streams() { return cpu_prefers_streams(); }

    static Bytes load_bytes(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
    /// Loads that stay in their order: otherwise the CPU does not see a stream and fetches nothing ahead.
    static Bytes load_in_order(const std::uint8_t* p) {
        Bytes v;
        __asm__ volatile("vmovdqu64 %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const __m512i_u*>(p)));
        return v;
    }
    static void store_bytes(std::uint8_t* p, Bytes v) { _mm512_storeu_si512(p, v); }
    static Bytes low_nibbles(Bytes v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
    static Bytes high_nibbles(Bytes v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
    static Bytes table(const std::int8_t* levels) {
        // (Not the form without a mask: g++ 12 takes its undefined operand for a mistake of ours.)
        return _mm512_maskz_broadcast_i32x4(0xFFFF,
                                            _mm_loadu_si128(reinterpret_cast<const __m128i*>(levels)));
    }
    static Bytes look_up(Bytes table, Bytes places) { return _mm512_shuffle_epi8(table, places); }
    static Bytes flip_signs(Bytes v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
    // Bits of all channels, in words of 32.
    static Bytes set_bits(int v) { return _mm512_set1_epi32(v); }
    static Bytes bit_and(Bytes a, Bytes b) { return _mm512_and_si512(a, b); }
    static Bytes bit_or(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
    /// mask ? a : b
    static Bytes either(Bytes mask, Bytes a, Bytes b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xCA); }
    // (Not the intrinsics: g++ 12 takes their undefined operand for a mistake of ours.)
    template <int Bits>
    static Bytes shift_right(Bytes v) {
        return reinterpret_cast<Bytes>(reinterpret_cast<__v16su>(v) >> Bits);
    }
    template <int Bits>
    static Bytes shift_left(Bytes v) {
        return reinterpret_cast<Bytes>(reinterpret_cast<__v16su>(v) << Bits);
    }
    /// Words of 16 bits, widened to 32.
    static Bytes load_words(const std::uint8_t* p) {
        return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }

    /// Four activations for every channel.
    static Bytes quad(const std::int8_t* x) {
        int word;
        std::memcpy(&word, x, sizeof word);
        return _mm512_set1_epi32(word);
    }

    static Ints zero_ints() { return _mm512_setzero_si512(); }
    static Ints set_int(std::int32_t v) { return _mm512_set1_epi32(v); }
    static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
    static Ints multiply_ints(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
    static Ints dot(Ints sum, Bytes w, Bytes x) { return _mm512_dpbusd_epi32(sum, w, x); }
    /// Words of 16 bits.
    static Ints dot_pairs(Ints sum, Ints a, Ints b) { return _mm512_dpwssd_epi32(sum, a, b); }
    static Ints load_ints(const std::int32_t* p) { return _mm512_loadu_si512(p); }
    static void store_ints(std::int32_t* p, Ints v) { _mm512_storeu_si512(p, v); }
    static Ints bytes_to_ints(const std::uint8_t* p) {
        return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    /// 16 codes of 4 bits at p, two a byte, low nibble first.
    static Ints nibbles_to_ints(const std::uint8_t* p, std::size_t) {
        const __m128i packed = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), mask = _mm_set1_epi8(15);
        return _mm512_cvtepu8_epi32(
            _mm_unpacklo_epi8(_mm_and_si128(packed, mask), _mm_and_si128(_mm_srli_epi16(packed, 4), mask)));
    }

    static Floats zero() { return _mm512_setzero_ps(); }
    static Floats set(float v) { return _mm512_set1_ps(v); }
    static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
    static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
    static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
    static Floats load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
    static Floats load(const std::uint8_t* p, Scalar type, std::size_t index) {
        switch (type) {
            case Scalar::f16:
                return halves_to_floats(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2 * index)));
            case Scalar::bf16:
                return _mm512_castsi512_ps(_mm512_slli_epi32(
                    _mm512_cvtepu16_epi32(
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2 * index))),
                    16));
            case Scalar::e8m0:
                return powers(
                    _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + index))));
            default: return _mm512_loadu_ps(reinterpret_cast<const float*>(p) + index);
        }
    }
    /// Numbers from -128 to 127.
    static Floats load_signed(const std::uint8_t* p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    /// Such numbers of a and b in turn, as words of 16 bits.
    static Ints load_signed_pairs(const std::uint8_t* a, const std::uint8_t* b) {
        const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a));
        const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
        return _mm512_cvtepi8_epi16(
            _mm256_set_m128i(_mm_unpackhi_epi8(first, second), _mm_unpacklo_epi8(first, second)));
    }
    static Floats broadcast(const std::uint8_t* p, Scalar type) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, p, type == Scalar::f32 ? 4 : type == Scalar::e8m0 ? 1 : 2);
        const __m512i all = _mm512_set1_epi32(static_cast<int>(type == Scalar::bf16 ? bits << 16 : bits));
        if (type == Scalar::f16) return halves_to_floats(_mm256_set1_epi16(static_cast<short>(bits)));
        return type == Scalar::e8m0 ? powers(all) : _mm512_castsi512_ps(all);
    }
    /// The first `count` numbers, at most 16; zeros behind them.
    static Floats load_part(const float* p, std::size_t count) {
        return _mm512_maskz_loadu_ps(mask(count), p);
    }
    static void store_part(float* p, std::size_t count, Floats v) {
        _mm512_mask_storeu_ps(p, mask(count), v);
    }

    // Of quantize.hpp.
    static Magnitudes no_magnitudes() { return _mm512_setzero_si512(); }
    static Magnitudes larger(Magnitudes most, const float* p) { return larger(most, _mm512_loadu_ps(p)); }
    static Magnitudes larger(Magnitudes most, const float* p, std::size_t count) {
        return larger(most, load_part(p, count));
    }
    static std::int32_t largest(Magnitudes v) {
        const __m256i half = _mm256_max_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
        __m128i quarter = _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        quarter = _mm_max_epi32(quarter, _mm_shuffle_epi32(quarter, 0x4E));
        return _mm_cvtsi128_si32(_mm_max_epi32(quarter, _mm_shuffle_epi32(quarter, 0xB1)));
    }
    /// Codes of the first `count` of 16 values; zeros behind them.
    static __m128i codes(const float* p, std::size_t count, float scale, int largest_code) {
        const __m512 v = count < 16 ? load_part(p, count) : load(p);
        const __m512i rounded = _mm512_cvtps_epi32(_mm512_div_ps(v, set(scale)));
        const __m512i most = set_int(largest_code), least = set_int(-largest_code);
        return _mm512_cvtepi32_epi8(_mm512_max_epi32(_mm512_min_epi32(rounded, most), least));
    }

private:
    static Magnitudes larger(Magnitudes most, __m512 v) {
        return _mm512_max_epi32(most,
                                _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7FFFFFFF)));
    }
    // (The form with a mask, as in table().)
    static Floats halves_to_floats(__m256i v) { return _mm512_maskz_cvtph_ps(0xFFFF, v); }
    static __mmask16 mask(std::size_t count) { return static_cast<__mmask16>((1u << count) - 1); }
    /// Powers of two from their exponents, 0 (the subnormal 2^-127) and 255 (NaN) included.
    static Floats powers(__m512i exponents) {
        const __m512i subnormal = _mm512_set1_epi32(0x00400000);
        const __m512i power = _mm512_max_epi32(_mm512_slli_epi32(exponents, 23), subnormal);
        return _mm512_castsi512_ps(_mm512_mask_or_epi32(
            power, _mm512_cmpeq_epi32_mask(exponents, _mm512_set1_epi32(255)), power, subnormal));
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
