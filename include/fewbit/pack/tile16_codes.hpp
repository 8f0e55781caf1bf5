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

#include "fewbit/formats/eight_codes.hpp"
#include "fewbit/pack/layout.hpp"

namespace fewbit::inline v0::detail {

static_assert(std::endian::native == std::endian::little, "tile16 is packed through little-endian words");

/// Exchanges the bits of `mask` with those `distance` above.
[[nodiscard]] constexpr std::uint64_t exchange_bits(std::uint64_t x, int distance,
                                                    std::uint64_t mask) noexcept {
    const std::uint64_t changed = (x ^ x >> distance) & mask;
    return x ^ changed ^ changed << distance;
}
/// Eight 4-bit codes n0..n7 (n_i at bits 4i) as four bytes n_j | n_{4+j} << 4; twice.
[[nodiscard]] constexpr std::uint64_t interleave_nibbles(std::uint64_t x) noexcept {
    return exchange_bits(exchange_bits(x, 8, 0x0000FF000000FF00u), 4, 0x00F000F000F000F0u);
}
/// Sixteen 2-bit codes, four q of four j, as four bytes j with q = 0, 2, 1, 3; twice.
[[nodiscard]] constexpr std::uint64_t interleave_pairs(std::uint64_t x) noexcept {
    x = exchange_bits(x, 12, 0x0000F0F00000F0F0u);
    return exchange_bits(exchange_bits(x, 6, 0x00CC00CC00CC00CCu), 2, 0x0C0C0C0C0C0C0C0Cu);
}

/// Bits [first, first + count) of eight codes, one a byte.
[[nodiscard]] constexpr std::uint64_t bits_of_bytes(std::uint64_t codes, int first, int count) noexcept {
    return codes >> first & 0x0101010101010101u * ((1u << count) - 1);
}
/// n_j | n_{4+j} << 4 of eight nibbles, one a byte.
[[nodiscard]] constexpr std::uint32_t halves_together(std::uint64_t nibbles) noexcept {
    return static_cast<std::uint32_t>(nibbles | nibbles >> 28);
}

/// Elements of K in a step of codes of `Bits`.
template <int Bits>
inline constexpr std::size_t tile16_step = Bits == 8   ? 4
                                           : Bits == 4 ? 8
                                                       : tile16_plane_elements;

inline void put_word(std::uint32_t word, std::uint8_t* to) noexcept { std::memcpy(to, &word, sizeof word); }

/// Sixteen codes of channel c, one a byte: the steps that they fill, or one of planes.
template <int Bits>
void write_tile16_sixteen(std::uint64_t first, std::uint64_t second, std::size_t c,
                          std::uint8_t* step) noexcept {
    if constexpr (Bits == 8) {
        for (const std::uint64_t eight : {first, second}) {
            put_word(static_cast<std::uint32_t>(eight), step + 4 * c);
            put_word(static_cast<std::uint32_t>(eight >> 32), step + 4 * c + 64);
            step += 128;
        }
        return;
    }
    constexpr int nibbles = Bits >= 4 ? 4 : 0, pairs = Bits % 4 / 2 * 2;
    if constexpr (nibbles != 0) {
        put_word(halves_together(bits_of_bytes(first, 0, 4)), step + 4 * c);
        put_word(halves_together(bits_of_bytes(second, 0, 4)), step + 4 * c + 64);
        step += 128;
    }
    if constexpr (pairs != 0) {  // q = 0, 1 are the first, q = 2, 3 the second
        put_word(halves_together(bits_of_bytes(first, nibbles, 2) | bits_of_bytes(second, nibbles, 2) << 2),
                 step + 4 * c);
        step += 64;
    }
    if constexpr (Bits % 2 != 0) {
        constexpr int bit = nibbles + pairs;
        const std::uint32_t bits =
            halves_together(bits_of_bytes(first, bit, 1) | bits_of_bytes(second, bit, 1) << 1);
        const auto half = static_cast<std::uint16_t>(bits | bits >> 14);
        std::memcpy(step + 2 * c, &half, sizeof half);
    }
}

/// `count` codes of channel c, one a byte, from the start of a step on. `codes` has room for tile16_plane_elements - 1 more,
/// which are read where a step is not full and must be 0.
template <int Bits>
void write_tile16_bytes(const std::uint8_t* codes, std::size_t count, std::size_t c,
                        std::uint8_t* out) noexcept {
    constexpr std::size_t step = tile16_step<Bits>;
    for (std::size_t i = 0; i < count; i += step, codes += step, out += step * Bits * 2)
        if constexpr (Bits == 8)
            std::memcpy(out + 4 * c, codes, 4);
        else if constexpr (Bits == 4)
            put_word(halves_together(load_bytes(codes)), out + 4 * c);
        else
            write_tile16_sixteen<Bits>(load_bytes(codes), load_bytes(codes + 8), c, out);
}

/// The same for whole steps of a row whose codes lie side by side (bit_matrix.hpp). Reads no byte behind them.
template <int Bits>
void write_tile16_row(const std::uint8_t* row, std::size_t steps, std::size_t c, std::uint8_t* out) noexcept {
    constexpr std::size_t row_step = tile16_step<Bits> * Bits / 8, out_step = tile16_channels * row_step;
    if constexpr (Bits == 8) {
        write_tile16_bytes<8>(row, steps * row_step, c, out);
    } else if constexpr (Bits == 2 || Bits == 4) {  // a word a step, two at a time
        const auto interleave = [](std::uint64_t words) {
            return Bits == 2 ? interleave_pairs(words) : interleave_nibbles(words);
        };
        out += 4 * c;
        for (; steps >= 2; steps -= 2, row += 2 * row_step, out += 2 * out_step) {
            const std::uint64_t two = interleave(load_bytes(row));
            put_word(static_cast<std::uint32_t>(two), out);
            put_word(static_cast<std::uint32_t>(two >> 32), out + out_step);
        }
        if (steps != 0) put_word(static_cast<std::uint32_t>(interleave(load_bytes(row, 4))), out);
    } else {
        for (; steps != 0; --steps, row += row_step, out += out_step) {
            std::uint64_t first, second;
            if constexpr (row_step >= 8) {
                first = load_bytes(row);
                second = load_bytes(row + row_step - 8) >> 8 * (8 - row_step / 2);
            } else {
                std::uint32_t low;
                std::uint16_t high;
                static_assert(row_step == sizeof low + sizeof high);
                std::memcpy(&low, row, sizeof low);
                std::memcpy(&high, row + sizeof low, sizeof high);
                first = low | static_cast<std::uint64_t>(high) << 32;
                second = first >> 8 * (row_step / 2);
            }
            write_tile16_sixteen<Bits>(bytes_of_codes<Bits>(first), bytes_of_codes<Bits>(second), c, out);
        }
    }
}

/// use.operator()<field_bits>().
void with_field_bits(int field_bits, auto&& use) {
    switch (field_bits) {
        case 2: return use.template operator()<2>();
        case 3: return use.template operator()<3>();
        case 4: return use.template operator()<4>();
        case 5: return use.template operator()<5>();
        case 6: return use.template operator()<6>();
        default: use.template operator()<8>();
    }
}

}  // namespace fewbit::inline v0::detail
