// AVX2 kernels for integer codes in Layout::tile16, in fields of 4 or 8 bits, with int8, f32 and bf16 activations.
// kernels/tile16/README.md has the arithmetic and what limits it.
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/floats.hpp"
#include "kernels/tile16/lanes_avx2.hpp"
#include "kernels/tile16/lanes_avx2_f32.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode int_grouped_avx2_int8;
extern const KernelCode int_grouped_avx2_f32;
extern const KernelCode int_grouped_avx2_bf16;

const KernelCode int_grouped_avx2_int8 = integer_kernel<KernelAvx2>;
const KernelCode int_grouped_avx2_f32 = float_kernel<Avx2F32>(integer_float_products<Avx2F32>);
const KernelCode int_grouped_avx2_bf16 = float_kernel<Avx2F32>(integer_float_products<Avx2F32>).for_bf16();

}  // namespace fewbit::inline v0::kernels
