// Who does what, so that all blocks of threads end together: the work is a line of units, tile after tile and along K within a
// tile, cut into as many equal runs as there are blocks. A tile that several blocks share is summed by the one that ends last,
// in the order of K, so that the bits do not depend on who that is.
#pragma once

#include <cstdint>

#include "fewbit/pack/mma16_order.hpp"

namespace fewbit::inline v0::mma16 {

/// n / d as one product: exact for n < 2^16 and 0 < d <= 2^16, because n d < 2^32 then.
struct Divisor {
    std::uint64_t reciprocal = 0;  ///< ceil(2^32 / d)

    FEWBIT_HOST_DEVICE static constexpr Divisor of(std::uint32_t d) {
        return {((std::uint64_t{1} << 32) + d - 1) / d};
    }
    FEWBIT_HOST_DEVICE constexpr std::uint32_t quotient(std::uint32_t n) const {
        return static_cast<std::uint32_t>(n * reciprocal >> 32);
    }
};

/// Units [first, last) of one tile.
struct Run {
    std::uint32_t tile, first, last;
    bool whole;  ///< all units of the tile
};

struct Partition {
    std::uint32_t tiles;           ///< of 16 output channels (times rows of tiles of tokens)
    std::uint32_t units_per_tile;  ///< along K; at least 1
    std::uint32_t blocks;          ///< at least 1, at most units()

    FEWBIT_HOST_DEVICE constexpr std::uint64_t units() const { return std::uint64_t{tiles} * units_per_tile; }
    /// The first unit of a block; of `blocks`: the number of units.
    FEWBIT_HOST_DEVICE constexpr std::uint64_t first_unit(std::uint32_t block) const {
        return units() * block / blocks;
    }
    /// What a block does next: from `unit` to the end of its tile or to `end`, where its own units end.
    FEWBIT_HOST_DEVICE constexpr Run run_at(std::uint64_t unit, std::uint64_t end) const {
        const auto tile = static_cast<std::uint32_t>(unit / units_per_tile);
        const auto first = static_cast<std::uint32_t>(unit % units_per_tile);
        const std::uint64_t rest = end - unit;
        const std::uint32_t last =
            rest < units_per_tile - first ? first + static_cast<std::uint32_t>(rest) : units_per_tile;
        return {tile, first, last, first == 0 && last == units_per_tile};
    }
    /// The first tile that a block has units of; it goes on with the next until has_more says no.
    FEWBIT_HOST_DEVICE constexpr std::uint32_t first_tile(std::uint32_t block) const {
        return static_cast<std::uint32_t>(first_unit(block) / units_per_tile);
    }
    /// A block's units of one of its tiles.
    FEWBIT_HOST_DEVICE constexpr Run run_of(std::uint32_t block, std::uint32_t tile) const {
        const std::uint64_t begin = std::uint64_t{tile} * units_per_tile, first = first_unit(block);
        return run_at(first < begin ? begin : first, first_unit(block + 1));
    }
    FEWBIT_HOST_DEVICE constexpr bool has_more(std::uint32_t block, std::uint32_t tile) const {
        return first_unit(block + 1) > (std::uint64_t{tile} + 1) * units_per_tile;
    }
    /// The block that has a unit.
    FEWBIT_HOST_DEVICE constexpr std::uint32_t block_of(std::uint64_t unit) const {
        return static_cast<std::uint32_t>(((unit + 1) * blocks - 1) / units());
    }
    FEWBIT_HOST_DEVICE constexpr std::uint32_t first_block(std::uint32_t tile) const {
        return block_of(std::uint64_t{tile} * units_per_tile);
    }
    FEWBIT_HOST_DEVICE constexpr std::uint32_t last_block(std::uint32_t tile) const {
        return block_of(std::uint64_t{tile + 1} * units_per_tile - 1);
    }
    /// Where a block keeps its part of a tile that it shares: it shares at most its first and its last.
    FEWBIT_HOST_DEVICE constexpr std::uint32_t slot(std::uint32_t block, std::uint32_t tile) const {
        return 2 * block + (first_unit(block) / units_per_tile == tile ? 0 : 1);
    }
};

}  // namespace fewbit::inline v0::mma16
