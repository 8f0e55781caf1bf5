// NEON kernels for integer codes in Layout::tile16 with int8, f32 and bf16 activations.
// kernels/tile16/README.md has the arithmetic and what limits it.
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/floats.hpp"
#include "kernels/tile16/lanes_neon.hpp"
#include "kernels/tile16/lanes_neon_f32.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode int_grouped_neon_int8;
extern const KernelCode int_grouped_neon_f32;
extern const KernelCode int_grouped_neon_bf16;

const KernelCode int_grouped_neon_int8 = integer_kernel<Neon>;
const KernelCode int_grouped_neon_f32 = float_kernel<NeonF32>(integer_float_products<NeonF32>);
const KernelCode int_grouped_neon_bf16 = float_kernel<NeonF32>(integer_float_products<NeonF32>).for_bf16();

}  // namespace fewbit::inline v0::kernels
