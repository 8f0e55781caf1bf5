// Quantizes a tile of activations (ActivationTile in fewbit/matmul/contract.hpp): bit for bit what
// fewbit/pack/activation_codes.hpp does, 16 values of each row at a time.
#pragma once

#include <cstring>

#include "kernels/tile16/constants.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Scales of the rows over [begin, end): 0 where all is zero or underflows, NaN where not all is finite.
template <class Lanes>
void tile_scales(const ActivationTile& tile, std::size_t begin, std::size_t end, float* scales) {
    for (std::size_t r = 0; r < tile.rows; ++r) {
        const float* const x = tile.x + r * tile.x_stride_elements;
        typename Lanes::Magnitudes most = Lanes::no_magnitudes();
        std::size_t k = begin;
        for (; k + 16 <= end; k += 16) most = Lanes::larger(most, x + k);
        if (k < end) most = Lanes::larger(most, x + k, end - k);
        const std::int32_t bits = Lanes::largest(most);  // magnitudes compare as integers, NaN on top
        float high;
        std::memcpy(&high, &bits, sizeof high);
        constexpr std::int32_t infinity = 0x7F800000;
        scales[r] = bits >= infinity ? __builtin_nanf("") : high / static_cast<float>(tile.largest_code);
    }
}

template <class Lanes>
void quantize_tile(const ActivationTile& tile) noexcept {
    const std::size_t rows = tile.rows;
    for (std::size_t g = 0, begin = 0; begin < tile.k; ++g, begin += tile.group_elements) {
        const std::size_t end = smaller(begin + tile.group_elements, tile.k);
        float* const scales = tile.scales + g * rows;
        tile_scales<Lanes>(tile, begin, end, scales);
        for (std::size_t k = begin; k < end; k += 16) {
            typename Lanes::Codes codes[activation_tile_rows] = {};
            for (std::size_t r = 0; r < rows; ++r)
                if (scales[r] > 0)
                    codes[r] = Lanes::codes(tile.x + r * tile.x_stride_elements + k, end - k, scales[r],
                                            tile.largest_code);
            Lanes::store_codes(codes, rows, tile.codes + k * rows);
        }
    }
    const std::size_t written = (tile.k + Lanes::run - 1) / Lanes::run * Lanes::run;
    std::memset(tile.codes + written * rows, 0, (tile.stride_elements - written) * rows);
    for (std::size_t s = 0, begin = 0; begin < tile.k; ++s, begin += tile.sum_group_elements) {
        const std::size_t end = smaller(begin + tile.sum_group_elements, tile.k);
        Lanes::store_sums(tile.codes, begin, end, rows, tile.sums + s * rows);
    }
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
