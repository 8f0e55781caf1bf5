// AMX kernel for integer codes in Layout::tile16 with int8 activations: tiles of 16 rows x 16 channels x 64 of K, few rows as on
// AVX-512. kernels/tile16/README.md has the arithmetic and what limits it.
#include "kernels/tile16/int8_matrices.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode int_grouped_avx512_vnni_int8;
extern const KernelCode int_grouped_amx_int8_int8;

const KernelCode int_grouped_amx_int8_int8 =
    matrix_kernel<int_grouped_avx512_vnni_int8>(integer_matrix_products<int_grouped_avx512_vnni_int8>);

}  // namespace fewbit::inline v0::kernels
