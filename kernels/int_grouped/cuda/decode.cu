// decode.hpp on the device, and its launch.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/int_grouped/cuda/decode.hpp"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "kernels/mma16/device_warp.cuh"

namespace fewbit::inline v0::kernels::int_grouped_cuda {
namespace {

struct DecodeMath : mma16::DeviceMath {
    /// Elements 2 * pair and 2 * pair + 1 as f32.
    __device__ static void load_pair(const void* from, Number type, std::uint64_t pair, float (&out)[2]) {
        if (type == Number::f32) {
            const float2 v = __ldg(static_cast<const float2*>(from) + pair);
            out[0] = v.x, out[1] = v.y;
            return;
        }
        const std::uint32_t both = __ldg(static_cast<const std::uint32_t*>(from) + pair);
        if (type == Number::bf16) {
            out[0] = __uint_as_float(both << 16), out[1] = __uint_as_float(both & 0xFFFF0000u);
        } else {
            out[0] = __half2float(__ushort_as_half(static_cast<unsigned short>(both & 0xFFFF)));
            out[1] = __half2float(__ushort_as_half(static_cast<unsigned short>(both >> 16)));
        }
    }
};

struct DecodeWarp : mma16::DeviceWarp {
    using Math = DecodeMath;
    using DeviceWarp::DeviceWarp;
};

class DeviceBlock {
public:
    __device__ DeviceBlock(float* shared, unsigned* last) : shared_(shared), last_(last) {}

    __device__ unsigned index() const { return blockIdx.x; }
    __device__ float* shared() const { return shared_; }
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
    __device__ void store(const DecodeCall& call, unsigned token, unsigned channel, float sum) const {
        if (token >= call.m || channel >= call.n) return;
        if (call.bias != nullptr) sum += __ldg(call.bias + channel);
        const std::uint64_t at = token * call.y_stride + channel;
        if (call.y_type == Number::f32)
            static_cast<float*>(call.y)[at] = sum;
        else if (call.y_type == Number::f16)
            static_cast<__half*>(call.y)[at] = __float2half_rn(sum);
        else
            static_cast<__nv_bfloat16*>(call.y)[at] = __float2bfloat16_rn(sum);
    }

private:
    float* shared_;
    unsigned* last_;
};

template <unsigned Bits, Half Type, Zero Offset, unsigned TokenTiles>
__global__ void __launch_bounds__(threads_per_block, TokenTiles == 1 ? 3 : 2) decode_kernel(const __grid_constant__ DecodeCall call) {
    __shared__ float shared[shared_floats<TokenTiles>];
    __shared__ unsigned last;
    DeviceBlock block(shared, &last);
    decode<Bits, Type, Offset, TokenTiles>(call, block);
}

using Kernel = void (*)(DecodeCall);

template <unsigned Bits, Half Type, Zero Offset>
Kernel kernel_for(unsigned token_tiles) {
    return token_tiles == 1 ? decode_kernel<Bits, Type, Offset, 1> : decode_kernel<Bits, Type, Offset, 2>;
}
template <unsigned Bits, Half Type>
Kernel kernel_for(Zero offset, unsigned token_tiles) {
    return offset == Zero::middle    ? kernel_for<Bits, Type, Zero::middle>(token_tiles)
           : offset == Zero::integer ? kernel_for<Bits, Type, Zero::integer>(token_tiles)
                                     : kernel_for<Bits, Type, Zero::real>(token_tiles);
}
Kernel kernel_for(const DecodeKind& kind) {
    if (kind.bits == 4)
        return kind.type == Half::f16 ? kernel_for<4, Half::f16>(kind.offset, kind.token_tiles)
                                      : kernel_for<4, Half::bf16>(kind.offset, kind.token_tiles);
    return kind.type == Half::f16 ? kernel_for<8, Half::f16>(kind.offset, kind.token_tiles)
                                  : kernel_for<8, Half::bf16>(kind.offset, kind.token_tiles);
}

}  // namespace

cudaError_t resident_blocks(const DecodeKind& kind, int& per_multiprocessor) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel_for(kind), threads_per_block, 0);
}

cudaError_t launch(const DecodeKind& kind, const DecodeCall& call, cudaStream_t stream) {
    kernel_for(kind)<<<call.partition.blocks, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
