// Generic kernel for float weights (f32, f16, bf16) with f32 activations: portable C++, any CPU.
#pragma once

#include <cstring>

#include "fewbit/core/scalar.hpp"
#include "fewbit/matmul/contract.hpp"
#include "fewbit/matmul/generic/panel.hpp"

namespace fewbit::inline v0::generic {

template <class X>
inline void dense_floats(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    const WeightsView& w = call.w;
    const std::size_t element_bytes = size_bytes(w.scale);
    run_panels<X>(call, part, static_cast<float*>(scratch),
                  [&](std::size_t n, std::size_t k, std::size_t count, std::size_t lane, float* panel) {
                      const auto* row = reinterpret_cast<const std::byte*>(w.codes) +
                                        n * w.codes_stride_bytes + k * element_bytes;
                      if (w.scale == Scalar::f32) {
                          for (std::size_t i = 0; i < count; ++i)
                              std::memcpy(&panel[i * panel_channels + lane], row + 4 * i, 4);
                      } else {
                          for (std::size_t i = 0; i < count; ++i)
                              panel[i * panel_channels + lane] = load_float(w.scale, row + i * element_bytes);
                      }
                  });
}

inline constexpr KernelCode dense_f32_code{dense_floats<float>,
                                           panel_elements* panel_channels * sizeof(float), 4, panel_channels};
inline constexpr KernelCode dense_bf16_code{
    dense_floats<Bf16>, panel_elements* panel_channels * sizeof(float), 4, panel_channels};

}  // namespace fewbit::inline v0::generic
