// int8 activations times tile16, straight from the stream: tiles of rows x 16 channels, one after the other over the same
// codes, which the first has brought into the cache. Each unpacks them again, beside products that need not wait for it.
// Few rows are bound by memory: Lanes::side_by_side tiles of channels are read at once.
#pragma once

#include "kernels/tile16/int8_tile.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct StreamScratch {
    /// For tiles of at most `tile_rows` rows.
    StreamScratch(const KernelCall& call, std::size_t tile_rows, std::byte* memory) {
        constexpr std::size_t block_bytes = 256 * 1024;  ///< of activations, which are to stay in L2
        const std::size_t tiles = block_bytes / call.w.k / tile_rows, most = most_pieces(call, call.w.k);
        rows = smaller(call.x.m, tile_rows * (tiles == 0 ? 1 : tiles));
        ScratchMemory scratch(memory);
        pieces = scratch.take<Piece>(most);
        corrections = scratch.take_corrections(most, rows);
        bytes = scratch.bytes();
    }

    std::size_t rows;  ///< of a block, which meet a tile of channels before the next: whole tiles, or all
    Piece* pieces;
    Corrections corrections;
    std::size_t bytes;
};

template <class Lanes, class Field>
void multiply_streams(const KernelCall& call, const Field& field, Scaling how, const Rectangle& part,
                      std::byte* memory) {
    constexpr int most = stream_tile_rows<Lanes>(Field::Steps::bits);
    const StreamScratch scratch(call, most, memory);
    const StreamSource<Lanes, Field> any(call, field, part.n_begin);
    Chunk chunk = make_chunk(call, any.places(), 0, call.w.k, scratch.pieces, scratch.corrections);
    const OffsetSums sums = how != Scaling::nested     ? OffsetSums::scaled
                            : call.w.super_groups == 0 ? OffsetSums::plain
                                                       : OffsetSums::pairs;
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
                body(m, rows);
            }
        };
        each_tile([&](std::size_t m, std::size_t rows) {
            correct(call, chunk.pieces, chunk.count, m, rows, any.middle(), how != Scaling::weights, sums,
                    chunk.corrections);
        });
        std::size_t n = part.n_begin;
        const auto side_by_side = [&](auto rows) {
            constexpr int tiles = Lanes::side_by_side(rows, Field::Steps::field);
            constexpr std::size_t channels = tiles * tile_channels;
            if constexpr (tiles > 1)
                if (Lanes::prefers_streams())
                    for (; n + channels - tile_channels < part.n_end; n += channels) {
                        const auto multiply = [&](auto scales) {
                            using Source = StreamSource<Lanes, Field, scales, tiles>;
                            multiply_tile<Lanes, Source, rows>(call, Source(call, field, n), how, chunk,
                                                               block, n);
                        };
                        if constexpr (rows == 1)
                            with_scales(call.w, multiply);
                        else
                            multiply(Constant<Scales::any>{});
                    }
        };
        if (call.x.m <= activation_tile_rows)
            with_constant<static_cast<int>(activation_tile_rows)>(call.x.m, side_by_side);
        for (; n < part.n_end; n += tile_channels)
            each_tile([&](std::size_t m, std::size_t rows) {
                with_constant<most>(rows, [&](auto count) {
                    const auto multiply = [&](auto scales) {
                        using Source = StreamSource<Lanes, Field, scales>;
                        multiply_tile<Lanes, Source, count>(call, Source(call, field, n), how, chunk, m, n);
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
