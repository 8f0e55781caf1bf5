// How the host starts order.hpp.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/encode/cuda/order.hpp"

namespace fewbit::inline v0::kernels::encode_cuda {

/// Preconditions: something to do, at most 2^31 - 1 blocks of threads.
cudaError_t launch(const RangeCall& call, cudaStream_t stream);
cudaError_t launch(Codes codes, bool from_weights, const OrderCall& call, cudaStream_t stream);

}  // namespace fewbit::inline v0::kernels::encode_cuda
