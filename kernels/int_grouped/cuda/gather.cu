// gather.hpp on the device, and its launch.
#include <cuda_runtime_api.h>

#include "kernels/int_grouped/cuda/device_block.cuh"
#include "kernels/int_grouped/cuda/gather.hpp"
#include "kernels/int_grouped/cuda/launch.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {
namespace {

__global__ void __launch_bounds__(threads_per_block) gather_kernel(const __grid_constant__ GatherCall call) {
    gather_row(call, DeviceBlock(nullptr, nullptr));
}

}  // namespace

cudaError_t launch(const GatherCall& call, std::uint32_t rows, cudaStream_t stream) {
    gather_kernel<<<rows, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
