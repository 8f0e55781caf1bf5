// rows.hpp and attention.hpp on the device, and their launch.
#include <cuda_runtime_api.h>

#include "kernels/int_grouped/cuda/device_block.cuh"
#include "kernels/operators/cuda/launch.hpp"

namespace fewbit::inline v0::kernels::operators_cuda {
namespace {

struct OperatorMath : int_grouped_cuda::DecodeMath {
    __device__ static float infinity() { return __int_as_float(0x7F800000); }
    __device__ static float exponential(float value) { return expf(value); }
    __device__ static float square_root(float value) { return __fsqrt_rn(value); }
    template <CacheType Cache>
    __device__ static float load_one(const void* from, std::uint64_t index) {
        if constexpr (Cache == CacheType::int8) return static_cast<const std::int8_t*>(from)[index];
        const auto bits = static_cast<const unsigned short*>(from)[index];
        if constexpr (Cache == CacheType::bf16)
            return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
        return __half2float(__ushort_as_half(bits));
    }
    template <CacheType Cache>
    __device__ static void load_eight(const void* from, std::uint64_t index, float (&out)[8]) {
        if constexpr (Cache == CacheType::int8) {
            const uint2 v = *reinterpret_cast<const uint2*>(static_cast<const std::int8_t*>(from) + index);
            FEWBIT_UNROLL
            for (unsigned i = 0; i < 8; ++i)
                out[i] =
                    static_cast<float>(static_cast<std::int8_t>((i < 4 ? v.x : v.y) >> 8 * (i % 4) & 0xFF));
        } else {
            const uint4 v = *reinterpret_cast<const uint4*>(static_cast<const unsigned short*>(from) + index);
            const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
            FEWBIT_UNROLL
            for (unsigned i = 0; i < 4; ++i) {
                if constexpr (Cache == CacheType::bf16) {
                    out[2 * i] = __uint_as_float(words[i] << 16);
                    out[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
                } else {
                    out[2 * i] =
                        __half2float(__ushort_as_half(static_cast<unsigned short>(words[i] & 0xFFFF)));
                    out[2 * i + 1] =
                        __half2float(__ushort_as_half(static_cast<unsigned short>(words[i] >> 16)));
                }
            }
        }
    }
};

struct OperatorWarp : mma16::DeviceWarp {
    using Math = OperatorMath;
    using DeviceWarp::DeviceWarp;

    template <class F>
    __device__ static float butterfly(float value, F&& f) {
        FEWBIT_UNROLL
        for (unsigned apart = mma16::lanes / 2; apart > 0; apart /= 2)
            value = f(value, __shfl_xor_sync(0xFFFFFFFFu, value, apart));
        return value;
    }
    /// The sum, the largest of all lanes' numbers; known to all lanes.
    __device__ float total(float value) const {
        return butterfly(value, [](float a, float b) { return a + b; });
    }
    __device__ float largest_number(float value) const {
        return butterfly(value, [](float a, float b) { return fmaxf(a, b); });
    }
};

using Block = int_grouped_cuda::BasicDeviceBlock<OperatorWarp>;

__global__ void __launch_bounds__(threads_per_block) pick_kernel(const __grid_constant__ PickCall call) {
    pick_row(call, Block(nullptr, nullptr));
}
__global__ void __launch_bounds__(threads_per_block) norm_kernel(const __grid_constant__ NormCall call) {
    __shared__ std::uint32_t words[warps_per_block];
    Block block(words, nullptr);
    norm_row(call, block);
}
__global__ void __launch_bounds__(threads_per_block) gate_kernel(const __grid_constant__ GateCall call) {
    gate_row(call, Block(nullptr, nullptr));
}
__global__ void __launch_bounds__(threads_per_block) store_kernel(const __grid_constant__ StoreCall call) {
    rotate_and_store(call, Block(nullptr, nullptr));
}
__global__ void position_kernel(PositionCall call) {
    *call.position = call.add ? *call.position + call.value : call.value;
}
template <CacheType Cache, unsigned Columns>
__global__ void __launch_bounds__(threads_per_block, Columns == 1 ? 1 : 0)
    attention_kernel(const __grid_constant__ AttentionCall call) {
    extern __shared__ uint4 memory[];
    __shared__ unsigned last;
    Block block(reinterpret_cast<std::uint32_t*>(memory), &last);
    attend<Cache, Columns>(call, block);
}

using AttentionKernel = void (*)(AttentionCall);

template <CacheType Cache>
AttentionKernel attention_of(std::uint32_t head_dim) {
    return head_dim <= 32    ? attention_kernel<Cache, 1>
           : head_dim <= 64  ? attention_kernel<Cache, 2>
           : head_dim <= 128 ? attention_kernel<Cache, 4>
                             : attention_kernel<Cache, 8>;
}

}  // namespace

static_assert(attention_floats(max_head_dim) * sizeof(float) <= 48 * 1024,
              "memory that every device gives unasked");

cudaError_t launch(const PickCall& call, std::uint32_t rows, cudaStream_t stream) {
    pick_kernel<<<rows, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}
cudaError_t launch(const NormCall& call, std::uint32_t rows, cudaStream_t stream) {
    norm_kernel<<<rows, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}
cudaError_t launch(const GateCall& call, std::uint32_t rows, cudaStream_t stream) {
    gate_kernel<<<rows * call.blocks_per_row, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}
cudaError_t launch(const StoreCall& call, cudaStream_t stream) {
    const auto blocks = static_cast<unsigned>((call.warps() + warps_per_block - 1) / warps_per_block);
    store_kernel<<<blocks, threads_per_block, 0, stream>>>(call);
    return cudaGetLastError();
}
cudaError_t launch(const PositionCall& call, cudaStream_t stream) {
    position_kernel<<<1, 1, 0, stream>>>(call);
    return cudaGetLastError();
}
cudaError_t launch(const AttentionCall& call, std::uint32_t rows, cudaStream_t stream) {
    const AttentionKernel kernel = call.cache == CacheType::f16 ? attention_of<CacheType::f16>(call.head_dim)
                                   : call.cache == CacheType::bf16
                                       ? attention_of<CacheType::bf16>(call.head_dim)
                                       : attention_of<CacheType::int8>(call.head_dim);
    kernel<<<rows * call.units() * call.runs, threads_per_block,
             attention_floats(call.head_dim) * sizeof(float), stream>>>(call);
    return cudaGetLastError();
}

}  // namespace fewbit::inline v0::kernels::operators_cuda
