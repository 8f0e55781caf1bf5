// Compiled twins of the generic kernels for codebooks.
#include "fewbit/matmul/generic/codebook.hpp"

namespace fewbit::inline v0::kernels {
extern const KernelCode codebook_generic_f32;
extern const KernelCode codebook_generic_bf16;
extern const KernelCode codebook_generic_int8;
const KernelCode codebook_generic_f32 = generic::codebook_f32_code;
const KernelCode codebook_generic_bf16 = generic::codebook_bf16_code;
const KernelCode codebook_generic_int8 = generic::codebook_int8_code;
}  // namespace fewbit::inline v0::kernels
