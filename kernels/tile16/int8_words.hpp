// int8 activations times tile16 as words of 16 bits, of many rows: panels of 16 channels x a chunk of K that stay in L1 while
// blocks of rows, widened once for all channels, run over them. (int8_panels.hpp instead widens nothing, and goes over
// all rows before the next chunk.)
#pragma once

#include "kernels/tile16/int8_panels.hpp"

namespace fewbit::inline v0::kernels {
namespace {

template <class Lanes>
struct WordsScratch {
    WordsScratch(const KernelCall& call, std::byte* memory)
        : rows(smaller(call.x.m, most_rows)),
          elements(chunk_of(call, smaller(longest_chunk, block_words / rows))) {
        const std::size_t most = most_pieces(call, elements);
        ScratchMemory scratch(memory);
        pieces = scratch.take<Piece>(most);
        corrections = scratch.take_corrections(most, rows);
        words = scratch.take<std::int16_t>(rows * (elements + step_overhang));
        panel = scratch.take<std::byte>(PanelSource<Lanes, 1>::bytes(call.w, elements));
        bytes = scratch.bytes();
    }

    static constexpr std::size_t most_rows = 128, longest_chunk = 4096;
    static constexpr std::size_t block_words =
        most_rows * 512;  ///< of x, for L2; the panel beside it is 16 KiB

    std::size_t rows;      ///< of a block: whole tiles, or all
    std::size_t elements;  ///< of K in a chunk
    Piece* pieces;
    Corrections corrections;
    std::int16_t* words;
    std::byte* panel;
    std::size_t bytes;
};

struct StreamPart {
    std::size_t begin, end;
};
/// Of [k, k_end) in the stream of a tile of channels.
template <class Steps>
StreamPart bytes_of(const StreamPlaces& places, std::size_t group_elements, std::size_t k,
                    std::size_t k_end) {
    const std::size_t last = (k_end - 1) / Steps::step_elements * Steps::step_elements;
    const std::size_t group = (k_end - 1) / group_elements;
    return {places.begin(places.parameters(k / group_elements)),
            places.codes(places.parameters(group), group, last) + Steps::step_bytes};
}

template <class Lanes, class Field>
void multiply_words(const KernelCall& call, const Field& field, Scaling how, const Rectangle& part,
                    std::byte* memory) {
    const WordsScratch<Lanes> scratch(call, memory);
    PanelSource<Lanes, 1> panel(call, scratch.elements, scratch.panel);
    const StreamSource<Lanes, Field> first(call, field, part.n_begin);
    for (std::size_t block = part.m_begin; block < part.m_end; block += scratch.rows)
        for (std::size_t k = 0; k < call.w.k; k += scratch.elements) {
            const std::size_t k_end = smaller(call.w.k, k + scratch.elements);
            const std::size_t block_end = smaller(part.m_end, block + scratch.rows);
            Chunk chunk =
                make_chunk(call, panel.places(call.w, k), k, k_end, scratch.pieces, scratch.corrections);
            const std::size_t widened = (k_end - k + 3) / 4 * 4;  // of each row
            // body(first row, rows) for each tile, with the chunk as it is for them
            const auto each_tile = [&](auto&& body) {
                const Corrections& all = scratch.corrections;
                for (std::size_t m = block; m < block_end; m += activation_tile_rows) {
                    const std::size_t rows = smaller(activation_tile_rows, block_end - m);
                    const std::size_t before = chunk.count * (m - block);
                    chunk.corrections = {all.starts + before, all.scales + before, all.sums + before,
                                         nullptr};
                    chunk.words = scratch.words + (m - block) * widened - k * rows;
                    body(m, rows);
                }
            };
            each_tile([&](std::size_t m, std::size_t rows) {
                correct(call, chunk.pieces, chunk.count, m, rows, first.middle(), how != Scaling::weights,
                        OffsetSums::scaled, chunk.corrections);
                const auto* const codes = static_cast<const std::int8_t*>(call.x.values);
                Lanes::widen_codes(codes + m * call.x.stride_elements + k * rows, widened * rows,
                                   scratch.words + (m - block) * widened);
            });
            const auto [begin, end] =
                bytes_of<typename Field::Steps>(first.places(), call.w.group_elements, k, k_end);
            const std::size_t tiles = (block_end - block + activation_tile_rows - 1) / activation_tile_rows;
            for (std::size_t n = part.n_begin; n < part.n_end; n += tile_channels) {
                panel.fill(call, field, n, k, k_end);
                NextPanel next_panel;
                if (n + tile_channels < part.n_end) {
                    const StreamSource<Lanes, Field> next(call, field, n + tile_channels);
                    next_panel = {next.codes(begin), next.codes(end), tiles};
                }
                each_tile([&](std::size_t m, std::size_t rows) {
                    chunk.ahead = next_panel.of_tile(k_end - k);
                    with_constant<static_cast<int>(activation_tile_rows)>(rows, [&](auto count) {
                        multiply_tile<Lanes, PanelSource<Lanes, 1>, count>(call, panel, how, chunk, m, n);
                    });
                });
                chunk.ahead = {};
            }
        }
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
