// int8 activations times tile16, straight from the stream: tiles of rows x 16 channels, one after the other over the same
// codes, which the first has brought into the cache. Each unpacks them again, beside products that need not wait for it.
// Few rows are bound by memory: Lanes::side_by_side tiles of channels are read at once.
#pragma once

#include "kernels/tile16/int8_two_levels.hpp"

namespace fewbit::inline v0::kernels {
namespace {

template <class Lanes>
struct StreamScratch {
    StreamScratch(const KernelCall& call, std::byte* memory) {
        constexpr std::size_t block_bytes = 256 * 1024;  ///< of activations, which are to stay in L2
        const auto tile_rows = static_cast<std::size_t>(stream_tile_rows<Lanes>(call.w.field_bits));
        const std::size_t tiles = block_bytes / call.w.k / tile_rows, most = most_pieces(call, call.w.k);
        rows = smaller(call.x.m, tile_rows * (tiles == 0 ? 1 : tiles));
        ScratchMemory scratch(memory);
        pieces = scratch.take<Piece>(most);
        corrections = scratch.take_corrections(most, rows);
        if (widens_x<Lanes>) words = scratch.take<std::int16_t>(rows * (call.w.k + step_overhang));
        bytes = scratch.bytes();
    }

    std::size_t rows;  ///< of a block, which meet a tile of channels before the next: whole tiles, or all
    Piece* pieces;
    Corrections corrections;
    std::int16_t* words = nullptr;  ///< x, for Lanes that take such
    std::size_t bytes;
};

/// `streams` runs of tiles are read at once, a tile of each: as many tiles as there can be of `tiles`, but an odd number, or
/// all runs would be in the same sets of the caches and the same banks of memory.
constexpr std::size_t tiles_of_streams(std::size_t tiles, std::size_t streams) {
    const std::size_t each = tiles / streams;
    return each - (each % 2 == 0 && each != 0 ? 1 : 0);
}

template <class Lanes, class Field>
void multiply_streams(const KernelCall& call, const Field& field, Scaling how, const Rectangle& part,
                      std::byte* memory) {
    constexpr int most = stream_tile_rows<Lanes>(Field::Steps::bits);
    const StreamScratch<Lanes> scratch(call, memory);
    const StreamSource<Lanes, Field> any(call, field, part.n_begin);
    Chunk chunk = make_chunk(call, any.places(), 0, call.w.k, scratch.pieces, scratch.corrections);
    const OffsetSums sums = how != Scaling::nested     ? OffsetSums::scaled
                            : call.w.super_groups == 0 ? OffsetSums::plain
                                                       : OffsetSums::pairs;
    // Of each row; the last step takes zeros behind it.
    const std::size_t widened = (call.w.k + step_overhang - 1) / step_overhang * step_overhang;
    for (std::size_t block = part.m_begin; block < part.m_end; block += scratch.rows) {
        const std::size_t block_end = smaller(part.m_end, block + scratch.rows);
        // body(first row, rows) for each tile, with the chunk as it is for them
        const auto each_tile = [&](auto&& body) {
            const Corrections& all = scratch.corrections;
            for (std::size_t m = block, rows; m < block_end; m += rows) {
                rows = smaller(block_end - m, equal_part(block_end - m, most, activation_tile_rows));
                const std::size_t before = chunk.count * (m - block);
                chunk.corrections = {all.starts + before, all.scales + before, all.sums + before,
                                     all.pairs + before / 2};
                if constexpr (widens_x<Lanes>) chunk.words = scratch.words + (m - block) * widened;
                body(m, rows);
            }
        };
        each_tile([&](std::size_t m, std::size_t rows) {
            correct(call, chunk.pieces, chunk.count, m, rows, any.middle(), how != Scaling::weights, sums,
                    chunk.corrections);
            if constexpr (widens_x<Lanes>)
                Lanes::widen_codes(
                    static_cast<const std::int8_t*>(call.x.values) + m * call.x.stride_elements,
                    widened * rows, scratch.words + (m - block) * widened);
        });
        std::size_t n = part.n_begin;
        const auto side_by_side = [&](auto rows) {
            constexpr int streams = Lanes::side_by_side(rows, Field::Steps::bits);
            if constexpr (streams > 1)
                while (Lanes::prefers_streams() && tiles_of(part.n_end - n) >= streams) {
                    const std::size_t tiles =
                        Lanes::streams_go_on ? tiles_of_streams(tiles_of(part.n_end - n), streams) : 1;
                    for (std::size_t tile = 0; tile < tiles; ++tile, n += tile_channels) {
                        const auto multiply = [&](auto scales) {
                            using Source = StreamSource<Lanes, Field, scales, streams>;
                            multiply_stream_tile<Lanes, Source, rows>(call, Source(call, field, n, tiles),
                                                                      how, chunk, block, n);
                        };
                        if constexpr (rows == 1)
                            with_scales(call.w, multiply);
                        else
                            multiply(Constant<Scales::any>{});
                    }
                    n += (streams - 1) * tiles * tile_channels;
                }
        };
        if (call.x.m <= activation_tile_rows)
            with_constant<static_cast<int>(activation_tile_rows)>(call.x.m, side_by_side);
        for (; n < part.n_end; n += tile_channels)
            each_tile([&](std::size_t m, std::size_t rows) {
                with_constant<most>(rows, [&](auto count) {
                    const auto multiply = [&](auto scales) {
                        using Source = StreamSource<Lanes, Field, scales>;
                        multiply_stream_tile<Lanes, Source, count>(call, Source(call, field, n), how, chunk,
                                                                   m, n);
                    };
                    if constexpr (count == 1)
                        with_scales(call.w, multiply);
                    else
                        multiply(Constant<Scales::any>{});
                });
            });
    }
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
