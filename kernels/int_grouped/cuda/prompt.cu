// prompt_mma.hpp on the device; weights.cu launches it.
#include <cuda_runtime_api.h>

#include "kernels/int_grouped/cuda/device_block.cuh"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "kernels/int_grouped/cuda/prompt_mma.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {
namespace {

template <Codes Kind, Half Type, Zero Offset>
__global__ void __launch_bounds__(threads_per_block, 1) prompt_kernel_of(const __grid_constant__ Call call) {
    extern __shared__ uint4 memory[];
    __shared__ unsigned last;
    DeviceBlock block(reinterpret_cast<std::uint32_t*>(memory), &last);
    prompt<MmaWay<Kind, Type, Offset>>(call, block);
}

}  // namespace

Launchable prompt_kernel(const KernelKind& kind) {
    const auto chosen = [&]<Codes Kind, Half Type, Zero Offset>() -> Launchable {
        return {prompt_kernel_of<Kind, Type, Offset>, MmaMemory<Kind>::words * sizeof(std::uint32_t)};
    };
    return with_kind(kind.codes, kind.type, kind.offset, chosen);
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
