// AVX-512 BF16 kernels for integer codes in Layout::tile16 with bf16 activations. kernels/tile16/README.md has the arithmetic
// and what limits it.
#include "kernels/tile16/floats.hpp"
#include "kernels/tile16/lanes_avx512_bf16.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode int_grouped_avx512_bf16_bf16;

const KernelCode int_grouped_avx512_bf16_bf16 = float_kernel<Avx512Bf16>(integer_float_products<Avx512Bf16>);

}  // namespace fewbit::inline v0::kernels
