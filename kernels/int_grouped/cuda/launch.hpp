// How the host starts decode.hpp, batch.hpp and int8_product.hpp.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/int_grouped/cuda/int8_product.hpp"
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
/// Preconditions: at least one row; what the calls say of their members; for Int8Call at least one channel.
cudaError_t launch(const QuantizeCall& call, cudaStream_t stream);
cudaError_t launch(const Int8Call& call, cudaStream_t stream);

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
