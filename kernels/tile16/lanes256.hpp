// Registers of 256 bits for tile16 (int8.hpp): two hold 16 channels.
#pragma once

#include <cstring>

#include "kernels/tile16/lanes_x86.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Powers of two from their exponents, 0 (the subnormal 2^-127) and 255 (NaN) included.
__m256 load_e8m0(__m256i exponents) {
    const __m256i subnormal = _mm256_set1_epi32(0x00400000);
    const __m256i power = _mm256_max_epi32(_mm256_slli_epi32(exponents, 23), subnormal);
    const __m256i nan = _mm256_cmpeq_epi32(exponents, _mm256_set1_epi32(255));
    return _mm256_castsi256_ps(_mm256_or_si256(power, _mm256_and_si256(nan, subnormal)));
}

__m256 load8(const std::uint8_t* p, Scalar type, std::size_t index) {
    if (type == Scalar::f16)
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 2 * index)));
    if (type == Scalar::bf16)
        return _mm256_castsi256_ps(_mm256_slli_epi32(
            _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 2 * index))), 16));
    if (type == Scalar::e8m0)
        return load_e8m0(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + index))));
    return _mm256_loadu_ps(reinterpret_cast<const float*>(p) + index);
}

__m256 broadcast(const std::uint8_t* p, Scalar type) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, p, scalar_bytes(type));
    if (type == Scalar::f16) return _mm256_set1_ps(_cvtsh_ss(static_cast<unsigned short>(bits)));
    if (type == Scalar::bf16) bits <<= 16;
    const __m256i all = _mm256_set1_epi32(static_cast<int>(bits));
    return type == Scalar::e8m0 ? load_e8m0(all) : _mm256_castsi256_ps(all);
}

/// What does not depend on how products are made.
struct Lanes256 : LanesX86 {
    using Bytes = __m256i;
    using Ints = __m256i;
    using Narrow = __m256i;
    using Floats = __m256;
    static constexpr int registers = 2;         ///< for 16 channels
    static constexpr std::size_t channels = 8;  ///< of a register
    static constexpr std::size_t register_bytes = 32;

    static Bytes load_bytes(const std::uint8_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    /// Loads that stay in their order: otherwise the CPU does not see a stream and fetches nothing ahead.
    static Bytes load_in_order(const std::uint8_t* p) {
        Bytes v;
        __asm__ volatile("vmovdqu %1, %0" : "=x"(v) : "m"(*reinterpret_cast<const __m256i_u*>(p)));
        return v;
    }
    static void store_bytes(std::uint8_t* p, Bytes v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
    }
    static Bytes low_nibbles(Bytes v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
    static Bytes high_nibbles(Bytes v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }
    static Bytes table(const std::int8_t* levels) {
        return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(levels)));
    }
    static Bytes look_up(Bytes table, Bytes places) { return _mm256_shuffle_epi8(table, places); }
    static Bytes flip_signs(Bytes v) { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
    // Bits of all channels, in words of 32.
    static Bytes set_bits(int v) { return _mm256_set1_epi32(v); }
    static Bytes bit_and(Bytes a, Bytes b) { return _mm256_and_si256(a, b); }
    static Bytes bit_or(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
    /// mask ? a : b
    static Bytes either(Bytes mask, Bytes a, Bytes b) {
        return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
    }
    template <int Bits>
    static Bytes shift_right(Bytes v) {
        return _mm256_srli_epi32(v, Bits);
    }
    template <int Bits>
    static Bytes shift_left(Bytes v) {
        return _mm256_slli_epi32(v, Bits);
    }
    /// Words of 16 bits, widened to 32.
    static Bytes load_words(const std::uint8_t* p) {
        return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }

    /// Four activations for every channel.
    static Bytes quad(const std::int8_t* x) {
        int word;
        std::memcpy(&word, x, sizeof word);
        return _mm256_set1_epi32(word);
    }

    static Ints zero_ints() { return _mm256_setzero_si256(); }
    static Ints set_int(std::int32_t v) { return _mm256_set1_epi32(v); }
    static Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
    static Ints multiply_ints(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
    static Ints load_ints(const std::int32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static void store_ints(std::int32_t* p, Ints v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
    static Ints bytes_to_ints(const std::uint8_t* p) {
        return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    }
    /// Codes [first, first + 8) of 4 bits from p on, two a byte, low nibble first.
    static Ints nibbles_to_ints(const std::uint8_t* p, std::size_t first) {
        std::uint32_t word;
        std::memcpy(&word, p + first / 2, sizeof word);
        const __m128i packed = _mm_cvtsi32_si128(static_cast<int>(word)), mask = _mm_set1_epi8(15);
        return _mm256_cvtepu8_epi32(
            _mm_unpacklo_epi8(_mm_and_si128(packed, mask), _mm_and_si128(_mm_srli_epi16(packed, 4), mask)));
    }

    static Floats zero() { return _mm256_setzero_ps(); }
    static Floats set(float v) { return _mm256_set1_ps(v); }
    static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
    static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
    static Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }
    static Floats load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
    static Floats load(const std::uint8_t* p, Scalar type, std::size_t index) {
        return load8(p, type, index);
    }
    /// Numbers from -128 to 127.
    static Floats load_signed(const std::uint8_t* p) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    /// Numbers of 8 bits of a and b in turn, as words of 16 bits.
    static Ints load_signed_pairs(const std::uint8_t* a, const std::uint8_t* b) {
        return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(a)),
                                                      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(b))));
    }
    static Floats broadcast(const std::uint8_t* p, Scalar type) { return kernels::broadcast(p, type); }
    /// The first `count` numbers, at most 8; zeros behind them.
    static Floats load_part(const float* p, std::size_t count) { return _mm256_maskload_ps(p, mask(count)); }
    static void store_part(float* p, std::size_t count, Floats v) { _mm256_maskstore_ps(p, mask(count), v); }

    // Of quantize.hpp.
    struct Magnitudes {
        __m256i half[2];
    };
    static Magnitudes no_magnitudes() { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
    static Magnitudes larger(Magnitudes most, const float* p) { return larger(most, load(p), load(p + 8)); }
    static Magnitudes larger(Magnitudes most, const float* p, std::size_t count) {
        return larger(most, part(p, 0, count), part(p, 8, count));
    }
    static std::int32_t largest(Magnitudes v) {
        const __m256i half = _mm256_max_epi32(v.half[0], v.half[1]);
        __m128i quarter = _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        quarter = _mm_max_epi32(quarter, _mm_shuffle_epi32(quarter, 0x4E));
        return _mm_cvtsi128_si32(_mm_max_epi32(quarter, _mm_shuffle_epi32(quarter, 0xB1)));
    }
    /// Codes of the first `count` of 16 values; zeros behind them.
    static __m128i codes(const float* p, std::size_t count, float scale, int largest_code) {
        const __m256 s = set(scale);
        const __m256i a = _mm256_cvtps_epi32(_mm256_div_ps(part(p, 0, count), s)),
                      b = _mm256_cvtps_epi32(_mm256_div_ps(part(p, 8, count), s));
        __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
        both = _mm256_min_epi16(both, _mm256_set1_epi16(static_cast<short>(largest_code)));
        both = _mm256_max_epi16(both, _mm256_set1_epi16(static_cast<short>(-largest_code)));
        return _mm_packs_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    }

private:
    static Magnitudes larger(Magnitudes most, __m256 a, __m256 b) {
        const __m256i sign = _mm256_set1_epi32(0x7FFFFFFF);
        return {{_mm256_max_epi32(most.half[0], _mm256_and_si256(_mm256_castps_si256(a), sign)),
                 _mm256_max_epi32(most.half[1], _mm256_and_si256(_mm256_castps_si256(b), sign))}};
    }
    /// Eight of `count` numbers, from `first` on.
    static Floats part(const float* p, std::size_t first, std::size_t count) {
        return count >= first + 8 ? load(p + first)
               : count > first    ? load_part(p + first, count - first)
                                  : zero();
    }
    static __m256i mask(std::size_t count) {
        const __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), place);
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
