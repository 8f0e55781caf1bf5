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

    [[nodiscard]] std::size_t tasks() const noexcept { return m_tasks * n_tasks; }

    /// What task < tasks() computes of y (rows, channels): a rectangle at the kernel's tiles.
    [[nodiscard]] Rectangle part(std::size_t rows, std::size_t channels, const KernelCode& code,
                                 std::size_t task) const noexcept {
        const std::size_t m_tiles = ceil_div(rows, code.tile_m), n_tiles = ceil_div(channels, code.tile_n);
        const std::size_t tn = task % n_tasks, tm = task / n_tasks;
        return {tm * m_tiles / m_tasks * code.tile_m,
                std::min(rows, (tm + 1) * m_tiles / m_tasks * code.tile_m),
                tn * n_tiles / n_tasks * code.tile_n,
                std::min(channels, (tn + 1) * n_tiles / n_tasks * code.tile_n)};
    }
};

/// Four tasks per lane, so that uneven lanes balance.
[[nodiscard]] constexpr std::size_t tasks_wanted(std::size_t lanes) noexcept {
    return lanes == 1 ? 1 : 4 * lanes;
}

/// A cut into about `wanted` >= 1 tasks. A task of r rows and c channels reads r + c vectors of length K: of
/// all ways to cut, the one that reads least.
[[nodiscard]] inline Split split_product(std::size_t rows, std::size_t channels, const KernelCode& code,
                                         std::size_t wanted) noexcept {
    const std::size_t m_tiles = ceil_div(rows, code.tile_m), n_tiles = ceil_div(channels, code.tile_n);
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
inline void run_split(const KernelCode& code, const KernelCall& call, std::byte* scratch,
                      ExecutionContext context) {
    const std::size_t m = call.x.m, n = call.w.n, scratch_bytes = lane_scratch_bytes(code, call);
    const Split split = split_product(m, n, code, tasks_wanted(context.workers()));
    context.parallel_for(split.tasks(), [&](std::size_t task, std::size_t lane) {
        code.run(call, split.part(m, n, code, task),
                 scratch != nullptr ? scratch + lane * scratch_bytes : nullptr);
    });
}

}  // namespace fewbit::inline v0::detail
