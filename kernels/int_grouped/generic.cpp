// Compiled twins of the generic kernels for integer codes.
#include "fewbit/matmul/generic/int_grouped.hpp"

namespace fewbit::inline v0::kernels {
extern const KernelCode int_grouped_generic_f32;
extern const KernelCode int_grouped_generic_bf16;
extern const KernelCode int_grouped_generic_int8;
const KernelCode int_grouped_generic_f32 = generic::int_grouped_f32_code;
const KernelCode int_grouped_generic_bf16 = generic::int_grouped_bf16_code;
const KernelCode int_grouped_generic_int8 = generic::int_grouped_int8_code;
}  // namespace fewbit::inline v0::kernels
