// AVX-512 BF16 kernels for float weights (f32, f16, bf16) in Layout::rows with bf16 activations; f32 and f16 weights are
// rounded to bf16. README.md of this folder has the sizes and the reasons.
#include "kernels/dense/avx512.hpp"
#include "kernels/tile16/lanes_avx512_bf16.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode dense_avx512_bf16_bf16;

const KernelCode dense_avx512_bf16_bf16 = dense_kernel<Dense512<Avx512Bf16>>;

}  // namespace fewbit::inline v0::kernels
