// How the host starts decode.hpp and batch.hpp.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

/// Which of the kernels: each combination is one.
struct KernelKind {
    Codes codes;
    Half type;  ///< of x
    Zero offset;
    unsigned token_tiles;  ///< of 8 rows of x: 1, 2 (decode.hpp) or 8 (batch.hpp)
};

/// Blocks of threads that a multiprocessor holds at once.
cudaError_t resident_blocks(const KernelKind& kind, int& per_multiprocessor);
/// Starts the kernel. Precondition: call.m <= 8 * kind.token_tiles, and what Call says of its members.
cudaError_t launch(const KernelKind& kind, const Call& call, cudaStream_t stream);

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
