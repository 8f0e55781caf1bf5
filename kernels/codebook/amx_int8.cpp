// AMX kernel for codebooks of 16 in Layout::tile16 with int8 activations: tiles of 16 rows x 16 channels x 64 of K, few rows as on
// AVX-512. kernels/tile16/README.md has the arithmetic and what limits it.
#include "kernels/tile16/int8_matrices.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode codebook_avx512_vnni_int8;
extern const KernelCode codebook_amx_int8_int8;

const KernelCode codebook_amx_int8_int8 =
    matrix_kernel<codebook_avx512_vnni_int8>(table_matrix_products<codebook_avx512_vnni_int8>);

}  // namespace fewbit::inline v0::kernels
