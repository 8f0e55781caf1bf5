// How a product is cut for threads: rectangles of y at the kernel's tiles. No cut changes a bit of y, so how
// it is done is a question of speed alone.
#pragma once

#include <algorithm>
#include <cstddef>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::detail {

struct Split {
    std::size_t m_tasks = 1;
    std::size_t n_tasks = 1;
};

/// Four tasks per lane, so that uneven lanes balance. A task of r rows and c channels reads r + c vectors of
/// length K: of all ways to cut, the one that reads least.
[[nodiscard]] inline Split split_product(std::size_t rows, std::size_t channels, const KernelCode& code,
                                         std::size_t lanes) noexcept {
    const std::size_t m_tiles = ceil_div(rows, code.tile_m), n_tiles = ceil_div(channels, code.tile_n);
    const std::size_t wanted = lanes == 1 ? 1 : 4 * lanes;
    Split best{1, std::min(n_tiles, wanted)};
    std::size_t most = 0, least = 0;
    for (std::size_t m_tasks = 1; m_tasks <= std::min(m_tiles, wanted); ++m_tasks) {
        const std::size_t n_tasks = std::min(n_tiles, ceil_div(wanted, m_tasks));
        const std::size_t tasks = std::min(m_tasks * n_tasks, wanted);
        const std::size_t reads =
            ceil_div(m_tiles, m_tasks) * code.tile_m + ceil_div(n_tiles, n_tasks) * code.tile_n;
        if (tasks > most || (tasks == most && reads < least)) {
            best = {m_tasks, n_tasks};
            most = tasks;
            least = reads;
        }
    }
    return best;
}

/// Scratch memory of one lane, a multiple of its alignment.
[[nodiscard]] inline std::size_t lane_scratch_bytes(const KernelCode& code, const KernelCall& call) noexcept {
    return round_up(code.scratch_bytes_of != nullptr ? code.scratch_bytes_of(call) : code.scratch_bytes,
                    buffer_alignment_bytes);
}

/// Runs a call, all extents of which are at least 1. `scratch` has `lanes` parts of lane_scratch_bytes() each.
/// `finish(rectangle)` runs once for each part of y after the
/// kernel has written it, on the same thread.
template <class Finish>
inline void run_split(const KernelCode& code, const KernelCall& call, std::byte* scratch,
                      ExecutionContext context, Finish&& finish) {
    const std::size_t m = call.x.m, n = call.w.n;
    const std::size_t m_tiles = ceil_div(m, code.tile_m), n_tiles = ceil_div(n, code.tile_n);
    const Split split = split_product(m, n, code, context.workers());
    const std::size_t scratch_bytes = lane_scratch_bytes(code, call);
    context.parallel_for(split.n_tasks * split.m_tasks, [&](std::size_t task, std::size_t lane) {
        const std::size_t tn = task % split.n_tasks, tm = task / split.n_tasks;
        const Rectangle part{tm * m_tiles / split.m_tasks * code.tile_m,
                             std::min(m, (tm + 1) * m_tiles / split.m_tasks * code.tile_m),
                             tn * n_tiles / split.n_tasks * code.tile_n,
                             std::min(n, (tn + 1) * n_tiles / split.n_tasks * code.tile_n)};
        code.run(call, part, scratch != nullptr ? scratch + lane * scratch_bytes : nullptr);
        finish(part);
    });
}

inline void run_split(const KernelCode& code, const KernelCall& call, std::byte* scratch,
                      ExecutionContext context) {
    run_split(code, call, scratch, context, [](const Rectangle&) {});
}

}  // namespace fewbit::inline v0::detail
