// How codes of one channel enter a tile of Layout::tile16 (layout.hpp draws the tile).
//
// A step of planes holds 16 of K, w[c][4q + j] with q < 4 and j < 4, and of each code, from its lowest bit on:
//
//   5, 6 bits      4 bits    2 x 64 bytes: two steps of 4 bits, q = 0, 1 and q = 2, 3
//   2, 3, 6 bits   2 bits    64 bytes: byte (c, j) has q = 0, 2, 1, 3 from its lowest bits on
//   3, 5 bits      1 bit     32 bytes: byte (c, i), i < 2, has q = 0, 2 of j = i, q = 0, 2 of j = i + 2, then q = 1, 3 of
//                            both alike
//
// So nibbles of 2 and 3 bits are (x >> s) & 0x33 and & 0x44, and the high bits of bytes a shift away too.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fewbit/pack/layout.hpp"

namespace fewbit::inline v0::detail {

static_assert(std::endian::native == std::endian::little, "tile16 is packed through little-endian words");

/// Eight 4-bit codes n0..n7 (n_i at bits 4i) as four bytes n_j | n_{4+j} << 4.
[[nodiscard]] constexpr std::uint32_t interleave_nibbles(std::uint32_t x) noexcept {
    const auto spread = [](std::uint32_t v) {  // n3 n2 n1 n0 -> one nibble per byte
        v = (v | v << 8) & 0x00FF00FFu;
        return (v | v << 4) & 0x0F0F0F0Fu;
    };
    return spread(x & 0xFFFFu) | spread(x >> 16) << 4;
}

/// Bits [first, first + count) of four codes, one a byte.
[[nodiscard]] constexpr std::uint32_t bits_of_bytes(std::uint32_t codes, int first, int count) noexcept {
    return codes >> first & 0x01010101u * ((1u << count) - 1);
}

/// Sixteen codes of one channel as planes of `field_bits` bits in all; `step`: of the tile, `c`: its channel.
inline void write_tile16_planes(const std::uint8_t* codes, int field_bits, std::size_t c,
                                std::uint8_t* step) noexcept {
    std::uint32_t quads[4];
    std::memcpy(quads, codes, sizeof quads);
    const auto put = [&](std::uint32_t word) {
        std::memcpy(step + 4 * c, &word, sizeof word);
        step += 64;
    };
    int first = 0;
    if (field_bits > 4) {
        for (int pair = 0; pair < 4; pair += 2)
            put(bits_of_bytes(quads[pair], 0, 4) | bits_of_bytes(quads[pair + 1], 0, 4) << 4);
        first = 4;
    }
    if (field_bits % 4 >= 2) {
        const auto two = [&](int q) { return bits_of_bytes(quads[q], first, 2); };
        put(two(0) | two(1) << 4 | two(2) << 2 | two(3) << 6);
        first += 2;
    }
    if (field_bits % 2 != 0) {
        const auto one = [&](int q) { return bits_of_bytes(quads[q], first, 1); };
        const std::uint32_t bits = one(0) | one(1) << 4 | one(2) << 1 | one(3) << 5;
        const auto half = static_cast<std::uint16_t>(bits | bits >> 14);
        std::memcpy(step + 2 * c, &half, sizeof half);
    }
}

/// `count` codes of channel c from the start of a step on. `codes` has room for tile16_plane_elements - 1 more, which are
/// read where a step is not full and must be 0.
inline void write_tile16_codes(const std::uint8_t* codes, std::size_t count, const Tile16Shape& shape,
                               std::size_t c, std::uint8_t* out) noexcept {
    switch (shape.field_bits) {
        case 4:
            for (std::size_t i = 0; i < count; i += 8, out += 64) {
                std::uint32_t quads[2];
                std::memcpy(quads, codes + i, sizeof quads);
                const std::uint32_t word = quads[0] | quads[1] << 4;
                std::memcpy(out + 4 * c, &word, sizeof word);
            }
            return;
        case 8:
            for (std::size_t i = 0; i < count; i += 4, out += 64) std::memcpy(out + 4 * c, codes + i, 4);
            return;
        default:
            for (std::size_t i = 0; i < count; i += shape.step_elements, out += shape.step_bytes)
                write_tile16_planes(codes + i, shape.field_bits, c, out);
    }
}

/// The same for a row that holds nibbles as packed, from an even k on: whole steps of fields of 4 bits.
inline void write_tile16_nibbles(const std::uint8_t* packed, std::size_t steps, std::size_t c,
                                 std::uint8_t* out) noexcept {
    for (std::size_t s = 0; s < steps; ++s, packed += 4, out += 64) {
        std::uint32_t word = 0;
        std::memcpy(&word, packed, 4);
        word = interleave_nibbles(word);
        std::memcpy(out + 4 * c, &word, 4);
    }
}

}  // namespace fewbit::inline v0::detail
