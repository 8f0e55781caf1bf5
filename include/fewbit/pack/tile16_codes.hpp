// How codes of one channel, or of four at once (four_words.hpp), enter a tile of Layout::tile16 (layout.hpp draws the tile).
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

#include "fewbit/formats/four_words.hpp"
#include "fewbit/pack/layout.hpp"

namespace fewbit::inline v0::detail {

static_assert(std::endian::native == std::endian::little, "tile16 is packed through little-endian words");

/// Exchanges the bits of `mask` with those `distance` above.
template <class Word>
[[nodiscard]] constexpr Word exchange_bits(Word x, int distance, std::uint64_t mask) noexcept {
    const Word changed = (x ^ x >> distance) & mask;
    return x ^ changed ^ changed << distance;
}
/// Eight 4-bit codes n0..n7 (n_i at bits 4i) as four bytes n_j | n_{4+j} << 4; twice.
template <class Word>
[[nodiscard]] constexpr Word interleave_nibbles(Word x) noexcept {
    return exchange_bits(exchange_bits(x, 8, 0x0000FF000000FF00u), 4, 0x00F000F000F000F0u);
}
/// Sixteen 2-bit codes, four q of four j, as four bytes j with q = 0, 2, 1, 3; twice.
template <class Word>
[[nodiscard]] constexpr Word interleave_pairs(Word x) noexcept {
    x = exchange_bits(x, 12, 0x0000F0F00000F0F0u);
    return exchange_bits(exchange_bits(x, 6, 0x00CC00CC00CC00CCu), 2, 0x0C0C0C0C0C0C0C0Cu);
}

/// Bits [first, first + count) of eight codes, one a byte.
template <class Word>
[[nodiscard]] constexpr Word bits_of_bytes(Word codes, int first, int count) noexcept {
    return codes >> first & 0x0101010101010101u * ((1u << count) - 1);
}
/// n_j | n_{4+j} << 4 of eight nibbles, one a byte; in the lower half of the word.
template <class Word>
[[nodiscard]] constexpr Word halves_together(Word nibbles) noexcept {
    return nibbles | nibbles >> 28;
}

/// Elements of K in a step of codes of `Bits`.
template <int Bits>
inline constexpr std::size_t tile16_step = Bits == 8   ? 4
                                           : Bits == 4 ? 8
                                                       : tile16_plane_elements;

/// The lower half of a word; of each of four, side by side.
inline void put_lower(std::uint64_t word, std::uint8_t* to) noexcept {
    const auto lower = static_cast<std::uint32_t>(word);
    std::memcpy(to, &lower, sizeof lower);
}
inline void put_lower(FourWords words, std::uint8_t* to) noexcept {
    typedef std::uint32_t Halves __attribute__((vector_size(16)));
    const auto lower =
        shuffled<0, 2, 4, 6>(reinterpret_cast<Halves>(words.low), reinterpret_cast<Halves>(words.high));
    std::memcpy(to, &lower, sizeof lower);
}
/// Both halves, each where it goes.
inline void put_halves(std::uint64_t word, std::uint8_t* lower, std::uint8_t* upper) noexcept {
    put_lower(word, lower);
    put_lower(word >> 32, upper);
}
inline void put_halves(FourWords words, std::uint8_t* lower, std::uint8_t* upper) noexcept {
    typedef std::uint32_t Halves __attribute__((vector_size(16)));
    const auto high =
        shuffled<1, 3, 5, 7>(reinterpret_cast<Halves>(words.low), reinterpret_cast<Halves>(words.high));
    put_lower(words, lower);
    std::memcpy(upper, &high, sizeof high);
}
/// The lowest 16 bits.
inline void put_quarter(std::uint64_t word, std::uint8_t* to) noexcept {
    const auto quarter = static_cast<std::uint16_t>(word);
    std::memcpy(to, &quarter, sizeof quarter);
}
inline void put_quarter(FourWords words, std::uint8_t* to) noexcept {
    typedef std::uint16_t Quarters __attribute__((vector_size(16)));
    const auto four = shuffled<0, 4, 8, 12, 0, 4, 8, 12>(reinterpret_cast<Quarters>(words.low),
                                                         reinterpret_cast<Quarters>(words.high));
    std::memcpy(to, &four, sizeof four / 2);
}

/// Sixteen codes of channel c, one a byte: the steps that they fill, or one of planes. A Word of four channels: c to c + 3.
template <int Bits, class Word>
[[gnu::always_inline]] inline void write_tile16_sixteen(Word first, Word second, std::size_t c,
                                                        std::uint8_t* step) noexcept {
    if constexpr (Bits == 8) {
        step += 4 * c;
        put_halves(first, step, step + 64);
        put_halves(second, step + 128, step + 192);
        return;
    }
    constexpr int nibbles = Bits >= 4 ? 4 : 0, pairs = Bits % 4 / 2 * 2;
    if constexpr (nibbles != 0) {
        put_lower(halves_together(bits_of_bytes(first, 0, 4)), step + 4 * c);
        put_lower(halves_together(bits_of_bytes(second, 0, 4)), step + 4 * c + 64);
        step += 128;
    }
    if constexpr (pairs != 0) {  // q = 0, 1 are the first, q = 2, 3 the second
        put_lower(halves_together(bits_of_bytes(first, nibbles, 2) | bits_of_bytes(second, nibbles, 2) << 2),
                  step + 4 * c);
        step += 64;
    }
    if constexpr (Bits % 2 != 0) {
        constexpr int bit = nibbles + pairs;
        const Word bits = halves_together(bits_of_bytes(first, bit, 1) | bits_of_bytes(second, bit, 1) << 1);
        put_quarter(bits | bits >> 14, step + 2 * c);
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
            put_lower(halves_together(load_bytes(codes)), out + 4 * c);
        else
            write_tile16_sixteen<Bits>(load_bytes(codes), load_bytes(codes + 8), c, out);
}

/// use(offset, the `Bytes` bytes, up to 8, that begin there) for each `Bytes` of `bytes`, a multiple of it. Reads no byte
/// behind them.
template <std::size_t Bytes, class Place>
void each_word(Place row, std::size_t bytes, auto&& use) noexcept {
    std::size_t at = 0;
    for (; at + 8 <= bytes; at += Bytes) use(at, load_bytes(row + at));
    for (; at < bytes; at += Bytes)  // the last of them end where the row may end
        use(at, bytes < 8 ? load_bytes<Bytes>(row + at)
                          : load_bytes(row + (bytes - 8)) >> static_cast<int>(8 * (at + 8 - bytes)));
}

/// Codes of `Stored` bits, side by side in rows (bit_matrix.hpp), in fields of `Bits`: whole steps, of wider fields of 8
/// bits an even number. Row: that of channel c, or of it and three more.
template <int Bits, int Stored, class Place>
void write_tile16_row(Place row, std::size_t steps, std::size_t c, std::uint8_t* out) noexcept {
    constexpr std::size_t step_bytes = tile16_step<Bits> * Bits / 8, out_step = tile16_channels * step_bytes;
    if constexpr (Bits != Stored) {  // eight codes are one step of 4 bits, two of 8
        each_word<Stored>(row, steps * tile16_step<Bits> / 8 * Stored, [&](std::size_t at, auto word) {
            std::uint8_t* const to = out + at / Stored * (8 / tile16_step<Bits>)*out_step + 4 * c;
            const auto codes = bytes_of_codes<Stored>(word);
            if constexpr (Bits == 8)
                put_halves(codes, to, to + out_step);
            else
                put_lower(halves_together(codes), to);
        });
    } else if constexpr (Bits == 2 || Bits == 4 || Bits == 8) {  // half a word a step
        const auto interleave = [](auto words) {
            if constexpr (Bits == 2)
                return interleave_pairs(words);
            else if constexpr (Bits == 4)
                return interleave_nibbles(words);
            else
                return words;
        };
        out += 4 * c;
        for (; steps >= 2; steps -= 2, row = row + 2 * step_bytes, out += 2 * out_step)
            put_halves(interleave(load_bytes(row)), out, out + out_step);
        if (steps != 0) put_lower(interleave(load_bytes<step_bytes>(row)), out);
    } else if constexpr (Bits == 3) {
        each_word<step_bytes>(row, steps * step_bytes, [&](std::size_t at, auto word) {
            write_tile16_sixteen<3>(bytes_of_codes<3>(word), bytes_of_codes<3>(word >> 24), c,
                                    out + at * tile16_channels);
        });
    } else {
        for (; steps != 0; --steps, row = row + step_bytes, out += out_step)
            write_tile16_sixteen<Bits>(
                bytes_of_codes<Bits>(load_bytes(row)),
                bytes_of_codes<Bits>(load_bytes(row + (step_bytes - 8)) >> 8 * (8 - Bits)), c, out);
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
/// use.operator()<bits>() for the bits of codes that fields of `Bits` hold: no fewer than 2 in 4, 5 in 8.
template <int Bits, int Stored = Bits>
void with_stored_bits(int bits, auto&& use) {
    if constexpr (Bits % 4 == 0 && Stored > (Bits == 4 ? 2 : 5))
        if (bits < Stored) return with_stored_bits<Bits, Stored - 1>(bits, use);
    use.template operator()<Stored>();
}

}  // namespace fewbit::inline v0::detail
