// AVX2 kernel for float weights (f32, f16, bf16) in Layout::rows with f32 activations: dot products along K
// in lanes of 8, R rows of x by C channels at a time so that every load serves several FMAs. README.md has
// more.
#include <immintrin.h>

#include <cstring>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode dense_avx2_f32;

namespace {

constexpr std::size_t lanes = 8;

template <Scalar Type>
__m256 load8(const std::uint8_t* p) {
    if constexpr (Type == Scalar::f16)
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    else if constexpr (Type == Scalar::bf16)
        return _mm256_castsi256_ps(_mm256_slli_epi32(
            _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
    else
        return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
}

/// The first `count` < 8 elements, zeros behind them; reads nothing else.
template <Scalar Type>
__m256 load_tail(const std::uint8_t* p, std::size_t count) {
    alignas(32) std::uint8_t bytes[32] = {};
    std::memcpy(bytes, p, count * (Type == Scalar::f32 ? 4 : 2));
    return load8<Type>(bytes);
}

float horizontal_sum(__m256 v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/// y[0, R)[0, C) for rows of x at m and channels at n. Each element's arithmetic is the same for every R and
/// C.
template <Scalar Type, int R, int C>
void tile(const KernelCall& call, std::size_t m, std::size_t n) {
    constexpr std::size_t element_bytes = Type == Scalar::f32 ? 4 : 2;
    const std::size_t k = call.w.k;
    const float* x[R];
    const std::uint8_t* w[C];
    for (int r = 0; r < R; ++r)
        x[r] = static_cast<const float*>(call.x.values) +
               (m + static_cast<std::size_t>(r)) * call.x.stride_elements;
    for (int c = 0; c < C; ++c)
        w[c] = call.w.codes + (n + static_cast<std::size_t>(c)) * call.w.codes_stride_bytes;
    __m256 sums[R][C];
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) sums[r][c] = _mm256_setzero_ps();
    std::size_t i = 0;
    for (; i + lanes <= k; i += lanes) {
        __m256 rows[R];
        for (int r = 0; r < R; ++r) rows[r] = _mm256_loadu_ps(x[r] + i);
        for (int c = 0; c < C; ++c) {
            const __m256 weights = load8<Type>(w[c] + i * element_bytes);
            for (int r = 0; r < R; ++r) sums[r][c] = _mm256_fmadd_ps(rows[r], weights, sums[r][c]);
        }
    }
    if (i < k) {
        __m256 rows[R];
        for (int r = 0; r < R; ++r)
            rows[r] = load_tail<Scalar::f32>(reinterpret_cast<const std::uint8_t*>(x[r] + i), k - i);
        for (int c = 0; c < C; ++c) {
            const __m256 weights = load_tail<Type>(w[c] + i * element_bytes, k - i);
            for (int r = 0; r < R; ++r) sums[r][c] = _mm256_fmadd_ps(rows[r], weights, sums[r][c]);
        }
    }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) {
            const std::size_t column = n + static_cast<std::size_t>(c);
            const float bias = call.y.bias != nullptr ? call.y.bias[column] : 0.0f;
            call.y.values[(m + static_cast<std::size_t>(r)) * call.y.stride_elements + column] =
                horizontal_sum(sums[r][c]) + bias;
        }
}

template <Scalar Type, int R>
void row_block(const KernelCall& call, std::size_t m, std::size_t n, std::size_t n_end) {
    constexpr int wide = R == 1 ? 8 : 3;
    for (; n + wide <= n_end; n += wide) tile<Type, R, wide>(call, m, n);
    for (; n < n_end; ++n) tile<Type, R, 1>(call, m, n);
}

/// Blocks of 24 channels are swept by all rows before the next, so that x, not W, is read again.
template <Scalar Type>
void rectangle(const KernelCall& call, const Rectangle& part) {
    constexpr std::size_t block = 24;
    for (std::size_t n = part.n_begin; n < part.n_end; n += block) {
        const std::size_t n_end = n + block < part.n_end ? n + block : part.n_end;
        std::size_t m = part.m_begin;
        for (; m + 4 <= part.m_end; m += 4) row_block<Type, 4>(call, m, n, n_end);
        for (; m < part.m_end; ++m) row_block<Type, 1>(call, m, n, n_end);
    }
}

void run_f32(const KernelCall& call, const Rectangle& part, void*) noexcept {
    if (call.w.scale == Scalar::f16)
        rectangle<Scalar::f16>(call, part);
    else if (call.w.scale == Scalar::bf16)
        rectangle<Scalar::bf16>(call, part);
    else
        rectangle<Scalar::f32>(call, part);
}

}  // namespace

const KernelCode dense_avx2_f32{run_f32, 0, 4, 24};

}  // namespace fewbit::inline v0::kernels
