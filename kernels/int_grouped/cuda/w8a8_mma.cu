// w8a8_mma.hpp on the device, the rounding of rows, and its launch. Only code from sm_89 on has bodies of fp8, that for sm_90a none
// of its product, which w8a8_wgmma.cu has.
#include <cuda_runtime_api.h>

#include "kernels/int_grouped/cuda/device_block.cuh"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "kernels/int_grouped/cuda/w8a8_mma.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {
namespace {

#if !defined(__CUDA_ARCH__)
constexpr bool rounds_to_fp8 = true, multiplies_fp8 = true;
#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool rounds_to_fp8 = true, multiplies_fp8 = false;
#else
constexpr bool rounds_to_fp8 = __CUDA_ARCH__ >= 890, multiplies_fp8 = rounds_to_fp8;
#endif

template <Codes Kind>
__global__ void __launch_bounds__(threads_per_block, 1) w8a8_kernel_of(const __grid_constant__ Call call) {
    if constexpr (Kind == Codes::int8 || multiplies_fp8) {
        extern __shared__ uint4 memory[];
        __shared__ unsigned last;
        DeviceBlock block(reinterpret_cast<std::uint32_t*>(memory), &last);
        prompt<W8A8Mma<Kind>>(call, block);
    }
}

template <Codes Kind>
__global__ void __launch_bounds__(threads_per_block) round_kernel_of(const __grid_constant__ RoundCall call) {
    if constexpr (Kind == Codes::int8 || rounds_to_fp8) round_rows<Kind>(call, DeviceBlock(nullptr, nullptr));
}

}  // namespace

Launchable w8a8_kernel(Codes codes) {
    if (codes == Codes::fp8)
        return {w8a8_kernel_of<Codes::fp8>, W8A8Mma<Codes::fp8>::Memory::words * sizeof(std::uint32_t)};
    return {w8a8_kernel_of<Codes::int8>, W8A8Mma<Codes::int8>::Memory::words * sizeof(std::uint32_t)};
}

// A kernel without a body has no shared memory.
cudaError_t has_fp8_mma(bool& has) {
    cudaFuncAttributes attributes{};
    const cudaError_t error = cudaFuncGetAttributes(&attributes, w8a8_kernel_of<Codes::fp8>);
    has = error == cudaSuccess && attributes.sharedSizeBytes > 0;
    return error;
}

cudaError_t launch(Codes codes, const RoundCall& call, cudaStream_t stream) {
    const unsigned blocks = (call.m + warps_per_block - 1) / warps_per_block;
    if (codes == Codes::fp8)
        round_kernel_of<Codes::fp8><<<blocks, threads_per_block, 0, stream>>>(call);
    else
        round_kernel_of<Codes::int8><<<blocks, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
