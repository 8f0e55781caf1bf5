// The arithmetic of PackedActivations: what a run of x spans, and its codes on a grid. Laid out for compilers
// to vectorize; formats/activation_format.hpp has the rule.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "fewbit/formats/activation_format.hpp"

namespace fewbit::inline v0::detail {

/// Where the numbers of a row stand in its tile (matmul/contract.hpp): row m of `rows` in tiles of `together`, `run`
/// elements of each side by side.
struct TileRow {
    std::size_t first;  ///< row of the tile
    std::size_t size;   ///< rows of the tile
    std::size_t lane;   ///< of them, this one
    std::size_t run;

    TileRow(std::size_t m, std::size_t rows, std::size_t together, std::size_t run_elements) noexcept
        : first(m / together * together),
          size(rows - first < together ? rows - first : together),
          lane(m - first),
          run(run_elements) {}

    [[nodiscard]] std::size_t code(std::size_t k) const noexcept {
        return (k / run * size + lane) * run + k % run;
    }
    [[nodiscard]] std::size_t number(std::size_t i) const noexcept { return i * size + lane; }
};

/// The smallest interval that holds a run and 0.
struct ActivationExtent {
    float low = 0;
    float high = 0;
    bool finite = true;  ///< false: the run holds NaN or infinity, low and high mean nothing
};

/// [-max|x|, max|x|] of x[0, count).
inline ActivationExtent magnitude_extent(const float* x, std::size_t count) noexcept {
    // Magnitudes compare as integers, and NaN and infinity come out on top. This loop vectorizes; a float max
    // would not without -ffast-math.
    std::int32_t largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto magnitude = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFu);
        largest = magnitude > largest ? magnitude : largest;
    }
    const float high = std::bit_cast<float>(largest);
    return {-high, high, largest < 0x7F800000};
}

/// [min(x, 0), max(x, 0)] of x[0, count).
inline ActivationExtent signed_extent(const float* x, std::size_t count) noexcept {
    // Flipping the magnitude bits of negative floats puts all floats in order as integers: NaN and infinity
    // lie at both ends, 0 is 0 and -0 is -1. The mapping is its own inverse.
    const auto ordered = [](std::int32_t bits) { return bits ^ ((bits >> 31) & 0x7FFFFFFF); };
    std::int32_t least = 0, most = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t key = ordered(std::bit_cast<std::int32_t>(x[i]));
        least = key < least ? key : least;
        most = key > most ? key : most;
    }
    return {std::bit_cast<float>(ordered(least)) + 0.0f, std::bit_cast<float>(most),
            most < 0x7F800000 && least > ~0x7F800000};
}

inline ActivationExtent extent_of(const float* x, std::size_t count,
                                  const ActivationFormat& format) noexcept {
    return format.asymmetric ? signed_extent(x, count) : magnitude_extent(x, count);
}

/// The grid of a run; scale NaN, zero 0 where it is not finite.
inline ActivationGrid grid_of(const ActivationExtent& extent, const ActivationFormat& format) noexcept {
    if (!extent.finite) return {std::numeric_limits<float>::quiet_NaN(), 0};
    return activation_grid(extent.low, extent.high, format);
}

/// Codes of x[0, count), whose elements are finite unless the scale is NaN. A scale of 0 or NaN gives zeros.
inline void activation_codes(const float* x, std::size_t count, const ActivationGrid& grid,
                             const ActivationFormat& format, std::int8_t* codes) noexcept {
    if (!(grid.scale > 0)) {
        std::memset(codes, 0, count);
        return;
    }
    // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low mantissa bits.
    constexpr float magic = 12582912.0f;
    constexpr std::int32_t magic_bits = 0x4B400000;
    constexpr float far = 512.0f;  // beyond every code, whatever the zero point
    const float scale = grid.scale;
    const std::int32_t zero = grid.zero, least = format.min_code(), most = format.max_code();
    for (std::size_t i = 0; i < count; ++i) {
        float quotient = x[i] / scale;
        // Outside a static range it can be anything. Far above, the bits still grow with it; far below, the
        // sum's sign would change.
        quotient = quotient < -far ? -far : quotient;
        std::int32_t code = std::bit_cast<std::int32_t>(quotient + magic) - magic_bits + zero;
        code = code > most ? most : code;
        code = code < least ? least : code;
        codes[i] = static_cast<std::int8_t>(code);
    }
}

}  // namespace fewbit::inline v0::detail
