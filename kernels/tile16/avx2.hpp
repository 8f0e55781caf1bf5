// What AVX2 kernels for Layout::tile16 (drawn in fewbit/pack/layout.hpp) share: parameters of groups, codes, results.
//
// A 32-byte register holds 8 channels x 4 of K, so a 4-byte broadcast of activations meets all of them and
// every 32-bit lane is one channel: no horizontal sums, no shuffles.
//
// Kernels are templates over a Field, which says how codes are read:
//
//   step_elements          of K in the 64 bytes of a step: 8 in fields of 4 bits, 4 in fields of 8
//   level(bytes, i, zero)  field i of each channel's four bytes, minus the zero, as f32
//   dot_steps(...)         products with int8 activations (tile16/avx2_int8.hpp)
//
// All of it has internal linkage: these functions are compiled with AVX2 and may not serve others.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/tile16/constants.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Parameters of one group of one tile; [0]: channels 0-7, [1]: 8-15.
struct Group {
    __m256 scale[2];
    __m256i zero[2];
    __m256 offset[2];  // only with real offsets
};

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

/// Reads the parameters at `p` (or the per-tensor ones) and moves p to the group's first step.
template <class Field>
Group load_group(const WeightsView& w, const std::uint8_t*& p) {
    constexpr bool nibbles = Field::step_elements == 8;
    Group group;
    const int implicit_zero = w.has_offsets ? 0 : w.middle_code;
    group.zero[0] = group.zero[1] = _mm256_set1_epi32(implicit_zero);
    if (w.per_tensor) {
        group.scale[0] = group.scale[1] = broadcast(w.scales, w.scale);
        if (w.has_zeros) group.zero[0] = group.zero[1] = _mm256_set1_epi32(w.zeros[0] & ((1 << w.bits) - 1));
        group.offset[0] = group.offset[1] =
            w.has_offsets ? broadcast(w.offsets, w.scale) : _mm256_setzero_ps();
        return group;
    }
    const std::size_t parameter_bytes = tile_channels * scalar_bytes(w.scale);
    for (std::size_t h = 0; h < 2; ++h) group.scale[h] = load8(p, w.scale, 8 * h);
    p += parameter_bytes;
    if (w.has_zeros) {
        if constexpr (nibbles) {
            const __m128i packed = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
            const __m128i mask = _mm_set1_epi8(15);
            const __m128i bytes = _mm_unpacklo_epi8(_mm_and_si128(packed, mask),
                                                    _mm_and_si128(_mm_srli_epi16(packed, 4), mask));
            group.zero[0] = _mm256_cvtepu8_epi32(bytes);
            group.zero[1] = _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8));
            p += tile_channels / 2;
        } else {
            for (std::size_t h = 0; h < 2; ++h)
                group.zero[h] =
                    _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * h)));
            p += tile_channels;
        }
    }
    group.offset[0] = group.offset[1] = _mm256_setzero_ps();
    if (w.has_offsets) {
        for (std::size_t h = 0; h < 2; ++h) group.offset[h] = load8(p, w.scale, 8 * h);
        p += parameter_bytes;
    }
    return group;
}

__m256i load_codes(const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

__m256i broadcast_codes(const std::int8_t* p) {
    int word;
    std::memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
