// int8 activations times tile16 through panels: codes of some tiles of channels x a chunk of K are unpacked once, and tiles of
// four rows run over them. For registers that are too few or too short to unpack codes beside the products.
#pragma once

#include "kernels/tile16/int8_tile.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Elements of K in a panel: equal parts, of at most `most`, that cut no sum of activations and no step.
inline std::size_t chunk_of(const KernelCall& call, std::size_t most) {
    const std::size_t run = call.x.sum_group_elements;
    const std::size_t unit =
        max_sum_elements / run * run;  // where K is longer, planes have runs of whole steps
    return equal_part(call.w.k, most / unit * unit, unit);
}

template <class Lanes>
struct PanelScratch {
    PanelScratch(const KernelCall& call, std::byte* memory)
        : elements(chunk_of(call, Lanes::chunk_elements)) {
        const std::size_t most = most_pieces(call, elements);
        ScratchMemory scratch(memory);
        pieces = scratch.take<Piece>(most);
        corrections = scratch.take_corrections(most, activation_tile_rows);
        panel = scratch.take<std::byte>(PanelSource<Lanes, Lanes::panel_tiles>::bytes(call.w, elements));
        bytes = scratch.bytes();
    }

    std::size_t elements;  ///< of K in a chunk
    Piece* pieces;
    Corrections corrections;  ///< of the rows of a tile
    std::byte* panel;
    std::size_t bytes;
};

/// All rows of `part` times `Tiles` x 16 channels from n on.
template <class Lanes, int Tiles, class Field>
void multiply_panel(const KernelCall& call, const Field& field, Scaling how, const Rectangle& part,
                    std::size_t n, const PanelScratch<Lanes>& scratch) {
    PanelSource<Lanes, Tiles> panel(call, scratch.elements, scratch.panel);
    NextPanel next = next_panel(call, part, n, Tiles * tile_channels, activation_tile_rows, scratch.elements);
    for (std::size_t k = 0; k < call.w.k; k += scratch.elements) {
        const std::size_t k_end = smaller(call.w.k, k + scratch.elements);
        Chunk chunk =
            make_chunk(call, panel.places(call.w, k), k, k_end, scratch.pieces, scratch.corrections);
        panel.fill(call, field, n, k, k_end);
        for (std::size_t m = part.m_begin; m < part.m_end; m += activation_tile_rows) {
            const std::size_t rows = smaller(activation_tile_rows, part.m_end - m);
            correct(call, chunk.pieces, chunk.count, m, rows, panel.middle(), how != Scaling::weights,
                    OffsetSums::scaled, chunk.corrections);
            chunk.ahead = next.of_tile(k_end - k);
            with_constant<static_cast<int>(activation_tile_rows)>(rows, [&](auto count) {
                multiply_tile<Lanes, PanelSource<Lanes, Tiles>, count>(call, panel, how, chunk, m, n);
            });
        }
    }
}

template <class Lanes, class Field>
void multiply_panels(const KernelCall& call, const Field& field, Scaling how, const Rectangle& part,
                     std::byte* memory) {
    const PanelScratch<Lanes> scratch(call, memory);
    constexpr std::size_t channels = Lanes::panel_tiles * tile_channels;
    for (std::size_t n = part.n_begin; n < part.n_end; n += channels)
        with_constant<Lanes::panel_tiles>(tiles_of(smaller(channels, part.n_end - n)), [&](auto tiles) {
            multiply_panel<Lanes, tiles>(call, field, how, part, n, scratch);
        });
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
