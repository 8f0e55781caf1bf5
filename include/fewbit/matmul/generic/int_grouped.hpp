// Generic kernels for integer codes of 2..8 bits in the canonical order (Layout::rows): portable C++, any
// CPU, any group, with f32 or int8 activations. They are products, not the oracle: that is reference.hpp.
#pragma once

#include <cstdint>

#include "fewbit/core/scalar.hpp"
#include "fewbit/formats/bit_matrix.hpp"
#include "fewbit/matmul/contract.hpp"
#include "fewbit/matmul/generic/panel.hpp"

namespace fewbit::inline v0::generic {

/// Scale, zero and offset of one group.
struct GroupParameters {
    float scale;
    int zero;
    float offset;
};

[[nodiscard]] inline GroupParameters group_parameters(const WeightsView& w, std::size_t n,
                                                      std::size_t g) noexcept {
    const std::size_t row = w.per_tensor ? 0 : n, column = w.per_tensor ? 0 : g;
    const auto number = [&](const std::uint8_t* rows, std::size_t stride) {
        return load_float(
            w.scale, reinterpret_cast<const std::byte*>(rows) + row * stride + column * size_bytes(w.scale));
    };
    GroupParameters p{number(w.scales, w.scales_stride_bytes), w.middle_code, 0.0f};
    if (w.has_zeros) {
        std::uint8_t zero = 0;
        detail::unpack_codes(w.zeros + row * w.zeros_stride_bytes, w.bits, column, 1, &zero);
        p.zero = zero;
    }
    if (w.has_offsets) {
        p.zero = 0;
        p.offset = number(w.offsets, w.offsets_stride_bytes);
    }
    return p;
}

/// Runs body(k, count, group) over the pieces of [begin, end) that lie in one group of W.
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

/// f32 activations: dequantizes panels of 8 channels, then multiplies in f32.
inline void int_grouped_f32(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    const WeightsView& w = call.w;
    run_panels(call, part, static_cast<float*>(scratch),
               [&](std::size_t n, std::size_t k_begin, std::size_t count, std::size_t lane, float* panel) {
                   std::uint8_t codes[panel_elements];
                   detail::unpack_codes(w.codes + n * w.codes_stride_bytes, w.bits, k_begin, count, codes);
                   for_each_group(k_begin, k_begin + count, w.group_elements,
                                  [&](std::size_t k, std::size_t length, std::size_t g) {
                                      const GroupParameters p = group_parameters(w, n, g);
                                      for (std::size_t i = k - k_begin; i < k - k_begin + length; ++i)
                                          panel[i * panel_channels + lane] =
                                              p.scale * static_cast<float>(codes[i] - p.zero) + p.offset;
                                  });
               });
}

/// int8 activations: exact int32 dot products of at most max_int32_products codes between two scales.
inline void int_grouped_int8(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    const WeightsView& w = call.w;
    constexpr std::size_t chunk = 2048;
    static_assert(chunk <= max_int32_products);
    auto* const centered = static_cast<std::int16_t*>(scratch);  // chunk codes minus their group's zero
    std::uint8_t codes[chunk];
    for (std::size_t n = part.n_begin; n < part.n_end; ++n) {
        for (std::size_t m = part.m_begin; m < part.m_end; ++m)
            call.y.values[m * call.y.stride_elements + n] = call.y.bias ? call.y.bias[n] : 0.0f;
        for (std::size_t k_begin = 0; k_begin < w.k; k_begin += chunk) {
            const std::size_t k_end = k_begin + chunk < w.k ? k_begin + chunk : w.k;
            detail::unpack_codes(w.codes + n * w.codes_stride_bytes, w.bits, k_begin, k_end - k_begin, codes);
            for_each_group(
                k_begin, k_end, w.group_elements, [&](std::size_t k, std::size_t length, std::size_t g) {
                    const GroupParameters p = group_parameters(w, n, g);
                    for (std::size_t i = k - k_begin; i < k - k_begin + length; ++i)
                        centered[i] = static_cast<std::int16_t>(codes[i] - p.zero);
                    for (std::size_t m = part.m_begin; m < part.m_end; ++m) {
                        const auto* x =
                            static_cast<const std::int8_t*>(call.x.values) + m * call.x.stride_elements;
                        float& y = call.y.values[m * call.y.stride_elements + n];
                        for_each_group(k, k + length, call.x.group_elements,
                                       [&](std::size_t i, std::size_t products, std::size_t xg) {
                                           std::int32_t dot = 0;
                                           const std::int16_t* a = centered + (i - k_begin);
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

inline constexpr KernelCode int_grouped_f32_code{
    int_grouped_f32, panel_elements* panel_channels * sizeof(float), 4, panel_channels};
inline constexpr KernelCode int_grouped_int8_code{int_grouped_int8, 2048 * sizeof(std::int16_t), 1, 1};

}  // namespace fewbit::inline v0::generic
