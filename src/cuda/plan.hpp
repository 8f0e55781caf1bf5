// Which kernel takes so many rows of x, how its work is cut for a device, and what memory that needs. Integers only, so that
// tests run it without a device.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "fewbit/core/checked.hpp"
#include "fewbit/cuda/selection.hpp"
#include "kernels/int_grouped/cuda/batch.hpp"
#include "kernels/int_grouped/cuda/decode.hpp"
#include "kernels/int_grouped/cuda/prompt_wgmma.hpp"

namespace fewbit::inline v0::cuda {

namespace decoding = kernels::int_grouped_cuda;

enum class Way : std::uint8_t { decode8, decode16, batch, prompt };
inline constexpr std::size_t ways = 4;

/// Most rows of x that a way takes; `all`: prompts have no most.
constexpr std::size_t most_rows(Way way, std::size_t all) {
    return way == Way::decode8    ? 8
           : way == Way::decode16 ? decode_rows
           : way == Way::batch    ? batch_rows
                                  : all;
}
constexpr Way way_of(std::size_t rows) {
    return rows <= 8             ? Way::decode8
           : rows <= decode_rows ? Way::decode16
           : rows <= batch_rows  ? Way::batch
                                 : Way::prompt;
}

struct Plan {
    Way way;
    mma16::Partition partition;
    std::size_t part_floats;  ///< of all blocks' parts together

    /// Numbers that count the blocks of a tile.
    [[nodiscard]] std::size_t counters() const { return partition.tiles; }
};

/// The plan for a matrix of `tiles` times 16 channels, `chunks` long, on a device that holds `resident` blocks of the way at once.
/// Preconditions: the way takes so many rows, rows > 0, resident > 0, fewer than 2^31 tiles of the way.
inline Plan plan_as(Way way, std::size_t tiles, std::size_t chunks, std::size_t rows, std::size_t resident) {
    const bool wide = way == Way::batch || way == Way::prompt;
    static_assert(decoding::tiles_per_block == decoding::prompt_block_tiles);
    std::size_t of_way = wide ? ceil_div(tiles, std::size_t{decoding::tiles_per_block}) : tiles;
    if (way == Way::prompt) of_way *= ceil_div(rows, std::size_t{decoding::prompt_block_rows});
    const std::size_t units = std::max<std::size_t>(
        1, ceil_div(chunks, std::size_t{wide ? decoding::chunks_per_unit : decoding::warps_per_block}));
    std::size_t blocks = std::min(resident, of_way * units);
    if (way == Way::prompt) {
        // Sharing tiles costs a pass over their sums. Where they fill the device nearly as often as they start it,
        // each block takes one instead.
        const std::size_t waves = ceil_div(of_way, resident);
        if (10 * of_way >= 9 * waves * resident) blocks = of_way;
    }
    const std::size_t floats = way == Way::decode8    ? decoding::part_floats<1>
                               : way == Way::decode16 ? decoding::part_floats<2>
                               : way == Way::batch    ? decoding::batch_part_floats<8>
                                                      : decoding::prompt_part_floats;
    const bool shares = blocks != of_way;
    return {way,
            {static_cast<std::uint32_t>(of_way), static_cast<std::uint32_t>(units),
             static_cast<std::uint32_t>(blocks)},
            shares ? 2 * blocks * floats : 0};
}
inline Plan plan_of(std::size_t tiles, std::size_t chunks, std::size_t rows, std::size_t resident) {
    return plan_as(way_of(rows), tiles, chunks, rows, resident);
}

/// What products of up to `rows` rows need.
struct Memory {
    std::size_t counters = 0;  ///< numbers that stay 0 between products
    std::size_t part_floats = 0;
    std::size_t x_elements = 0;  ///< of a copy of x
};
/// `resident`: of each way; `wgmma`: x of prompts is arranged.
inline Memory memory_of(std::size_t tiles, std::size_t chunks, std::size_t padded_k, std::size_t rows,
                        const std::size_t (&resident)[ways], bool wgmma = false) {
    Memory out;
    for (std::size_t i = 0; i < ways; ++i) {
        const auto way = static_cast<Way>(i);
        if (way > way_of(rows)) break;
        const std::size_t most = std::min(rows, most_rows(way, rows));
        const Plan plan = plan_of(tiles, chunks, most, resident[i]);
        out.counters = std::max(out.counters, plan.counters());
        // Prompts of fewer rows may share tiles where those of `rows` do not.
        out.part_floats =
            std::max(out.part_floats,
                     way == Way::prompt ? 2 * resident[i] * decoding::prompt_part_floats : plan.part_floats);
        out.x_elements = std::max<std::size_t>(
            out.x_elements,
            wgmma && way == Way::prompt ? decoding::arranged_elements(most, padded_k) : most * padded_k);
    }
    return out;
}

}  // namespace fewbit::inline v0::cuda
