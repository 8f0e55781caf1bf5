// Float weights in Layout::rows on registers of 512 bits, with f32 or bf16 activations. Words of 4 bytes (one element of
// f32, two neighbours of bf16) of 48 channels and of 8 rows are transposed into panels, over which the tile of
// tile16/floats.hpp runs; few rows are dotted in place (rows.hpp).
#pragma once

#include <immintrin.h>

#include "kernels/dense/rows.hpp"
#include "kernels/tile16/floats.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// `Base`: Avx512F32 or what is made of it.
template <class Base>
struct Dense512 : Base {
    using typename Base::Bytes;
    using typename Base::Floats;
    static constexpr std::size_t words = 16;
    static constexpr int channels_of_four = 6;  ///< 24 sums

    static std::uint32_t mask(std::size_t count) {
        return static_cast<std::uint32_t>((std::uint64_t{1} << count) - 1);
    }
    template <Scalar Type>
    static Floats load16(const std::uint8_t* p, std::size_t count) {
        const auto some = static_cast<__mmask16>(mask(count));
        if constexpr (Type == Scalar::f32) return _mm512_maskz_loadu_ps(some, p);
        const __m256i halves = _mm256_maskz_loadu_epi16(some, p);
        if constexpr (Type == Scalar::f16) return _mm512_maskz_cvtph_ps(0xFFFF, halves);
        return Base::as_floats(Base::template shift_left<16>(_mm512_maskz_cvtepu16_epi32(0xFFFF, halves)));
    }
    template <Scalar Type>
    static Floats load(const std::uint8_t* p) {
        return load_part<Type>(p, words * Base::word_elements);
    }
    template <Scalar Type>
    static Floats load_part(const std::uint8_t* p, std::size_t count) {
        if constexpr (Base::word_elements == 1)
            return load16<Type>(p, count);
        else if constexpr (Type == Scalar::bf16)
            return Base::as_floats(_mm512_maskz_loadu_epi16(mask(count), p));
        else
            return Base::round_neighbours(
                load16<Type>(p, count < 16 ? count : 16),
                count > 16 ? load16<Type>(p + 16 * element_bytes<Type>, count - 16) : Base::zero());
    }
    static constexpr Scalar x_type = Base::word_elements == 1 ? Scalar::f32 : Scalar::bf16;
    static Floats load_x(const std::uint8_t* p) { return load<x_type>(p); }
    static Floats load_x_part(const std::uint8_t* p, std::size_t count) {
        return load_part<x_type>(p, count);
    }
    /// (_mm512_reduce_add_ps and casts to halves make g++ 12 warn of their own undefined operands.)
    static float sum(Floats v) {
        const __m256 eight =
            _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xFF, v, 0), _mm512_maskz_extractf32x8_ps(0xFF, v, 1));
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
    }

    using Base::load, Base::load_part;
};

/// rows[i][j] -> rows[j][i].
[[gnu::always_inline]] inline void transpose16(__m512 (&rows)[16]) {
    __m512 t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_maskz_unpacklo_ps(0xFFFF, rows[i], rows[i + 1]);
        t[i + 1] = _mm512_maskz_unpackhi_ps(0xFFFF, rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
            rows[i + 2 * j] = _mm512_maskz_shuffle_ps(0xFFFF, t[i + j], t[i + j + 2], 0x44);
            rows[i + 2 * j + 1] = _mm512_maskz_shuffle_ps(0xFFFF, t[i + j], t[i + j + 2], 0xEE);
        }
        // rows[4 q + j]: of each quarter l, number 4 l + j of rows 4 q to 4 q + 3.
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
        const __m512 a = _mm512_maskz_shuffle_f32x4(0xFFFF, rows[j], rows[4 + j], 0x88),
                     b = _mm512_maskz_shuffle_f32x4(0xFFFF, rows[j], rows[4 + j], 0xDD),
                     c = _mm512_maskz_shuffle_f32x4(0xFFFF, rows[8 + j], rows[12 + j], 0x88),
                     d = _mm512_maskz_shuffle_f32x4(0xFFFF, rows[8 + j], rows[12 + j], 0xDD);
        t[j] = _mm512_maskz_shuffle_f32x4(0xFFFF, a, c, 0x88);
        t[8 + j] = _mm512_maskz_shuffle_f32x4(0xFFFF, a, c, 0xDD);
        t[4 + j] = _mm512_maskz_shuffle_f32x4(0xFFFF, b, d, 0x88);
        t[12 + j] = _mm512_maskz_shuffle_f32x4(0xFFFF, b, d, 0xDD);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) rows[i] = t[i];
}

/// to[word * stride + r] = the word of row r, for `rows` <= 16 of them and `count` elements; lanes of missing rows are zeros,
/// or not written where fewer than 16 are wanted.
template <class Lanes, Scalar Type, std::size_t Wanted>
void transpose_words(const std::uint8_t* from, std::size_t stride_bytes, std::size_t rows, std::size_t count,
                     float* to, std::size_t stride) {
    constexpr std::size_t step = Lanes::words * Lanes::word_elements;
    for (std::size_t k = 0; k < count; k += step, to += Lanes::words * stride) {
        const std::size_t left = smaller(step, count - k);
        __m512 block[16];
#pragma GCC unroll 16
        for (std::size_t r = 0; r < 16; ++r)
            block[r] = r < Wanted && r < rows ? Lanes::template load_part<Type>(
                                                    from + r * stride_bytes + k * element_bytes<Type>, left)
                                              : Lanes::zero();
        transpose16(block);
        const std::size_t words = (left + Lanes::word_elements - 1) / Lanes::word_elements;
#pragma GCC unroll 16
        for (std::size_t i = 0; i < 16; ++i)
            if (i < words) {
                if constexpr (Wanted == 16)
                    Lanes::store(to + i * stride, block[i]);
                else
                    Lanes::store_part(to + i * stride, rows, block[i]);
            }
    }
}

constexpr std::size_t dense_chunk_words = 512;  ///< of K: 96 KiB of 48 channels
constexpr std::size_t dense_block_rows = 512;   ///< of x: 1 MiB
constexpr std::size_t dense_few_rows = 15;      ///< for which copying W does not pay
constexpr std::size_t dense_scratch_bytes = dense_chunk_words * (48 + dense_block_rows) * sizeof(float);

/// All rows of a block, arranged at `x`, times Tiles x 16 channels from n on, over `count` elements from k on.
template <class Lanes, Scalar Type, int Tiles>
void multiply_dense_panel(const KernelCall& call, const float* x, float* panel, std::size_t m,
                          std::size_t m_end, std::size_t n, std::size_t k, std::size_t count) {
    constexpr std::size_t stride = Tiles * tile_channels, tile_rows = Lanes::tile_rows;
    const WeightsView& w = call.w;
    const std::size_t channels = smaller(stride, w.n - n);
    for (std::size_t c = 0; c < stride; c += tile_channels)
        transpose_words<Lanes, Type, 16>(w.codes + (n + c) * w.codes_stride_bytes + k * element_bytes<Type>,
                                         w.codes_stride_bytes, channels > c ? smaller(16, channels - c) : 0,
                                         count, panel + c, stride);
    const std::size_t words = (count + Lanes::word_elements - 1) / Lanes::word_elements;
    const PanelPart part{panel, words, k == 0, k + count == w.k};
    for (; m < m_end; m += tile_rows) {
        const std::size_t rows = smaller(tile_rows, m_end - m);
        with_constant<Lanes::tile_rows>(
            rows, [&](auto r) { multiply_words<Lanes, Tiles, r>(call.y, part, x, m, n, channels); });
        x += rows * words;
    }
}

/// Every element of y is summed in ascending k, whatever the rectangle.
template <class Lanes, Scalar Type>
void dense_panels(const KernelCall& call, const Rectangle& part, float* scratch) {
    constexpr std::size_t chunk = dense_chunk_words * Lanes::word_elements, tile_rows = Lanes::tile_rows;
    constexpr std::size_t x_bytes = 4 / Lanes::word_elements;
    float *const panel = scratch, *const x_block = scratch + dense_chunk_words * 48;
    // Equal blocks, because each transposes W again.
    const std::size_t block = equal_part(part.m_end - part.m_begin, dense_block_rows, tile_rows);
    static_assert(dense_block_rows % tile_rows == 0);
    for (std::size_t m0 = part.m_begin; m0 < part.m_end; m0 += block) {
        const std::size_t m_end = smaller(part.m_end, m0 + block);
        for (std::size_t k = 0; k < call.w.k; k += chunk) {
            const std::size_t count = smaller(chunk, call.w.k - k);
            const std::size_t words = (count + Lanes::word_elements - 1) / Lanes::word_elements;
            for (std::size_t m = m0; m < m_end; m += tile_rows) {
                const std::size_t rows = smaller(tile_rows, m_end - m);
                transpose_words<Lanes, Lanes::x_type, tile_rows>(
                    static_cast<const std::uint8_t*>(call.x.values) +
                        (m * call.x.stride_elements + k) * x_bytes,
                    call.x.stride_elements * x_bytes, rows, count, x_block + (m - m0) * words, rows);
            }
            std::size_t n = part.n_begin;
            for (; n + 2 * tile_channels < part.n_end; n += 3 * tile_channels)
                multiply_dense_panel<Lanes, Type, 3>(call, x_block, panel, m0, m_end, n, k, count);
            for (; n < part.n_end; n += tile_channels)
                multiply_dense_panel<Lanes, Type, 1>(call, x_block, panel, m0, m_end, n, k, count);
        }
    }
}

template <class Lanes, Scalar Type>
void dense_typed_products(const KernelCall& call, const Rectangle& part, void* scratch) {
    // By the rows of the whole product, so that every part of it is computed alike.
    if (call.x.m <= dense_few_rows)
        few_rows<Lanes, Type>(call, part);
    else
        dense_panels<Lanes, Type>(call, part, static_cast<float*>(scratch));
}

template <class Lanes>
void dense_products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    if (call.w.scale == Scalar::f16)
        dense_typed_products<Lanes, Scalar::f16>(call, part, scratch);
    else if (call.w.scale == Scalar::bf16)
        dense_typed_products<Lanes, Scalar::bf16>(call, part, scratch);
    else
        dense_typed_products<Lanes, Scalar::f32>(call, part, scratch);
}

template <class Lanes>
constexpr KernelCode dense_kernel{dense_products<Lanes>, dense_scratch_bytes, Lanes::tile_rows, 48};

}  // namespace
}  // namespace fewbit::inline v0::kernels
