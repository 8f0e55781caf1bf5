// Generic kernels for codebooks (formats/codebooks.hpp) in the canonical order (Layout::rows): tables of 16 with f32
// or int8 activations, fp8 with f32 activations. Portable C++, any CPU, any group.
#pragma once

#include <cstdint>

#include "fewbit/formats/bit_matrix.hpp"
#include "fewbit/matmul/contract.hpp"
#include "fewbit/matmul/generic/grouped.hpp"
#include "fewbit/matmul/generic/int_grouped.hpp"

namespace fewbit::inline v0::generic {

/// Rows of a codebook for the loops of grouped.hpp: `table` gives what a code stands for, in units of `unit`.
template <class T, class Entry>
struct CodebookRows {
    using Level = T;

    const WeightsView& w;
    const Entry* table;
    float unit;

    [[nodiscard]] GroupParameters parameters(std::size_t n, std::size_t g) const noexcept {
        return {stored_parameters(w, n, g).scale * unit, 0.0f};
    }
    void levels(std::size_t n, std::size_t k, std::size_t count, Level* out) const noexcept {
        constexpr std::size_t piece = 256;
        std::uint8_t codes[piece];
        for (std::size_t done = 0; done < count; done += piece) {
            const std::size_t size = count - done < piece ? count - done : piece;
            detail::unpack_codes(w.codes + n * w.codes_stride_bytes, w.bits, k + done, size, codes);
            for (std::size_t i = 0; i < size; ++i) out[done + i] = table[codes[i]];
        }
    }
};

template <class X>
inline void codebook_floats(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    grouped_floats<X>(CodebookRows<float, float>{call.w, call.w.table, 1.0f}, call, part, scratch);
}
inline void codebook_int8(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    grouped_int8(CodebookRows<std::int16_t, std::int8_t>{call.w, call.w.levels, call.w.unit}, call, part,
                 scratch);
}

inline constexpr KernelCode codebook_f32_code{codebook_floats<float>, grouped_f32_scratch_bytes, 4,
                                              panel_channels};
inline constexpr KernelCode codebook_bf16_code{codebook_floats<Bf16>, grouped_f32_scratch_bytes, 4,
                                               panel_channels};
inline constexpr KernelCode codebook_int8_code{codebook_int8, grouped_int8_scratch_bytes, 1, 1};

}  // namespace fewbit::inline v0::generic
