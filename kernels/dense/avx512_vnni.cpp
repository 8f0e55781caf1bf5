// AVX-512 kernels for float weights (f32, f16, bf16) in Layout::rows with f32 and bf16 activations.
// README.md of this folder has the sizes and the reasons.
#include "kernels/dense/avx512.hpp"
#include "kernels/tile16/lanes_avx512_f32.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode dense_avx512_vnni_f32;
extern const KernelCode dense_avx512_vnni_bf16;

const KernelCode dense_avx512_vnni_f32 = dense_kernel<Dense512<Avx512F32>>;
const KernelCode dense_avx512_vnni_bf16 = dense_kernel<Dense512<Avx512F32>>.for_bf16();

}  // namespace fewbit::inline v0::kernels
