// decode.hpp and batch.hpp on the device, and their launch.
#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/int_grouped/cuda/batch.hpp"
#include "kernels/int_grouped/cuda/decode.hpp"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "kernels/int_grouped/cuda/device_math.cuh"

namespace fewbit::inline v0::kernels::int_grouped_cuda {
namespace {

class DeviceBlock {
public:
    __device__ DeviceBlock(std::uint32_t* words, unsigned* last) : words_(words), last_(last) {}

    __device__ unsigned index() const { return blockIdx.x; }
    __device__ std::uint32_t* words() const { return words_; }
    __device__ float* shared() const { return reinterpret_cast<float*>(words_); }
    template <class F>
    __device__ void each_warp(F&& f) const {
        f(DecodeWarp(threadIdx.x % mma16::lanes), threadIdx.x / mma16::lanes);
    }
    template <class F>
    __device__ void each_thread(F&& f) const {
        f(threadIdx.x);
    }
    __device__ void barrier() const { __syncthreads(); }
    /// Whether `others` blocks have been here before; the counter is 0 again after the last. What they wrote before is
    /// visible to all threads then.
    __device__ bool comes_last(std::uint32_t* counter, std::uint32_t others) const {
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            *last_ = atomicAdd(counter, 1u) == others;
            if (*last_ != 0) *counter = 0;
        }
        __syncthreads();
        const bool last = *last_ != 0;
        if (last) __threadfence();
        return last;
    }
    __device__ float read_part(const float* part) const { return __ldcg(part); }
    __device__ void store(const Call& call, unsigned token, unsigned channel, float sum) const {
        if (token >= call.m || channel >= call.n) return;
        if (call.bias != nullptr) sum += __ldg(call.bias + channel);
        DecodeMath::store_number(call.y, call.y_type, token * call.y_stride + channel, sum);
    }

private:
    std::uint32_t* words_;
    unsigned* last_;
};

template <Codes Kind, Half Type, Zero Offset, unsigned TokenTiles>
__global__ void __launch_bounds__(threads_per_block, TokenTiles == 1 ? 3 : 2)
    decode_kernel(const __grid_constant__ Call call) {
    __shared__ std::uint32_t words[shared_words<Kind, TokenTiles>];
    __shared__ unsigned last;
    DeviceBlock block(words, &last);
    decode<Kind, Type, Offset, TokenTiles>(call, block);
}

template <Codes Kind, Half Type, Zero Offset, unsigned TokenTiles>
__global__ void __launch_bounds__(threads_per_block, 1) batch_kernel(const __grid_constant__ Call call) {
    __shared__ std::uint32_t words[batch_shared_words<Kind>];
    __shared__ unsigned last;
    DeviceBlock block(words, &last);
    batch<Kind, Type, Offset, TokenTiles>(call, block);
}

using Kernel = void (*)(Call);

template <Codes Kind, Half Type, Zero Offset>
Kernel kernel_for(unsigned token_tiles) {
    switch (token_tiles) {
        case 1: return decode_kernel<Kind, Type, Offset, 1>;
        case 2: return decode_kernel<Kind, Type, Offset, 2>;
        default: return batch_kernel<Kind, Type, Offset, 8>;
    }
}
template <Codes Kind, Half Type>
Kernel kernel_for(Zero offset, unsigned token_tiles) {
    if constexpr (Kind != Codes::table4) {
        if (offset == Zero::integer) return kernel_for<Kind, Type, Zero::integer>(token_tiles);
        if (offset == Zero::real) return kernel_for<Kind, Type, Zero::real>(token_tiles);
    }
    return kernel_for<Kind, Type, Zero::middle>(token_tiles);
}
template <Codes Kind>
Kernel kernel_for(const KernelKind& kind) {
    return kind.type == Half::f16 ? kernel_for<Kind, Half::f16>(kind.offset, kind.token_tiles)
                                  : kernel_for<Kind, Half::bf16>(kind.offset, kind.token_tiles);
}
Kernel kernel_for(const KernelKind& kind) {
    return kind.codes == Codes::int4   ? kernel_for<Codes::int4>(kind)
           : kind.codes == Codes::int8 ? kernel_for<Codes::int8>(kind)
                                       : kernel_for<Codes::table4>(kind);
}

}  // namespace

cudaError_t resident_blocks(const KernelKind& kind, int& per_multiprocessor) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel_for(kind), threads_per_block, 0);
}

cudaError_t launch(const KernelKind& kind, const Call& call, cudaStream_t stream) {
    kernel_for(kind)<<<call.partition.blocks, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
