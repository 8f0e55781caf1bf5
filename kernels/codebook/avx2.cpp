// AVX2 kernels for codebooks in Layout::tile16: tables of 16 with int8, f32 and bf16 activations, fp8 with the last two.
// kernels/tile16/README.md has the arithmetic and what limits it.
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/floats.hpp"
#include "kernels/tile16/lanes_avx2.hpp"
#include "kernels/tile16/lanes_avx2_f32.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode codebook_avx2_int8;
extern const KernelCode codebook_avx2_f32;
extern const KernelCode codebook_avx2_bf16;

const KernelCode codebook_avx2_int8 = table_kernel<LanesAvx2Words<8>>;
const KernelCode codebook_avx2_f32 = float_kernel<Avx2F32>(codebook_float_products<Avx2F32>);
const KernelCode codebook_avx2_bf16 = float_kernel<Avx2F32>(codebook_float_products<Avx2F32>).for_bf16();

}  // namespace fewbit::inline v0::kernels
