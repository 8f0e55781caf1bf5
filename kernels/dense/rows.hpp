// Few rows of x times float weights in Layout::rows: dot products along K, R rows by C channels at a time. W is read in place,
// once, which is what limits it. A template over the registers of an instruction set:
//
//   words, word_elements          numbers of 4 bytes in a register, and elements of K in each
//   load<Type>(p)                 the next words * word_elements weights
//   load_part<Type>(p, count)     the first `count` of them, zeros behind; reads nothing else
//   load_x, load_x_part           the same of x
//   dot, zero, sum                sum += w * x; the sum of all lanes
#pragma once

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {
namespace {

template <Scalar Type>
constexpr std::size_t element_bytes = Type == Scalar::f32 ? 4 : 2;

/// y[0, R)[0, C) for rows of x at m and channels at n. Each element's arithmetic is the same for every R and C.
template <class Lanes, Scalar Type, int R, int C>
void dot_tile(const KernelCall& call, std::size_t m, std::size_t n) {
    constexpr std::size_t step = Lanes::words * Lanes::word_elements, x_bytes = 4 / Lanes::word_elements;
    const std::size_t k = call.w.k;
    const std::uint8_t *x[R], *w[C];
    for (int r = 0; r < R; ++r)
        x[r] = static_cast<const std::uint8_t*>(call.x.values) +
               (m + static_cast<std::size_t>(r)) * call.x.stride_elements * x_bytes;
    for (int c = 0; c < C; ++c)
        w[c] = call.w.codes + (n + static_cast<std::size_t>(c)) * call.w.codes_stride_bytes;
    typename Lanes::Floats sums[R][C];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sums[r][c] = Lanes::zero();
    std::size_t i = 0;
    for (; i + step <= k; i += step) {
        typename Lanes::Floats rows[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) rows[r] = Lanes::load_x(x[r] + i * x_bytes);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            const auto weights = Lanes::template load<Type>(w[c] + i * element_bytes<Type>);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) sums[r][c] = Lanes::dot(sums[r][c], weights, rows[r]);
        }
    }
    if (i < k) {
        typename Lanes::Floats rows[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) rows[r] = Lanes::load_x_part(x[r] + i * x_bytes, k - i);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            const auto weights = Lanes::template load_part<Type>(w[c] + i * element_bytes<Type>, k - i);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) sums[r][c] = Lanes::dot(sums[r][c], weights, rows[r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
            const std::size_t column = n + static_cast<std::size_t>(c);
            const float bias = call.y.bias != nullptr ? call.y.bias[column] : 0.0f;
            call.y.values[(m + static_cast<std::size_t>(r)) * call.y.stride_elements + column] =
                Lanes::sum(sums[r][c]) + bias;
        }
}

template <class Lanes, Scalar Type, int R>
void dot_rows(const KernelCall& call, std::size_t m, std::size_t n, std::size_t n_end) {
    constexpr int wide = R == 1 ? 8 : Lanes::channels_of_four;
    for (; n + wide <= n_end; n += wide) dot_tile<Lanes, Type, R, wide>(call, m, n);
    for (; n < n_end; ++n) dot_tile<Lanes, Type, R, 1>(call, m, n);
}

/// Blocks of 24 channels are swept by all rows before the next, so that x, not W, is read again.
template <class Lanes, Scalar Type>
void few_rows(const KernelCall& call, const Rectangle& part) {
    constexpr std::size_t block = 24;
    for (std::size_t n = part.n_begin; n < part.n_end; n += block) {
        const std::size_t n_end = n + block < part.n_end ? n + block : part.n_end;
        std::size_t m = part.m_begin;
        for (; m + 4 <= part.m_end; m += 4) dot_rows<Lanes, Type, 4>(call, m, n, n_end);
        for (; m < part.m_end; ++m) dot_rows<Lanes, Type, 1>(call, m, n, n_end);
    }
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
