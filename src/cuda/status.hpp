// What the CUDA runtime says, as errors of ours.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::cuda {

inline cudaStream_t stream_of(const ExecutionContext& context) {
    return static_cast<cudaStream_t>(context.stream().handle);
}

/// Error: what CUDA said about `doing`.
inline Result<void> checked(cudaError_t status, std::string_view doing) {
    if (status == cudaSuccess) return {};
    static_cast<void>(cudaGetLastError());  // it is told here; the next call starts anew
    return fail(status == cudaErrorMemoryAllocation ? ErrorKind::out_of_memory : ErrorKind::unsupported,
                doing, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

}  // namespace fewbit::inline v0::cuda
