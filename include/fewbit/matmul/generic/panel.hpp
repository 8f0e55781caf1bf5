// The float loop that the generic kernels share: a panel of W, dequantized to f32 and transposed, times rows
// of x.
//
//   panel[k][j], k < count, j < 8     w[n + j][k_begin + k]; missing channels are 0
//   y[m][n + j] += sum_k x[m][k] * panel[k][j]      in ascending k, whatever the rectangle
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::generic {

inline constexpr std::size_t panel_channels = 8;
inline constexpr std::size_t panel_elements = 256;  ///< of K: 8 KiB, so that it stays in L1

/// An element of bf16 activations.
struct Bf16 {
    std::uint16_t bits;

    operator float() const noexcept { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// `Rows` rows of x against the panel. The accumulators live in arrays of constant size, which compilers keep
/// in vector registers; no reassociation is needed.
template <int Rows, class X>
inline void multiply_panel(const X* x, std::size_t x_stride, const float* panel, std::size_t count, float* y,
                           std::size_t y_stride, std::size_t channels) noexcept {
    float sums[Rows][panel_channels] = {};
    for (int r = 0; r < Rows; ++r)
        for (std::size_t j = 0; j < channels; ++j) sums[r][j] = y[static_cast<std::size_t>(r) * y_stride + j];
    for (std::size_t k = 0; k < count; ++k)
        for (int r = 0; r < Rows; ++r) {
            const float value = x[static_cast<std::size_t>(r) * x_stride + k];
            for (std::size_t j = 0; j < panel_channels; ++j)
                sums[r][j] += value * panel[k * panel_channels + j];
        }
    for (int r = 0; r < Rows; ++r)
        for (std::size_t j = 0; j < channels; ++j) y[static_cast<std::size_t>(r) * y_stride + j] = sums[r][j];
}

/// Runs a rectangle. fill(n, k_begin, count, lane, panel) writes channel n of the panel: panel[k * 8 + lane].
/// X: float or Bf16.
template <class X, class Fill>
inline void run_panels(const KernelCall& call, const Rectangle& part, float* panel, Fill&& fill) noexcept {
    const auto* x = static_cast<const X*>(call.x.values);
    for (std::size_t n = part.n_begin; n < part.n_end; n += panel_channels) {
        const std::size_t channels = part.n_end - n < panel_channels ? part.n_end - n : panel_channels;
        for (std::size_t m = part.m_begin; m < part.m_end; ++m)
            for (std::size_t j = 0; j < channels; ++j)
                call.y.values[m * call.y.stride_elements + n + j] = call.y.bias ? call.y.bias[n + j] : 0.0f;
        for (std::size_t k = 0; k < call.w.k; k += panel_elements) {
            const std::size_t count = call.w.k - k < panel_elements ? call.w.k - k : panel_elements;
            for (std::size_t i = 0; i < count * panel_channels; ++i) panel[i] = 0.0f;
            for (std::size_t j = 0; j < channels; ++j) fill(n + j, k, count, j, panel);
            std::size_t m = part.m_begin;
            const auto rows = [&](auto multiply, std::size_t step) {
                for (; m + step <= part.m_end; m += step)
                    multiply(x + m * call.x.stride_elements + k, call.x.stride_elements, panel, count,
                             call.y.values + m * call.y.stride_elements + n, call.y.stride_elements,
                             channels);
            };
            rows(multiply_panel<4, X>, 4);
            rows(multiply_panel<1, X>, 1);
        }
    }
}

}  // namespace fewbit::inline v0::generic
