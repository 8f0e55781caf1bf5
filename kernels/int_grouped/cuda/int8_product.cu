// int8_product.hpp on the device, and its launch.
#include <cuda_runtime_api.h>

#include "kernels/int_grouped/cuda/device_math.cuh"
#include "kernels/int_grouped/cuda/int8_product.hpp"
#include "kernels/int_grouped/cuda/launch.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {
namespace {

struct Int8Block {
    __device__ unsigned index() const { return blockIdx.x; }
    template <class F>
    __device__ void each_warp(F&& f) const {
        f(DecodeWarp(threadIdx.x % mma16::lanes), threadIdx.x / mma16::lanes);
    }
    __device__ void store(void* to, Number type, std::uint64_t index, float value) const {
        DecodeMath::store_number(to, type, index, value);
    }
};

__global__ void __launch_bounds__(threads_per_block, 1) int8_kernel(const __grid_constant__ Int8Call call) {
    int8_product(call, Int8Block{});
}
__global__ void __launch_bounds__(threads_per_block)
    quantize_kernel(const __grid_constant__ QuantizeCall call) {
    quantize_rows(call, Int8Block{});
}

}  // namespace

cudaError_t launch(const QuantizeCall& call, cudaStream_t stream) {
    quantize_kernel<<<(call.m + warps_per_block - 1) / warps_per_block, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}

cudaError_t launch(const Int8Call& call, cudaStream_t stream) {
    int8_kernel<<<call.blocks(), threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
