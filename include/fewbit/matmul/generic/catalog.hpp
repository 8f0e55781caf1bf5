// The catalogue of fewbit::headers: the generic kernels, which a query must allow as fallbacks. The compiled
// library reads kernels/catalog.def instead; a test holds the two together.
#pragma once

#include <array>
#include <span>

#include "fewbit/matmul/generic/blocks.hpp"
#include "fewbit/matmul/generic/codebook.hpp"
#include "fewbit/matmul/generic/dense.hpp"
#include "fewbit/matmul/generic/int_grouped.hpp"
#include "fewbit/matmul/kernel.hpp"

namespace fewbit::inline v0 {

namespace generic {
inline constexpr std::array catalog{
    KernelInfo{"dense/generic/f32", "dense", Isa::generic, ActivationElement::f32, Layout::rows, 1u,
               &dense_f32_code},
    KernelInfo{"dense/generic/bf16", "dense", Isa::generic, ActivationElement::bf16, Layout::rows, 1u,
               &dense_bf16_code},
    KernelInfo{"int_grouped/generic/f32", "int_grouped", Isa::generic, ActivationElement::f32, Layout::rows,
               0x1FCu, &int_grouped_f32_code},
    KernelInfo{"int_grouped/generic/bf16", "int_grouped", Isa::generic, ActivationElement::bf16, Layout::rows,
               0x1FCu, &int_grouped_bf16_code},
    KernelInfo{"int_grouped/generic/int8", "int_grouped", Isa::generic, ActivationElement::int8, Layout::rows,
               0x1FCu, &int_grouped_int8_code},
    KernelInfo{"codebook/generic/f32", "codebook", Isa::generic, ActivationElement::f32, Layout::rows, 0x600u,
               &codebook_f32_code},
    KernelInfo{"codebook/generic/bf16", "codebook", Isa::generic, ActivationElement::bf16, Layout::rows,
               0x600u, &codebook_bf16_code},
    KernelInfo{"codebook/generic/int8", "codebook", Isa::generic, ActivationElement::int8, Layout::rows,
               0x200u, &codebook_int8_code},
    KernelInfo{"blocks/generic/f32", "blocks", Isa::generic, ActivationElement::f32, Layout::rows, 2u,
               &blocks_f32_code},
    KernelInfo{"blocks/generic/bf16", "blocks", Isa::generic, ActivationElement::bf16, Layout::rows, 2u,
               &blocks_bf16_code},
    KernelInfo{"blocks/generic/int8", "blocks", Isa::generic, ActivationElement::int8, Layout::rows, 2u,
               &blocks_int8_code},
};
}  // namespace generic

#if defined(FEWBIT_HEADER_ONLY)
inline std::span<const KernelInfo> kernel_catalog() noexcept { return generic::catalog; }
#endif

}  // namespace fewbit::inline v0
