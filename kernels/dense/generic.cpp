// Compiled twin of the generic kernel for float weights.
#include "fewbit/matmul/generic/dense.hpp"

namespace fewbit::inline v0::kernels {
extern const KernelCode dense_generic_f32;
extern const KernelCode dense_generic_bf16;
const KernelCode dense_generic_f32 = generic::dense_f32_code;
const KernelCode dense_generic_bf16 = generic::dense_bf16_code;
}  // namespace fewbit::inline v0::kernels
