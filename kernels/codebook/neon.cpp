// NEON kernels for codebooks in Layout::tile16: tables of 16 with int8, f32 and bf16 activations, fp8 with the last two.
// kernels/tile16/README.md has the arithmetic and what limits it.
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/floats.hpp"
#include "kernels/tile16/lanes_neon.hpp"
#include "kernels/tile16/lanes_neon_f32.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode codebook_neon_int8;
extern const KernelCode codebook_neon_f32;
extern const KernelCode codebook_neon_bf16;

const KernelCode codebook_neon_int8 = table_kernel<Neon>;
const KernelCode codebook_neon_f32 = float_kernel<NeonF32>(codebook_float_products<NeonF32>);
const KernelCode codebook_neon_bf16 = float_kernel<NeonF32>(codebook_float_products<NeonF32>).for_bf16();

}  // namespace fewbit::inline v0::kernels
