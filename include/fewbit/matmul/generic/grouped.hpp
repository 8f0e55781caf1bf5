// The loops that generic kernels for quantized weights share, whatever their codes mean:
//
//   w[n][k] = scale * level + offset       scale and offset of a group along K
//
// `Rows` gives parameters(n, g) and levels(n, k, count, out) for k at multiples of 256; Rows::Level is an integer
// of 16 bits, or float where only float activations are multiplied.
#pragma once

#include <cstdint>
#include <type_traits>

#include "fewbit/matmul/contract.hpp"
#include "fewbit/matmul/generic/panel.hpp"

namespace fewbit::inline v0::generic {

struct GroupParameters {
    float scale = 0;
    float offset = 0;
};

/// Runs body(k, count, group) over the pieces of [begin, end) that lie in one group.
template <class Body>
inline void for_each_group(std::size_t begin, std::size_t end, std::size_t group_elements,
                           Body&& body) noexcept {
    for (std::size_t k = begin; k < end;) {
        const std::size_t g = k / group_elements;
        const std::size_t stop = (g + 1) * group_elements < end ? (g + 1) * group_elements : end;
        body(k, stop - k, g);
        k = stop;
    }
}

inline constexpr std::size_t grouped_f32_scratch_bytes = panel_elements * panel_channels * sizeof(float);

/// f32 or bf16 activations (X: float or Bf16): dequantizes panels of 8 channels, then multiplies in f32.
template <class X, class Rows>
inline void grouped_floats(const Rows& rows, const KernelCall& call, const Rectangle& part,
                           void* scratch) noexcept {
    run_panels<X>(call, part, static_cast<float*>(scratch),
                  [&](std::size_t n, std::size_t k_begin, std::size_t count, std::size_t lane, float* panel) {
                      typename Rows::Level levels[panel_elements];
                      rows.levels(n, k_begin, count, levels);
                      for_each_group(k_begin, k_begin + count, call.w.group_elements,
                                     [&](std::size_t k, std::size_t length, std::size_t g) {
                                         const GroupParameters p = rows.parameters(n, g);
                                         for (std::size_t i = k - k_begin; i < k - k_begin + length; ++i)
                                             panel[i * panel_channels + lane] =
                                                 p.scale * static_cast<float>(levels[i]) + p.offset;
                                     });
                  });
}

inline constexpr std::size_t grouped_chunk = 2048;  ///< of K
inline constexpr std::size_t grouped_int8_scratch_bytes = grouped_chunk * sizeof(std::int16_t);
static_assert(grouped_chunk <= max_int32_products);

/// int8 activations: exact int32 dot products of at most grouped_chunk products between two scales.
template <class Rows>
inline void grouped_int8(const Rows& rows, const KernelCall& call, const Rectangle& part,
                         void* scratch) noexcept {
    static_assert(std::is_same_v<typename Rows::Level, std::int16_t>);
    const WeightsView& w = call.w;
    auto* const levels = static_cast<std::int16_t*>(scratch);
    for (std::size_t n = part.n_begin; n < part.n_end; ++n) {
        for (std::size_t m = part.m_begin; m < part.m_end; ++m)
            call.y.values[m * call.y.stride_elements + n] = call.y.bias ? call.y.bias[n] : 0.0f;
        for (std::size_t k_begin = 0; k_begin < w.k; k_begin += grouped_chunk) {
            const std::size_t k_end = k_begin + grouped_chunk < w.k ? k_begin + grouped_chunk : w.k;
            rows.levels(n, k_begin, k_end - k_begin, levels);
            for_each_group(
                k_begin, k_end, w.group_elements, [&](std::size_t k, std::size_t length, std::size_t g) {
                    const GroupParameters p = rows.parameters(n, g);
                    for (std::size_t m = part.m_begin; m < part.m_end; ++m) {
                        const auto* x =
                            static_cast<const std::int8_t*>(call.x.values) + m * call.x.stride_elements;
                        float& y = call.y.values[m * call.y.stride_elements + n];
                        for_each_group(k, k + length, call.x.group_elements,
                                       [&](std::size_t i, std::size_t products, std::size_t xg) {
                                           std::int32_t dot = 0;
                                           const std::int16_t* a = levels + (i - k_begin);
                                           for (std::size_t j = 0; j < products; ++j)
                                               dot += static_cast<std::int32_t>(a[j]) *
                                                      static_cast<std::int16_t>(x[i + j]);
                                           const float x_scale = call.x.scales[m * call.x.groups + xg];
                                           y += static_cast<float>(dot) * (p.scale * x_scale);
                                           if (w.has_offsets) {
                                               std::int32_t sum = 0;
                                               for (std::size_t j = 0; j < products; ++j) sum += x[i + j];
                                               y += static_cast<float>(sum) * (p.offset * x_scale);
                                           }
                                       });
                    }
                });
        }
    }
}

}  // namespace fewbit::inline v0::generic
