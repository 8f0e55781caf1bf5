// Compiled twins of the generic kernels for ggml's blocks.
#include "fewbit/matmul/generic/blocks.hpp"

namespace fewbit::inline v0::kernels {
extern const KernelCode blocks_generic_f32;
extern const KernelCode blocks_generic_bf16;
extern const KernelCode blocks_generic_int8;
const KernelCode blocks_generic_f32 = generic::blocks_f32_code;
const KernelCode blocks_generic_bf16 = generic::blocks_bf16_code;
const KernelCode blocks_generic_int8 = generic::blocks_int8_code;
}  // namespace fewbit::inline v0::kernels
