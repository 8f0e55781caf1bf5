// Registers of 256 bits with VNNI for tile16 (vnni.hpp): two hold 16 channels. With AVX-512 VL there are 32 of them, with
// AVX-VNNI 16, and the instruction has another name: the rest is the same.
#pragma once

#include "kernels/tile16/avx2.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Dot::dot(sum, w, x) is the instruction; Rows: of a tile.
template <class Dot, int Rows>
struct Lanes256 {
    using Bytes = __m256i;
    using Ints = __m256i;
    using Floats = __m256;
    static constexpr int registers = 2, rows = Rows;
    static constexpr std::size_t channels = 8;

    static Bytes load_bytes(const std::uint8_t* p) { return load_codes(p); }
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
    static Bytes quad(const std::int8_t* x) { return broadcast_codes(x); }

    static Ints zero_ints() { return _mm256_setzero_si256(); }
    static Ints set_int(std::int32_t v) { return _mm256_set1_epi32(v); }
    static Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
    static Ints multiply_ints(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
    static Ints dot(Ints sum, Bytes w, Bytes x) { return Dot::dot(sum, w, x); }
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
    static Floats broadcast(const std::uint8_t* p, Scalar type) { return kernels::broadcast(p, type); }
    /// Register `which` of 16 channels of which there are `count`; zeros for the others.
    static Floats load_part(const float* p, int which, std::size_t count) {
        return _mm256_maskload_ps(p + 8 * which, mask(which, count));
    }
    static void store_part(float* p, int which, std::size_t count, Floats v) {
        _mm256_maskstore_ps(p + 8 * which, mask(which, count), v);
    }

private:
    static __m256i mask(int which, std::size_t count) {
        const __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count) - 8 * which), place);
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
