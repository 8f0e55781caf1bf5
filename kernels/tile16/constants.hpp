// Sizes of Layout::tile16 (drawn in fewbit/pack/layout.hpp).
#pragma once

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {
namespace {

constexpr std::size_t tile_channels = 16;
constexpr std::size_t vector_bytes = 64;  ///< 16 channels x 4 of K, or x 8 in fields of 4 bits

/// What the last step of a row may hold beyond it, of K, and more.
constexpr std::size_t step_overhang = 16;

constexpr int all_rows = 1 << 30;  ///< few_rows of Lanes for which panels never pay

constexpr std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

constexpr std::size_t tiles_of(std::size_t channels) {
    return (channels + tile_channels - 1) / tile_channels;
}

/// Bytes of a scale or offset.
constexpr std::size_t scalar_bytes(Scalar type) {
    return type == Scalar::f32 ? 4 : type == Scalar::e8m0 ? 1 : 2;
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
