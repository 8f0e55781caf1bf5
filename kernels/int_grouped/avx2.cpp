// AVX2 kernels for integer codes in Layout::tile16 (drawn in fewbit/pack/layout.hpp), in fields of 4 or 8
// bits, with int8 and f32 activations. README.md of this folder has the arithmetic and what limits it.
//
// A 32-byte register holds 8 channels x 4 of K, so a 4-byte broadcast of activations meets all of them and
// every 32-bit lane is one channel: no horizontal sums, no shuffles.
#include <immintrin.h>

#include <cstring>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode int_grouped_avx2_int8;
extern const KernelCode int_grouped_avx2_f32;

namespace {

constexpr std::size_t channels = 16;  // of a tile: two registers of 8
constexpr std::size_t step_bytes = 64;

/// Parameters of one group of one tile; [0]: channels 0-7, [1]: 8-15.
struct Group {
    __m256 scale[2];
    __m256i zero[2];   // of the codes as the kernel reads them: 4-bit fields 0..15, 8-bit -128..127
    __m256 offset[2];  // only with real offsets
};

__m256 load8(const std::uint8_t* p, Scalar type, std::size_t index) {
    if (type == Scalar::f16)
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 2 * index)));
    if (type == Scalar::bf16)
        return _mm256_castsi256_ps(_mm256_slli_epi32(
            _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 2 * index))), 16));
    return _mm256_loadu_ps(reinterpret_cast<const float*>(p) + index);
}

__m256 broadcast(const std::uint8_t* p, Scalar type) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, p, type == Scalar::f32 ? 4 : 2);
    if (type == Scalar::f16) return _mm256_set1_ps(_cvtsh_ss(static_cast<unsigned short>(bits)));
    if (type == Scalar::bf16) bits <<= 16;
    return _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(bits)));
}

/// Reads the parameters at `p` (or the per-tensor ones) and moves p to the group's first step.
template <int Bits>
Group load_group(const WeightsView& w, const std::uint8_t*& p) {
    constexpr int shift = Bits == 8 ? 128 : 0;  // 8-bit fields hold the code minus 128
    Group group;
    const int implicit_zero = (w.has_offsets ? 0 : w.middle_code) - shift;
    group.zero[0] = group.zero[1] = _mm256_set1_epi32(implicit_zero);
    if (w.per_tensor) {
        group.scale[0] = group.scale[1] = broadcast(w.scales, w.scale);
        if (w.has_zeros)
            group.zero[0] = group.zero[1] = _mm256_set1_epi32((w.zeros[0] & ((1 << w.bits) - 1)) - shift);
        group.offset[0] = group.offset[1] =
            w.has_offsets ? broadcast(w.offsets, w.scale) : _mm256_setzero_ps();
        return group;
    }
    const std::size_t vector_bytes = channels * (w.scale == Scalar::f32 ? 4 : 2);
    for (std::size_t h = 0; h < 2; ++h) group.scale[h] = load8(p, w.scale, 8 * h);
    p += vector_bytes;
    if (w.has_zeros) {
        if constexpr (Bits == 4) {
            const __m128i packed = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
            const __m128i mask = _mm_set1_epi8(15);
            const __m128i bytes = _mm_unpacklo_epi8(_mm_and_si128(packed, mask),
                                                    _mm_and_si128(_mm_srli_epi16(packed, 4), mask));
            group.zero[0] = _mm256_cvtepu8_epi32(bytes);
            group.zero[1] = _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8));
            p += channels / 2;
        } else {
            for (std::size_t h = 0; h < 2; ++h)
                group.zero[h] = _mm256_sub_epi32(
                    _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * h))),
                    _mm256_set1_epi32(shift));
            p += channels;
        }
    }
    group.offset[0] = group.offset[1] = _mm256_setzero_ps();
    if (w.has_offsets) {
        for (std::size_t h = 0; h < 2; ++h) group.offset[h] = load8(p, w.scale, 8 * h);
        p += vector_bytes;
    }
    return group;
}

__m256i load_codes(const std::uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

__m256i broadcast_codes(const std::int8_t* p) {
    int word;
    std::memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}

/// Adds the dot products of `steps` steps to dot[row][half]. Int32 lanes stay below 2^31 for
/// max_int32_products.
template <int Rows, int Bits>
void dot_steps(const std::uint8_t* codes, std::size_t steps, const std::int8_t* x, std::size_t stride,
               __m256i (&dot)[Rows][2]) {
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (Bits == 4) {
        const __m256i mask = _mm256_set1_epi8(15);
        constexpr std::size_t run = 4;  // steps summed in int16: 2 nibbles x 2 products of vpmaddubsw each
        static_assert(run * 2 * 2 * 15 * 127 <= 32767);
        const auto sum_run = [&](std::size_t count) __attribute__((always_inline)) {
            __m256i sum[Rows][2];
            for (int r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
            for (std::size_t s = 0; s < count; ++s) {
                const __m256i w0 = load_codes(codes + s * step_bytes),
                              w1 = load_codes(codes + s * step_bytes + 32);
                const __m256i low0 = _mm256_and_si256(w0, mask), low1 = _mm256_and_si256(w1, mask);
                const __m256i high0 = _mm256_and_si256(_mm256_srli_epi16(w0, 4), mask);
                const __m256i high1 = _mm256_and_si256(_mm256_srli_epi16(w1, 4), mask);
                for (int r = 0; r < Rows; ++r) {
                    const std::int8_t* row = x + static_cast<std::size_t>(r) * stride + 8 * s;
                    const __m256i a = broadcast_codes(row), b = broadcast_codes(row + 4);
                    sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(low0, a));
                    sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(low1, a));
                    sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(high0, b));
                    sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(high1, b));
                }
            }
            for (int r = 0; r < Rows; ++r)
                for (int h = 0; h < 2; ++h)
                    dot[r][h] = _mm256_add_epi32(dot[r][h], _mm256_madd_epi16(sum[r][h], ones));
            codes += count * step_bytes;
            x += count * 8;
        };
        for (; steps >= run; steps -= run) sum_run(run);
        if (steps != 0) sum_run(steps);
    } else {
        // Signed times signed through |w| and sign(x, w). One product of vpmaddubsw: 2 * 128 * 127 fits
        // int16, and sign() never negates -128, because activations lie in -127..127.
        static_assert(2 * 128 * 127 <= 32767);
        for (std::size_t s = 0; s < steps; ++s) {
            const __m256i w0 = load_codes(codes + s * step_bytes),
                          w1 = load_codes(codes + s * step_bytes + 32);
            const __m256i abs0 = _mm256_abs_epi8(w0), abs1 = _mm256_abs_epi8(w1);
            for (int r = 0; r < Rows; ++r) {
                const __m256i a = broadcast_codes(x + static_cast<std::size_t>(r) * stride + 4 * s);
                dot[r][0] = _mm256_add_epi32(
                    dot[r][0], _mm256_madd_epi16(_mm256_maddubs_epi16(abs0, _mm256_sign_epi8(a, w0)), ones));
                dot[r][1] = _mm256_add_epi32(
                    dot[r][1], _mm256_madd_epi16(_mm256_maddubs_epi16(abs1, _mm256_sign_epi8(a, w1)), ones));
            }
        }
    }
}

/// Stores sums[h] to y[0, count), adding the bias.
void store_row(float* y, const float* bias, std::size_t count, __m256 sum0, __m256 sum1) {
    if (count == channels) {
        if (bias != nullptr) {
            sum0 = _mm256_add_ps(sum0, _mm256_loadu_ps(bias));
            sum1 = _mm256_add_ps(sum1, _mm256_loadu_ps(bias + 8));
        }
        _mm256_storeu_ps(y, sum0);
        _mm256_storeu_ps(y + 8, sum1);
        return;
    }
    alignas(32) float values[channels];
    _mm256_store_ps(values, sum0);
    _mm256_store_ps(values + 8, sum1);
    for (std::size_t i = 0; i < count; ++i) y[i] = bias != nullptr ? values[i] + bias[i] : values[i];
}

/// Rows [m, m + Rows) times the tile of channels at n.
template <int Rows, int Bits>
void int8_tile(const KernelCall& call, std::size_t m, std::size_t n, std::size_t count) {
    const WeightsView& w = call.w;
    const ActivationsView& x = call.x;
    constexpr std::size_t step_elements = Bits == 4 ? 8 : 4;
    const auto* rows = static_cast<const std::int8_t*>(x.values) + m * x.stride_elements;
    const std::uint8_t* p = w.codes + n / channels * w.codes_stride_bytes;
    __m256 sums[Rows][2];
    for (int r = 0; r < Rows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();

    for (std::size_t k = 0, g = 0; g < w.groups; ++g) {
        const std::size_t group_end = k + w.group_elements < w.k ? k + w.group_elements : w.k;
        const Group group = load_group<Bits>(w, p);
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
            dot_steps<Rows, Bits>(p, steps, rows + k, x.stride_elements, dot);
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
            p += steps * step_bytes;
            k = end;
        }
    }
    for (int r = 0; r < Rows; ++r)
        store_row(call.y.values + (m + static_cast<std::size_t>(r)) * call.y.stride_elements + n,
                  call.y.bias ? call.y.bias + n : nullptr, count, sums[r][0], sums[r][1]);
}

/// Sweeps blocks of rows whose codes fit half of a 1 MiB L2 cache, so that x is read from there once per tile
/// of W.
template <int Bits>
void int8_rectangle(const KernelCall& call, const Rectangle& part) {
    constexpr std::size_t l2_bytes = 512 * 1024;
    const std::size_t fitting = l2_bytes / call.x.stride_elements / 4 * 4;
    const std::size_t block = fitting < 16 ? 16 : fitting;
    for (std::size_t m_begin = part.m_begin; m_begin < part.m_end; m_begin += block) {
        const std::size_t m_end = m_begin + block < part.m_end ? m_begin + block : part.m_end;
        for (std::size_t n = part.n_begin; n < part.n_end; n += channels) {
            const std::size_t count = part.n_end - n < channels ? part.n_end - n : channels;
            std::size_t m = m_begin;
            for (; m + 4 <= m_end; m += 4) int8_tile<4, Bits>(call, m, n, count);
            switch (m_end - m) {
                case 3: int8_tile<3, Bits>(call, m, n, count); break;
                case 2: int8_tile<2, Bits>(call, m, n, count); break;
                case 1: int8_tile<1, Bits>(call, m, n, count); break;
                default: break;
            }
        }
    }
}

void run_int8(const KernelCall& call, const Rectangle& part, void*) noexcept {
    if (call.w.bits <= 4)
        int8_rectangle<4>(call, part);
    else
        int8_rectangle<8>(call, part);
}

// f32 activations: panels of 16 channels x 256 of K, dequantized to f32 in scratch, then FMA.

constexpr std::size_t panel_elements = 256;  // of K: 16 KiB, half of L1

/// Field i of a step as int32, 8 channels: 4 bits 0..15, 8 bits -128..127.
template <int Bits>
__m256i code_at(__m256i bytes, std::size_t i) {
    if constexpr (Bits == 4)
        return _mm256_and_si256(_mm256_srli_epi32(bytes, static_cast<int>(8 * (i % 4) + 4 * (i / 4))),
                                _mm256_set1_epi32(15));
    else
        return _mm256_srai_epi32(_mm256_slli_epi32(bytes, static_cast<int>(24 - 8 * i)), 24);
}

/// Dequantizes codes of `count` consecutive k, which lie in one group and start at a step, into panel[k][16].
template <int Bits>
void fill_panel(const Group& group, const std::uint8_t* p, std::size_t count, float* panel) {
    constexpr std::size_t step_elements = Bits == 4 ? 8 : 4;
    for (std::size_t k = 0; k < count; k += step_elements, p += step_bytes) {
        for (std::size_t h = 0; h < 2; ++h) {
            const __m256i bytes = load_codes(p + 32 * h);
            for (std::size_t i = 0; i < step_elements && k + i < count; ++i) {
                const __m256 value =
                    _mm256_cvtepi32_ps(_mm256_sub_epi32(code_at<Bits>(bytes, i), group.zero[h]));
                _mm256_store_ps(panel + (k + i) * channels + 8 * h,
                                _mm256_fmadd_ps(value, group.scale[h], group.offset[h]));
            }
        }
    }
}

/// A single row of x: no panel, because every weight is used once, and four chains of FMA instead of two.
template <int Bits>
void f32_row(const KernelCall& call, const Rectangle& part) {
    const WeightsView& w = call.w;
    constexpr std::size_t step_elements = Bits == 4 ? 8 : 4;
    const auto* x = static_cast<const float*>(call.x.values);
    for (std::size_t n = part.n_begin; n < part.n_end; n += channels) {
        const std::uint8_t* p = w.codes + n / channels * w.codes_stride_bytes;
        __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (std::size_t k = 0, g = 0; g < w.groups; ++g) {
            const std::size_t group_end = k + w.group_elements < w.k ? k + w.group_elements : w.k;
            const Group group = load_group<Bits>(w, p);
            __m256 dot[2][2], x_sum[2];
            for (int i = 0; i < 2; ++i) dot[0][i] = dot[1][i] = x_sum[i] = _mm256_setzero_ps();
            const auto add_step = [&](std::size_t count) __attribute__((always_inline)) {
                const __m256i bytes[2] = {load_codes(p), load_codes(p + 32)};
#pragma GCC unroll 8
                for (std::size_t i = 0; i < step_elements; ++i) {
                    if (i >= count) break;
                    const __m256 value = _mm256_broadcast_ss(x + k + i);
                    for (std::size_t h = 0; h < 2; ++h)
                        dot[h][i % 2] = _mm256_fmadd_ps(
                            value,
                            _mm256_cvtepi32_ps(_mm256_sub_epi32(code_at<Bits>(bytes[h], i), group.zero[h])),
                            dot[h][i % 2]);
                    if (w.has_offsets) x_sum[i % 2] = _mm256_add_ps(x_sum[i % 2], value);
                }
            };
            for (; k + step_elements <= group_end; k += step_elements, p += step_bytes)
                add_step(step_elements);
            if (k < group_end) {
                add_step(group_end - k);
                p += step_bytes;
                k = group_end;
            }
            for (int h = 0; h < 2; ++h) {
                sums[h] = _mm256_fmadd_ps(_mm256_add_ps(dot[h][0], dot[h][1]), group.scale[h], sums[h]);
                if (w.has_offsets)
                    sums[h] = _mm256_fmadd_ps(_mm256_add_ps(x_sum[0], x_sum[1]), group.offset[h], sums[h]);
            }
        }
        store_row(call.y.values + n, call.y.bias != nullptr ? call.y.bias + n : nullptr,
                  part.n_end - n < channels ? part.n_end - n : channels, sums[0], sums[1]);
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
        } else if (count == channels) {
            sums[r][0] = _mm256_loadu_ps(row);
            sums[r][1] = _mm256_loadu_ps(row + 8);
        } else {
            alignas(32) float values[channels] = {};
            for (std::size_t i = 0; i < count; ++i) values[i] = row[i];
            sums[r][0] = _mm256_load_ps(values);
            sums[r][1] = _mm256_load_ps(values + 8);
        }
    }
    for (std::size_t k = 0; k < k_count; ++k) {
        const __m256 w0 = _mm256_load_ps(panel + k * channels), w1 = _mm256_load_ps(panel + k * channels + 8);
        for (int r = 0; r < Rows; ++r) {
            const __m256 value = _mm256_broadcast_ss(x + static_cast<std::size_t>(r) * x_stride + k);
            sums[r][0] = _mm256_fmadd_ps(value, w0, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(value, w1, sums[r][1]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        store_row(y + static_cast<std::size_t>(r) * y_stride, bias, count, sums[r][0], sums[r][1]);
}

template <int Bits>
void f32_rectangle(const KernelCall& call, const Rectangle& part, float* panel) {
    const WeightsView& w = call.w;
    constexpr std::size_t step_elements = Bits == 4 ? 8 : 4;
    const auto* x = static_cast<const float*>(call.x.values);
    const std::size_t x_stride = call.x.stride_elements, y_stride = call.y.stride_elements;
    for (std::size_t n = part.n_begin; n < part.n_end; n += channels) {
        const std::size_t count = part.n_end - n < channels ? part.n_end - n : channels;
        const std::uint8_t* p = w.codes + n / channels * w.codes_stride_bytes;
        Group group{};
        std::size_t group_end = 0;  // of the group that p stands in
        for (std::size_t k = 0; k < w.k; k += panel_elements) {
            const std::size_t k_count = w.k - k < panel_elements ? w.k - k : panel_elements;
            for (std::size_t filled = 0; filled < k_count;) {  // groups end where they like
                if (k + filled == group_end) {
                    group = load_group<Bits>(w, p);
                    group_end = group_end + w.group_elements < w.k ? group_end + w.group_elements : w.k;
                }
                const std::size_t piece =
                    group_end - k - filled < k_count - filled ? group_end - k - filled : k_count - filled;
                fill_panel<Bits>(group, p, piece, panel + filled * channels);
                p += (piece + step_elements - 1) / step_elements * step_bytes;
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

void run_f32(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    const bool four = call.w.bits <= 4;
    if (call.x.m == 1)
        four ? f32_row<4>(call, part) : f32_row<8>(call, part);  // of the call, not of this part
    else if (four)
        f32_rectangle<4>(call, part, static_cast<float*>(scratch));
    else
        f32_rectangle<8>(call, part, static_cast<float*>(scratch));
}

}  // namespace

const KernelCode int_grouped_avx2_int8{run_int8, 0, 4, channels};
const KernelCode int_grouped_avx2_f32{run_f32, panel_elements* channels * sizeof(float), 6, channels};

}  // namespace fewbit::inline v0::kernels
