// decode.hpp and batch.hpp on the device, and the launch of all kernels of weights.
#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/int_grouped/cuda/batch.hpp"
#include "kernels/int_grouped/cuda/decode.hpp"
#include "kernels/int_grouped/cuda/device_block.cuh"
#include "kernels/int_grouped/cuda/launch.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {
namespace {

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

/// The kernel and its dynamic shared memory.
Launchable launchable(const KernelKind& kind) {
    if (kind.w8a8) return kind.wgmma ? w8a8_wgmma_kernel(kind.codes) : w8a8_kernel(kind.codes);
    if (kind.token_tiles > 8) return kind.wgmma ? wgmma_kernel(kind) : prompt_kernel(kind);
    const auto kernel = [&]<Codes Kind, Half Type, Zero Offset>() -> Kernel {
        switch (kind.token_tiles) {
            case 1: return decode_kernel<Kind, Type, Offset, 1>;
            case 2: return decode_kernel<Kind, Type, Offset, 2>;
            default: return batch_kernel<Kind, Type, Offset, 8>;
        }
    };
    return {with_kind(kind.codes, kind.type, kind.offset, kernel), 0};
}

}  // namespace

cudaError_t resident_blocks(const KernelKind& kind, int& per_multiprocessor) {
    const auto [kernel, shared_bytes] = launchable(kind);
    if (shared_bytes > 0)  // more than 48 KB have to be asked for, once on each device
        if (const cudaError_t error = cudaFuncSetAttribute(
                kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
            error != cudaSuccess)
            return error;
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel, threads_per_block,
                                                         shared_bytes);
}

cudaError_t launch(const KernelKind& kind, const Call& call, cudaStream_t stream) {
    const auto [kernel, shared_bytes] = launchable(kind);
    kernel<<<call.partition.blocks, threads_per_block, shared_bytes, stream>>>(call);
    return cudaGetLastError();
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
