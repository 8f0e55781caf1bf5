// prompt_wgmma.hpp on the device; weights.cu launches it. Only code for sm_90a has bodies.
#include <cuda_runtime_api.h>

#include "kernels/int_grouped/cuda/device_wgmma.cuh"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "kernels/int_grouped/cuda/prompt_wgmma.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {
namespace {

template <Codes Kind, Half Type, Zero Offset>
__global__ void __launch_bounds__(threads_per_block, 1) wgmma_kernel_of(const __grid_constant__ Call call) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ uint4 memory[];
    __shared__ unsigned last;
    WgmmaDeviceBlock block(reinterpret_cast<std::uint32_t*>(memory), &last);
    prompt<WgmmaWay<Kind, Type, Offset>>(call, block);
#endif
}

__global__ void __launch_bounds__(threads_per_block)
    arrange_kernel(const __grid_constant__ ArrangeCall call) {
    arrange_rows(call, DeviceBlock(nullptr, nullptr));
}

}  // namespace

Launchable wgmma_kernel(const KernelKind& kind) {
    const auto chosen = [&]<Codes Kind, Half Type, Zero Offset>() -> Launchable {
        return {wgmma_kernel_of<Kind, Type, Offset>,
                WgmmaWay<Kind, Type, Offset>::Memory::words * sizeof(std::uint32_t)};
    };
    return with_kind(kind.codes, kind.type, kind.offset, chosen);
}

// A kernel without a body has no shared memory.
cudaError_t has_wgmma(bool& has) {
    cudaFuncAttributes attributes{};
    const cudaError_t error =
        cudaFuncGetAttributes(&attributes, wgmma_kernel_of<Codes::int4, Half::f16, Zero::middle>);
    has = error == cudaSuccess && attributes.sharedSizeBytes > 0;
    return error;
}

cudaError_t launch(const ArrangeCall& call, cudaStream_t stream) {
    const auto blocks = static_cast<unsigned>((call.threads() + threads_per_block - 1) / threads_per_block);
    arrange_kernel<<<blocks, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
