// f32 activations times tile16 on AVX2: panels of 16 channels x 256 of K, dequantized to f32 in scratch, then FMA.
#pragma once

#include "kernels/tile16/avx2.hpp"
#include "kernels/tile16/avx2_store.hpp"

namespace fewbit::inline v0::kernels {
namespace {

constexpr std::size_t panel_elements = 256;  // of K: 16 KiB, half of L1

/// Dequantizes codes of `count` consecutive k, which lie in one group and start at a step, into panel[k][16].
template <class Field>
void fill_panel(const Field& field, const Group& group, const std::uint8_t* p, std::size_t count,
                float* panel) {
    constexpr std::size_t step_elements = Field::step_elements;
    for (std::size_t k = 0; k < count; k += step_elements, p += vector_bytes) {
        for (std::size_t h = 0; h < 2; ++h) {
            const __m256i bytes = load_codes(p + 32 * h);
            for (std::size_t i = 0; i < step_elements && k + i < count; ++i) {
                _mm256_store_ps(
                    panel + (k + i) * tile_channels + 8 * h,
                    _mm256_fmadd_ps(field.level(bytes, i, group.zero[h]), group.scale[h], group.offset[h]));
            }
        }
    }
}

/// A single row of x: no panel, because every weight is used once, and four chains of FMA instead of two.
template <class Field>
void f32_row(const KernelCall& call, const Field& field, const Rectangle& part) {
    const WeightsView& w = call.w;
    constexpr std::size_t step_elements = Field::step_elements;
    const auto* x = static_cast<const float*>(call.x.values);
    for (std::size_t n = part.n_begin; n < part.n_end; n += tile_channels) {
        const std::uint8_t* p = w.codes + n / tile_channels * w.codes_stride_bytes;
        __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (std::size_t k = 0, g = 0; g < w.groups; ++g) {
            const std::size_t group_end = k + w.group_elements < w.k ? k + w.group_elements : w.k;
            const Group group = load_group<Field>(w, p);
            __m256 dot[2][2], x_sum[2];
            for (int i = 0; i < 2; ++i) dot[0][i] = dot[1][i] = x_sum[i] = _mm256_setzero_ps();
            const auto add_step = [&](std::size_t count) __attribute__((always_inline)) {
                const __m256i bytes[2] = {load_codes(p), load_codes(p + 32)};
#pragma GCC unroll 8
                for (std::size_t i = 0; i < step_elements; ++i) {
                    if (i >= count) break;
                    const __m256 value = _mm256_broadcast_ss(x + k + i);
                    for (std::size_t h = 0; h < 2; ++h)
                        dot[h][i % 2] =
                            _mm256_fmadd_ps(value, field.level(bytes[h], i, group.zero[h]), dot[h][i % 2]);
                    if (w.has_offsets) x_sum[i % 2] = _mm256_add_ps(x_sum[i % 2], value);
                }
            };
            for (; k + step_elements <= group_end; k += step_elements, p += vector_bytes)
                add_step(step_elements);
            if (k < group_end) {
                add_step(group_end - k);
                p += vector_bytes;
                k = group_end;
            }
            for (int h = 0; h < 2; ++h) {
                sums[h] = _mm256_fmadd_ps(_mm256_add_ps(dot[h][0], dot[h][1]), group.scale[h], sums[h]);
                if (w.has_offsets)
                    sums[h] = _mm256_fmadd_ps(_mm256_add_ps(x_sum[0], x_sum[1]), group.offset[h], sums[h]);
            }
        }
        store_row(call.y.values + n, call.y.bias != nullptr ? call.y.bias + n : nullptr,
                  part.n_end - n < tile_channels ? part.n_end - n : tile_channels, sums[0], sums[1]);
    }
}

/// y[0, Rows)[0, count) += x[0, Rows)[0, k) * panel; starts from zero when `first`, adds the bias when
/// `bias`.
template <int Rows>
void multiply_panel(const float* x, std::size_t x_stride, const float* panel, std::size_t k_count, float* y,
                    std::size_t y_stride, std::size_t count, bool first, const float* bias) {
    __m256 sums[Rows][2];
    for (int r = 0; r < Rows; ++r) {
        const float* row = y + static_cast<std::size_t>(r) * y_stride;
        if (first) {
            sums[r][0] = sums[r][1] = _mm256_setzero_ps();
        } else if (count == tile_channels) {
            sums[r][0] = _mm256_loadu_ps(row);
            sums[r][1] = _mm256_loadu_ps(row + 8);
        } else {
            alignas(32) float values[tile_channels] = {};
            for (std::size_t i = 0; i < count; ++i) values[i] = row[i];
            sums[r][0] = _mm256_load_ps(values);
            sums[r][1] = _mm256_load_ps(values + 8);
        }
    }
    for (std::size_t k = 0; k < k_count; ++k) {
        const __m256 w0 = _mm256_load_ps(panel + k * tile_channels),
                     w1 = _mm256_load_ps(panel + k * tile_channels + 8);
        for (int r = 0; r < Rows; ++r) {
            const __m256 value = _mm256_broadcast_ss(x + static_cast<std::size_t>(r) * x_stride + k);
            sums[r][0] = _mm256_fmadd_ps(value, w0, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(value, w1, sums[r][1]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        store_row(y + static_cast<std::size_t>(r) * y_stride, bias, count, sums[r][0], sums[r][1]);
}

template <class Field>
void f32_rectangle(const KernelCall& call, const Field& field, const Rectangle& part, float* panel) {
    const WeightsView& w = call.w;
    constexpr std::size_t step_elements = Field::step_elements;
    const auto* x = static_cast<const float*>(call.x.values);
    const std::size_t x_stride = call.x.stride_elements, y_stride = call.y.stride_elements;
    for (std::size_t n = part.n_begin; n < part.n_end; n += tile_channels) {
        const std::size_t count = part.n_end - n < tile_channels ? part.n_end - n : tile_channels;
        const std::uint8_t* p = w.codes + n / tile_channels * w.codes_stride_bytes;
        Group group{};
        std::size_t group_end = 0;  // of the group that p stands in
        for (std::size_t k = 0; k < w.k; k += panel_elements) {
            const std::size_t k_count = w.k - k < panel_elements ? w.k - k : panel_elements;
            for (std::size_t filled = 0; filled < k_count;) {  // groups end where they like
                if (k + filled == group_end) {
                    group = load_group<Field>(w, p);
                    group_end = group_end + w.group_elements < w.k ? group_end + w.group_elements : w.k;
                }
                const std::size_t piece =
                    group_end - k - filled < k_count - filled ? group_end - k - filled : k_count - filled;
                fill_panel(field, group, p, piece, panel + filled * tile_channels);
                p += (piece + step_elements - 1) / step_elements * vector_bytes;
                filled += piece;
            }
            const float* bias = call.y.bias != nullptr && k + k_count == w.k ? call.y.bias + n : nullptr;
            std::size_t m = part.m_begin;
            const auto rows = [&](auto multiply, std::size_t step) {
                for (; m + step <= part.m_end; m += step)
                    multiply(x + m * x_stride + k, x_stride, panel, k_count, call.y.values + m * y_stride + n,
                             y_stride, count, k == 0, bias);
            };
            rows(multiply_panel<6>, 6);
            rows(multiply_panel<2>, 2);
            rows(multiply_panel<1>, 1);
        }
    }
}

template <class Field>
void f32_products(const KernelCall& call, const Rectangle& part, void* scratch) {
    const Field field(call.w);
    if (call.x.m == 1)  // of the call, not of this part
        f32_row(call, field, part);
    else
        f32_rectangle(call, field, part, static_cast<float*>(scratch));
}

constexpr std::size_t f32_scratch_bytes = panel_elements * tile_channels * sizeof(float);

}  // namespace
}  // namespace fewbit::inline v0::kernels
