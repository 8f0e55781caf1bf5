// Tiles of AMX, eight of 16 rows x 64 bytes, and the instructions that kernels use. As assembler: the compilers' functions take
// literal numbers of tiles, and g++ 12's do not say that loads of tiles read memory.
//
//   tile 0, 1   sums (int32): rows of x x 16 channels, twice
//   tile 2, 3   x: rows x `step` of K
//   tile 4 - 7  W: [step / 4][16 channels][4 of K], of two steps for two times 16 channels
#pragma once

#include <cstddef>
#include <cstdint>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {
namespace {

constexpr std::size_t amx_rows = 16, amx_row_bytes = 64;

/// Sets the shapes of the tiles: `rows` of x, at most 16, and steps of `step` bytes, a multiple of 4 up to 64. All become zero.
inline void configure_tiles(std::size_t rows, std::size_t step) {
    struct {
        std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
        std::uint16_t row_bytes[16] = {};
        std::uint8_t rows[16] = {};
    } config;
    static_assert(sizeof config == 64);
    for (int tile = 0; tile < 8; ++tile) {
        config.row_bytes[tile] = static_cast<std::uint16_t>(tile == 2 || tile == 3 ? step : amx_row_bytes);
        config.rows[tile] = static_cast<std::uint8_t>(tile < 4 ? rows : step / 4);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
}
/// Back to no tiles: the system need not save them, and the CPU may rest.
inline void release_tiles() { __asm__ volatile("tilerelease"); }

template <int Tile>
void zero_tile() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(Tile));
}
template <int Tile>
void load_tile(const void* p, std::size_t stride) {
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(Tile), "r"(p), "r"(stride) : "memory");
}
template <int Tile>
void store_tile(void* p, std::size_t stride) {
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(Tile), "r"(p), "r"(stride) : "memory");
}
/// Sums += x * W, bytes: signed those of x, signed or not those of W.
template <bool Signed, int Sums, int X, int W>
void multiply_tiles() {
    if constexpr (Signed)
        __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(X), "i"(W));
    else
        __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(X), "i"(W));
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
