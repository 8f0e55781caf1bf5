// w8a8_wgmma.hpp on the device; weights.cu launches it. Only code for sm_90a has bodies.
#include <cuda_runtime_api.h>

#include "kernels/int_grouped/cuda/device_wgmma.cuh"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "kernels/int_grouped/cuda/w8a8_wgmma.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {
namespace {

template <Codes Kind>
__global__ void __launch_bounds__(threads_per_block, 1)
    w8a8_wgmma_kernel_of(const __grid_constant__ Call call) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ uint4 memory[];
    __shared__ unsigned last;
    WgmmaDeviceBlock block(reinterpret_cast<std::uint32_t*>(memory), &last);
    prompt<W8A8Wgmma<Kind>>(call, block);
#endif
}

}  // namespace

Launchable w8a8_wgmma_kernel(Codes codes) {
    if (codes == Codes::fp8)
        return {w8a8_wgmma_kernel_of<Codes::fp8>,
                W8A8Wgmma<Codes::fp8>::Memory::words * sizeof(std::uint32_t)};
    return {w8a8_wgmma_kernel_of<Codes::int8>, W8A8Wgmma<Codes::int8>::Memory::words * sizeof(std::uint32_t)};
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
