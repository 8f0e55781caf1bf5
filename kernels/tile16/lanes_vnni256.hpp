// Registers of 256 bits with VNNI: 32 of them with AVX-512 VL, 16 with AVX-VNNI, where the instruction has another name.
#pragma once

#include "kernels/tile16/lanes256.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Dot::dot(sum, w, x) is the instruction; TileRows in a tile straight from the stream, which FewRows run from at most.
template <class Dot, int TileRows, int FewRows>
struct LanesVnni256 : Lanes256 {
    using Few = LanesVnni256;
    static constexpr int chains = 8, narrow_quads = 0, halves = 1;
    static constexpr int tile_rows = TileRows, few_rows = FewRows, panel_tiles = 1;
    static constexpr bool nests = FewRows == all_rows;
    static constexpr int side_by_side(int rows, int) {
        return rows == 1 ? 4 : rows == 2 && TileRows > 4 ? 2 : 1;
    }
    static bool prefers_streams() { return cpu_prefers_streams(); }
    static constexpr bool holds_totals = TileRows <= 4;  ///< 8 rows: 16 sums of 32 registers
    static constexpr std::size_t chunk_elements = 4096;

    static Ints dot(Ints sum, Bytes w, Bytes x) { return Dot::dot(sum, w, x); }
    /// Words of 16 bits.
    static Ints dot_pairs(Ints sum, Ints a, Ints b) { return Dot::dot_pairs(sum, a, b); }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
