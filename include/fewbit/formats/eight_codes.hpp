// Eight codes at a time, which fill as many bytes as one has bits: from bits that lie side by side, lowest first, to bytes,
// by shifts of whole words. (No instruction set is asked for: packing a model and its dequantization start here.) A Word is
// of 64 bits, or four of them (four_words.hpp).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fewbit::inline v0::detail {

/// A byte in all eight.
[[nodiscard]] constexpr std::uint64_t in_all_bytes(std::uint64_t byte) noexcept {
    return byte * 0x0101010101010101u;
}

/// Eight codes of `Bits` bits each, side by side from the lowest bit on, as eight bytes.
template <int Bits, class Word>
[[nodiscard]] constexpr Word bytes_of_codes(Word codes) noexcept {
    if constexpr (Bits == 1) {  // each byte keeps a bit of its own, which carries to its highest
        const Word own = in_all_bytes(codes & 0xFF) & 0x8040201008040201u;
        return (own + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;
    }
    constexpr std::uint64_t one = (1u << Bits) - 1, two = (1u << 2 * Bits) - 1, four = (1u << 4 * Bits) - 1;
    constexpr std::uint64_t pairs = two | two << 32, singles = one * 0x0001000100010001u;
    codes = (codes & four) | (codes >> 4 * Bits & four) << 32;
    codes = (codes & pairs) | (codes >> 2 * Bits & pairs) << 16;
    return (codes & singles) | (codes >> Bits & singles) << 8;
}

/// Up to eight bytes, the first one lowest.
[[nodiscard]] inline std::uint64_t load_bytes(const std::uint8_t* p, std::size_t count) noexcept {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < count; ++i) word |= static_cast<std::uint64_t>(p[i]) << (8 * i);
    return word;
}
/// Eight: one load, which compilers do not always see in a loop.
[[nodiscard]] inline std::uint64_t load_bytes(const std::uint8_t* p) noexcept {
    if constexpr (std::endian::native != std::endian::little) return load_bytes(p, 8);
    std::uint64_t word;
    std::memcpy(&word, p, sizeof word);
    return word;
}
/// The `Count` bytes: a load for each power of two of it. (Copied into a word, they would wait for the cache.)
template <std::size_t Count>
[[nodiscard]] inline std::uint64_t load_bytes(const std::uint8_t* p) noexcept {
    static_assert(Count < 8);
    if constexpr (std::endian::native != std::endian::little) return load_bytes(p, Count);
    const auto part = [&]<class Part>(Part value) {
        constexpr std::size_t at = Count / (2 * sizeof value) * (2 * sizeof value);
        if ((Count & sizeof value) == 0) return std::uint64_t{0};
        std::memcpy(&value, p + at, sizeof value);
        return static_cast<std::uint64_t>(value) << (8 * at);
    };
    return part(std::uint32_t{}) | part(std::uint16_t{}) | part(std::uint8_t{});
}
inline void store_bytes(std::uint64_t word, std::uint8_t* p) noexcept {
    if constexpr (std::endian::native == std::endian::little)
        std::memcpy(p, &word, sizeof word);
    else
        for (std::size_t i = 0; i < 8; ++i) p[i] = static_cast<std::uint8_t>(word >> (8 * i));
}

/// `eights` times eight codes, which fill exactly `Bits` bytes, from `source` to `out`. Reads `Bits` bytes of each, no more.
template <int Bits>
void unpack_eights(const std::uint8_t* source, std::size_t eights, std::uint8_t* out) noexcept {
    const std::size_t bytes = eights * Bits;
    // A word of eight bytes is one load, but the last ones would end behind the codes.
    const std::size_t whole = bytes < 8 ? 0 : (bytes - 8) / Bits + 1;
    for (std::size_t i = 0; i < whole; ++i)
        store_bytes(bytes_of_codes<Bits>(load_bytes(source + i * Bits)), out + 8 * i);
    for (std::size_t i = whole; i < eights; ++i)
        store_bytes(bytes_of_codes<Bits>(load_bytes(source + i * Bits, Bits)), out + 8 * i);
}

}  // namespace fewbit::inline v0::detail
