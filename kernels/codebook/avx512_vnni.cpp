// AVX-512 kernels for codebooks in Layout::tile16: tables of 16 with int8 activations through VNNI, all with f32 and bf16
// through FMA. kernels/tile16/README.md has the arithmetic and what limits it.
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/floats.hpp"
#include "kernels/tile16/lanes_avx512_f32.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode codebook_avx512_vnni_int8;
extern const KernelCode codebook_avx512_vnni_f32;
extern const KernelCode codebook_avx512_vnni_bf16;

const KernelCode codebook_avx512_vnni_int8 = table_kernel<Avx512>;
const KernelCode codebook_avx512_vnni_f32 = float_kernel<Avx512F32>(codebook_float_products<Avx512F32>);
const KernelCode codebook_avx512_vnni_bf16 =
    float_kernel<Avx512F32>(codebook_float_products<Avx512F32>).for_bf16();

}  // namespace fewbit::inline v0::kernels
