// How AVX2 kernels write a tile's channels of one row.
#pragma once

#include "kernels/tile16/avx2.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Stores sums[h] to y[0, count), adding the bias.
void store_row(float* y, const float* bias, std::size_t count, __m256 sum0, __m256 sum1) {
    if (count == tile_channels) {
        if (bias != nullptr) {
            sum0 = _mm256_add_ps(sum0, _mm256_loadu_ps(bias));
            sum1 = _mm256_add_ps(sum1, _mm256_loadu_ps(bias + 8));
        }
        _mm256_storeu_ps(y, sum0);
        _mm256_storeu_ps(y + 8, sum1);
        return;
    }
    alignas(32) float values[tile_channels];
    _mm256_store_ps(values, sum0);
    _mm256_store_ps(values + 8, sum1);
    for (std::size_t i = 0; i < count; ++i) y[i] = bias != nullptr ? values[i] + bias[i] : values[i];
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
