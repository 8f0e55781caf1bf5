// How the host starts decode.hpp, batch.hpp, the prompts, W8A8 and gather.hpp.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/int_grouped/cuda/gather.hpp"
#include "kernels/int_grouped/cuda/prompt_wgmma.hpp"
#include "kernels/int_grouped/cuda/w8a8.hpp"
#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

/// Which of the kernels: each combination is one.
struct KernelKind {
    Codes codes;
    Half type;  ///< of x
    Zero offset;
    /// Most rows of x, in tiles of 8: 1, 2 (decode.hpp), 8 (batch.hpp); any_rows (prompt.hpp).
    unsigned token_tiles;
    bool wgmma = false;  ///< of any_rows: Hopper's own; has_wgmma() says whether it may
    bool w8a8 = false;   ///< of int8 and fp8, any_rows: x is of bytes, `type` and `offset` are not looked at
};
inline constexpr unsigned any_rows = 0xFFFFFFFFu;

using Kernel = void (*)(Call);
struct Launchable {
    Kernel kernel;
    std::size_t shared_bytes;  ///< dynamic
};
Launchable prompt_kernel(const KernelKind& kind);
Launchable wgmma_kernel(const KernelKind& kind);
Launchable w8a8_kernel(Codes codes);
Launchable w8a8_wgmma_kernel(Codes codes);
/// Whether the device is of the kind that this build has such kernels for: sm_90a; for w8a8_mma.hpp with fp8 sm_89 and
/// all from sm_100 on.
cudaError_t has_wgmma(bool& has);
cudaError_t has_fp8_mma(bool& has);

/// Blocks of threads that a multiprocessor holds at once. To be asked on a device before the first launch there.
cudaError_t resident_blocks(const KernelKind& kind, int& per_multiprocessor);
/// Starts the kernel. Precondition: no more rows than kind.token_tiles says, and what Call says of its
/// members.
cudaError_t launch(const KernelKind& kind, const Call& call, cudaStream_t stream);
/// Preconditions: at least one row; what the calls say of their members.
cudaError_t launch(Codes codes, const RoundCall& call, cudaStream_t stream);
cudaError_t launch(const ArrangeCall& call, cudaStream_t stream);
cudaError_t launch(const GatherCall& call, std::uint32_t rows, cudaStream_t stream);

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
