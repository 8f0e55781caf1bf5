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

/// Rows [m, m + Rows) times runs of tiles of channels that are read side by side, as long as there are enough before n_end;
/// returns where those that are left begin.
template <class Lanes, int Rows, class Field>
std::size_t multiply_side_by_side(const KernelCall& call, const Field& field, Scaling how, const Chunk& chunk,
                                  std::size_t m, std::size_t n, std::size_t n_end) {
    constexpr int streams = Lanes::side_by_side(Rows, Field::Steps::bits);
    if constexpr (streams > 1)
        while (Lanes::prefers_streams() && tiles_of(n_end - n) >= streams) {
            const std::size_t tiles =
                Lanes::streams_go_on ? tiles_of_streams(tiles_of(n_end - n), streams) : 1;
            for (std::size_t tile = 0; tile < tiles; ++tile, n += tile_channels)
                with_scales_of<Rows>(call.w, [&](auto scales) {
                    using Source = StreamSource<Lanes, Field, scales, streams>;
                    multiply_stream_tile<Lanes, Source, Rows>(call, Source(call, field, n, tiles), how, chunk,
                                                              m, n);
                });
            n += (streams - 1) * tiles * tile_channels;
        }
    return n;
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
        if (call.x.m <= activation_tile_rows)
            with_constant<static_cast<int>(activation_tile_rows)>(call.x.m, [&](auto rows) {
                n = multiply_side_by_side<Lanes, rows>(call, field, how, chunk, block, n, part.n_end);
            });
        for (; n < part.n_end; n += tile_channels)
            each_tile([&](std::size_t m, std::size_t rows) {
                with_constant<most>(rows, [&](auto count) {
                    with_scales_of<count>(call.w, [&](auto scales) {
                        using Source = StreamSource<Lanes, Field, scales>;
                        multiply_stream_tile<Lanes, Source, count>(call, Source(call, field, n), how, chunk,
                                                                   m, n);
                    });
                });
            });
    }
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
