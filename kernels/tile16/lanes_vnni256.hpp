// Registers of 256 bits with VNNI: 32 of them with AVX-512 VL, 16 with AVX-VNNI, where the instruction has another name.
#pragma once

#include "kernels/tile16/lanes256.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Dot::dot(sum, w, x) is the instruction; MostFew rows in a tile straight from the stream, Tiles of channels in a panel.
template <class Dot, int MostFew, int Tiles>
struct LanesVnni256 : Lanes256 {
    using Few = LanesVnni256;
    static constexpr int chains = 8, narrow_quads = 0, halves = 1, few_rows = MostFew, panel_tiles = Tiles;
    static constexpr std::size_t chunk_elements = 4096;

    static Bytes half(Bytes w, int) { return w; }
    static Ints dot(Ints sum, Bytes w, Bytes x) { return Dot::dot(sum, w, x); }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
