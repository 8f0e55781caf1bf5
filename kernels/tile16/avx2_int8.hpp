// int8 activations times tile16 on AVX2: tiles of up to 4 rows x 16 channels, exact int32 sums between two scales.
//
// Field::dot_steps<Rows>(codes, steps, x, stride, dot) adds the products of `steps` steps to dot[row][half]; int32
// lanes stay below 2^31 for max_int32_products. Field::scaled(group) is the group as integer products need it.
#pragma once

#include "kernels/tile16/avx2.hpp"
#include "kernels/tile16/avx2_store.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Adds the products of 16 channels x 4 of K with the four activations at x, for each row: signed times signed
/// through |w| and sign(x, w). One product of vpmaddubsw: 2 * 128 * 127 fits int16, and sign() never negates -128,
/// because activations lie in -127..127.
template <int Rows>
void add_signed(__m256i w0, __m256i w1, const std::int8_t* x, std::size_t stride, __m256i (&dot)[Rows][2]) {
    static_assert(2 * 128 * 127 <= 32767);
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i abs0 = _mm256_abs_epi8(w0), abs1 = _mm256_abs_epi8(w1);
    for (int r = 0; r < Rows; ++r) {
        const __m256i a = broadcast_codes(x + static_cast<std::size_t>(r) * stride);
        dot[r][0] = _mm256_add_epi32(
            dot[r][0], _mm256_madd_epi16(_mm256_maddubs_epi16(abs0, _mm256_sign_epi8(a, w0)), ones));
        dot[r][1] = _mm256_add_epi32(
            dot[r][1], _mm256_madd_epi16(_mm256_maddubs_epi16(abs1, _mm256_sign_epi8(a, w1)), ones));
    }
}

/// Rows [m, m + Rows) times the tile of channels at n.
template <int Rows, class Field>
void int8_tile(const KernelCall& call, const Field& field, std::size_t m, std::size_t n, std::size_t count) {
    const WeightsView& w = call.w;
    const ActivationsView& x = call.x;
    constexpr std::size_t step_elements = Field::step_elements;
    const auto* rows = static_cast<const std::int8_t*>(x.values) + m * x.stride_elements;
    const std::uint8_t* p = w.codes + n / tile_channels * w.codes_stride_bytes;
    __m256 sums[Rows][2];
    for (int r = 0; r < Rows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();

    for (std::size_t k = 0, g = 0; g < w.groups; ++g) {
        const std::size_t group_end = k + w.group_elements < w.k ? k + w.group_elements : w.k;
        const Group group = field.scaled(load_group<Field>(w, p));
        while (k < group_end) {  // the pieces of the group that share an activation scale
            const std::size_t xg = k / x.group_elements;
            const std::size_t x_end = (xg + 1) * x.group_elements;
            const std::size_t end = x_end < group_end ? x_end : group_end;
            const std::size_t steps = (end - k + step_elements - 1) / step_elements;
            const std::size_t sum_index = k / x.sum_group_elements;
            __m256i dot[Rows][2];
            __m256 x_scale[Rows];
            for (int r = 0; r < Rows; ++r) {
                const std::size_t row = m + static_cast<std::size_t>(r);
                const __m256i minus_sum = _mm256_set1_epi32(-x.sums[row * x.sum_groups + sum_index]);
                for (int h = 0; h < 2; ++h) dot[r][h] = _mm256_mullo_epi32(group.zero[h], minus_sum);
                x_scale[r] = _mm256_broadcast_ss(&x.scales[row * x.groups + xg]);
            }
            field.template dot_steps<Rows>(p, steps, rows + k, x.stride_elements, dot);
            for (int r = 0; r < Rows; ++r)
                for (int h = 0; h < 2; ++h)
                    sums[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r][h]),
                                                 _mm256_mul_ps(group.scale[h], x_scale[r]), sums[r][h]);
            if (w.has_offsets)
                for (int r = 0; r < Rows; ++r) {
                    const std::size_t row = m + static_cast<std::size_t>(r);
                    const __m256 sum =
                        _mm256_set1_ps(static_cast<float>(x.sums[row * x.sum_groups + sum_index]));
                    for (int h = 0; h < 2; ++h)
                        sums[r][h] =
                            _mm256_fmadd_ps(_mm256_mul_ps(sum, x_scale[r]), group.offset[h], sums[r][h]);
                }
            p += steps * vector_bytes;
            k = end;
        }
    }
    for (int r = 0; r < Rows; ++r)
        store_row(call.y.values + (m + static_cast<std::size_t>(r)) * call.y.stride_elements + n,
                  call.y.bias ? call.y.bias + n : nullptr, count, sums[r][0], sums[r][1]);
}

/// Sweeps blocks of rows whose codes fit half of a 1 MiB L2 cache, so that x is read from there once per tile
/// of W.
template <class Field>
void int8_rectangle(const KernelCall& call, const Rectangle& part) {
    const Field field(call.w);
    constexpr std::size_t l2_bytes = 512 * 1024;
    const std::size_t fitting = l2_bytes / call.x.stride_elements / 4 * 4;
    const std::size_t block = fitting < 16 ? 16 : fitting;
    for (std::size_t m_begin = part.m_begin; m_begin < part.m_end; m_begin += block) {
        const std::size_t m_end = m_begin + block < part.m_end ? m_begin + block : part.m_end;
        for (std::size_t n = part.n_begin; n < part.n_end; n += tile_channels) {
            const std::size_t count = part.n_end - n < tile_channels ? part.n_end - n : tile_channels;
            std::size_t m = m_begin;
            for (; m + 4 <= m_end; m += 4) int8_tile<4>(call, field, m, n, count);
            switch (m_end - m) {
                case 3: int8_tile<3>(call, field, m, n, count); break;
                case 2: int8_tile<2>(call, field, m, n, count); break;
                case 1: int8_tile<1>(call, field, m, n, count); break;
                default: break;
            }
        }
    }
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
