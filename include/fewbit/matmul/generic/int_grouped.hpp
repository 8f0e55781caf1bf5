// Generic kernels for integer codes of 2..8 bits in the canonical order (Layout::rows): portable C++, any
// CPU, any group, with f32 or int8 activations. They are products, not the oracle: that is reference.hpp.
#pragma once

#include <cstdint>

#include "fewbit/core/scalar.hpp"
#include "fewbit/formats/bit_matrix.hpp"
#include "fewbit/matmul/contract.hpp"
#include "fewbit/matmul/generic/grouped.hpp"

namespace fewbit::inline v0::generic {

/// Scale and offset of group g of row n of Layout::rows.
[[nodiscard]] inline GroupParameters stored_parameters(const WeightsView& w, std::size_t n,
                                                       std::size_t g) noexcept {
    const std::size_t row = w.per_tensor ? 0 : n, column = w.per_tensor ? 0 : g;
    if (w.row_scales != nullptr)
        return {static_cast<float>(w.scales[row * w.scales_stride_bytes + column]) *
                    float_from_e8m0(w.row_scales[row]),
                0.0f};
    const auto number = [&](const std::uint8_t* rows, std::size_t stride) {
        return load_float(
            w.scale, reinterpret_cast<const std::byte*>(rows) + row * stride + column * size_bytes(w.scale));
    };
    return {number(w.scales, w.scales_stride_bytes),
            w.has_offsets ? number(w.offsets, w.offsets_stride_bytes) : 0.0f};
}

/// Rows of integer codes for the loops of grouped.hpp.
struct IntegerRows {
    using Level = std::int16_t;

    const WeightsView& w;

    [[nodiscard]] GroupParameters parameters(std::size_t n, std::size_t g) const noexcept {
        return stored_parameters(w, n, g);
    }
    /// code - zero of `count` weights of row n from k on.
    void levels(std::size_t n, std::size_t k, std::size_t count, std::int16_t* out) const noexcept {
        constexpr std::size_t piece = 256;
        std::uint8_t codes[piece];
        for (std::size_t done = 0; done < count; done += piece) {
            const std::size_t begin = k + done, end = begin + (count - done < piece ? count - done : piece);
            detail::unpack_codes(w.codes + n * w.codes_stride_bytes, w.bits, begin, end - begin, codes);
            for_each_group(begin, end, w.group_elements,
                           [&](std::size_t first, std::size_t length, std::size_t g) {
                               const int z = zero(n, g);
                               for (std::size_t i = first; i < first + length; ++i)
                                   out[i - k] = static_cast<std::int16_t>(codes[i - begin] - z);
                           });
        }
    }

private:
    [[nodiscard]] int zero(std::size_t n, std::size_t g) const noexcept {
        if (w.has_offsets) return 0;
        if (!w.has_zeros) return w.middle_code;
        return detail::code_at(w.zeros + (w.per_tensor ? 0 : n) * w.zeros_stride_bytes, w.bits,
                               w.per_tensor ? 0 : g);
    }
};

template <class X>
inline void int_grouped_floats(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    grouped_floats<X>(IntegerRows{call.w}, call, part, scratch);
}
inline void int_grouped_int8(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    grouped_int8(IntegerRows{call.w}, call, part, scratch);
}

inline constexpr KernelCode int_grouped_f32_code{int_grouped_floats<float>, grouped_f32_scratch_bytes, 4,
                                                 panel_channels};
inline constexpr KernelCode int_grouped_bf16_code{int_grouped_floats<Bf16>, grouped_f32_scratch_bytes, 4,
                                                  panel_channels};
inline constexpr KernelCode int_grouped_int8_code{int_grouped_int8, grouped_int8_scratch_bytes, 1, 1};

}  // namespace fewbit::inline v0::generic
