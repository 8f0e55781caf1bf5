// order.hpp on the device, and its launch.
#include <cuda_runtime_api.h>

#include "kernels/encode/cuda/launch.hpp"
#include "kernels/int_grouped/cuda/device_block.cuh"

namespace fewbit::inline v0::kernels::encode_cuda {
namespace {

using int_grouped_cuda::DeviceBlock;

__global__ void __launch_bounds__(threads_per_block) range_kernel(const __grid_constant__ RangeCall call) {
    find_ranges(call, DeviceBlock(nullptr, nullptr));
}

template <Codes Kind, bool FromWeights>
__global__ void __launch_bounds__(threads_per_block) order_kernel(const __grid_constant__ OrderCall call) {
    order_codes<Kind, FromWeights>(call, DeviceBlock(nullptr, nullptr));
}

}  // namespace

cudaError_t launch(const RangeCall& call, cudaStream_t stream) {
    const auto blocks = static_cast<unsigned>((call.all + warps_per_block - 1) / warps_per_block);
    range_kernel<<<blocks, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}

cudaError_t launch(Codes codes, bool from_weights, const OrderCall& call, cudaStream_t stream) {
    const auto blocks = static_cast<unsigned>((call.all + threads_per_block - 1) / threads_per_block);
    const auto kernel = with_codes(codes, [&]<Codes Kind>() {
        return from_weights ? order_kernel<Kind, true> : order_kernel<Kind, false>;
    });
    kernel<<<blocks, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}

}  // namespace fewbit::inline v0::kernels::encode_cuda
