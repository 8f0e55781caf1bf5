// How the host starts rows.hpp and attention.hpp.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/operators/cuda/attention.hpp"

namespace fewbit::inline v0::kernels::operators_cuda {

/// Longest head: a lane has 8 columns of values.
inline constexpr std::size_t max_head_dim = 256;

/// The number at `position` becomes `value`, or that much more.
struct PositionCall {
    std::int32_t* position;
    std::int32_t value;
    bool add;
};

/// Preconditions: at least one row and column; what the calls say of their members. For attention: head_dim a multiple of 8 up
/// to max_head_dim, rows of the cache 16-byte aligned (8 where head_dim is no multiple of 16 and the cache int8).
cudaError_t launch(const PickCall& call, std::uint32_t rows, cudaStream_t stream);
cudaError_t launch(const NormCall& call, std::uint32_t rows, cudaStream_t stream);
cudaError_t launch(const GateCall& call, std::uint32_t rows, cudaStream_t stream);
cudaError_t launch(const StoreCall& call, cudaStream_t stream);
cudaError_t launch(const PositionCall& call, cudaStream_t stream);
cudaError_t launch(const AttentionCall& call, std::uint32_t rows, cudaStream_t stream);

}  // namespace fewbit::inline v0::kernels::operators_cuda
