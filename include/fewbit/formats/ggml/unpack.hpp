// The codes of ggml's blocks, sixteen at a time in two words of 64 bits, whatever bits of the block they come from
// (blocks.hpp says where they stand); of one block or of those of four rows (four_words.hpp). A Place is a pointer, or a place
// in four rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "fewbit/formats/four_words.hpp"
#include "fewbit/formats/ggml/types.hpp"

namespace fewbit::inline v0::ggml {
namespace detail {

using Bytes = const std::uint8_t*;

/// Where codes of 4 bits (or their low 4 bits) stand: runs of `bytes`, of which each has one code of either half of twice as many.
struct Nibbles {
    std::size_t first, bytes;  ///< of the block; of a run; 0: no nibbles
};
[[nodiscard]] constexpr Nibbles nibbles_of(BlockType type) noexcept {
    switch (type) {
        case BlockType::q4_0:
        case BlockType::iq4_nl: return {2, 16};
        case BlockType::q4_1: return {4, 16};
        case BlockType::q5_0: return {6, 16};
        case BlockType::q5_1:
        case BlockType::iq4_xs: return {8, 16};
        case BlockType::mxfp4: return {1, 16};
        case BlockType::nvfp4: return {4, 8};
        case BlockType::q4_k: return {16, 32};
        case BlockType::q5_k: return {48, 32};
        case BlockType::q6_k: return {0, 64};
        default: return {};
    }
}
/// Sixteen codes, one a byte, the first one lowest.
template <class Word>
struct Sixteen {
    Word first, second;

    friend Sixteen operator&(Sixteen a, std::uint64_t mask) noexcept {
        return {a.first & mask, a.second & mask};
    }
    friend Sixteen operator^(Sixteen a, std::uint64_t mask) noexcept {
        return {a.first ^ mask, a.second ^ mask};
    }
    friend Sixteen operator|(Sixteen a, Sixteen b) noexcept {
        return {a.first | b.first, a.second | b.second};
    }
    friend Sixteen operator<<(Sixteen a, int bits) noexcept { return {a.first << bits, a.second << bits}; }
    friend Sixteen operator>>(Sixteen a, int bits) noexcept { return {a.first >> bits, a.second >> bits}; }
};
inline constexpr std::uint64_t in_each_byte = 0x0101010101010101u;

template <class Place>
using WordAt = decltype(fewbit::detail::load_bytes(std::declval<Place>()));
template <class Place>
[[nodiscard]] Sixteen<WordAt<Place>> load_sixteen(Place p) noexcept {
    return {fewbit::detail::load_bytes(p), fewbit::detail::load_bytes(p + 8)};
}

/// Codes i to i + 15 of planes of `Bits` bits in 32 bytes, 32 codes in each plane.
template <int Bits, class Place>
[[nodiscard]] Sixteen<WordAt<Place>> of_plane(Place planes, std::size_t i) noexcept {
    constexpr std::size_t together = 256 / Bits;
    const auto first = static_cast<int>(i % together / 32) * Bits;
    return load_sixteen(planes + (i / together * 32 + i % 32)) >> first & in_each_byte * ((1u << Bits) - 1);
}
/// Codes i to i + 15 of those that lie side by side.
template <int Bits, class Place>
[[nodiscard]] Sixteen<WordAt<Place>> side_by_side(Place codes, std::size_t i) noexcept {
    const auto sixteen = fewbit::detail::load_bytes<2 * Bits>(codes + i * Bits / 8);
    return {fewbit::detail::bytes_of_codes<Bits>(sixteen),
            fewbit::detail::bytes_of_codes<Bits>(sixteen >> 8 * Bits)};
}

/// The trits of eight bytes, those of power 1 first: a byte times 3 is a trit above what the next ones come from.
template <class Word>
class Trits {
public:
    explicit Trits(Word bytes) noexcept : even_(bytes & low), odd_(bytes >> 8 & low) {}
    [[nodiscard]] Word next() noexcept {
        const Word even = even_ + even_ + even_, odd = odd_ + odd_ + odd_;
        even_ = even & low, odd_ = odd & low;
        return (even >> 8 & low) | (odd & ~low);
    }

private:
    static constexpr std::uint64_t low = 0x00FF00FF00FF00FFu;
    Word even_, odd_;
};
/// use(i, Sixteen) for the codes of tq1_0.
template <class Place>
void each_sixteen_trits(Place block, auto&& use) noexcept {
    using fewbit::detail::load_bytes;
    using Word = WordAt<Place>;
    std::size_t i = 0;
    for (const std::size_t bytes : {32, 16}) {  // whose five trits each come one after the other
        for (std::size_t b = 0; b < bytes; b += 16, block = block + 16) {
            Trits<Word> first(load_bytes(block)), second(load_bytes(block + 8));
            for (std::size_t t = 0; t < 5; ++t) {
                const Word eight = first.next();
                use(i + t * bytes + b, Sixteen<Word>{eight, second.next()});
            }
        }
        i += 5 * bytes;
    }
    Trits<Word> last(load_bytes(block, 4));
    const auto eight = [&] {
        const Word low = last.next();
        return low | last.next() << 32;
    };
    const Word first = eight();
    use(i, Sixteen<Word>{first, eight()});
}

/// use(i, codes i to i + 15) for all of a block, in any order.
template <BlockType Type, class Place>
void each_sixteen(Place block, auto&& use) noexcept {
    using Word = WordAt<Place>;
    constexpr std::size_t elements = traits(Type).elements;
    constexpr Nibbles places = nibbles_of(Type);
    // The bits above the lowest two, or four, that stand elsewhere.
    const auto above = [&](std::size_t i) -> Sixteen<Word> {
        if constexpr (Type == BlockType::q3_k) return of_plane<1>(block, i) << 2;
        if constexpr (Type == BlockType::q5_0) return side_by_side<1>(block + 2, i) << 4;
        if constexpr (Type == BlockType::q5_1) return side_by_side<1>(block + 4, i) << 4;
        if constexpr (Type == BlockType::q5_k) return of_plane<1>(block + 16, i) << 4;
        if constexpr (Type == BlockType::q6_k) return of_plane<2>(block + 128, i) << 4;
        return Sixteen<Word>{};
    };
    const auto each = [&](auto&& codes) {
        for (std::size_t i = 0; i < elements; i += 16) use(i, codes(i));
    };
    if constexpr (places.bytes == 8) {
        each([&](std::size_t i) {
            const Word both = fewbit::detail::load_bytes(block + (places.first + i / 2));
            return Sixteen<Word>{both, both >> 4} & 15 * in_each_byte;
        });
    } else if constexpr (places.bytes != 0) {
        for (std::size_t run = 0; run < elements; run += 2 * places.bytes)
            for (std::size_t j = 0; j < places.bytes; j += 16) {
                const auto both = load_sixteen(block + (places.first + run / 2 + j));
                const std::size_t low = run + j, high = low + places.bytes;
                use(low, (both & 15 * in_each_byte) | above(low));
                use(high, (both >> 4 & 15 * in_each_byte) | above(high));
            }
    } else if constexpr (Type == BlockType::q2_k || Type == BlockType::q3_k || Type == BlockType::tq2_0) {
        constexpr std::size_t qs = Type == BlockType::q2_k ? 16 : Type == BlockType::q3_k ? 32 : 0;
        each([&](std::size_t i) { return of_plane<2>(block + qs, i) | above(i); });
    } else if constexpr (Type == BlockType::q8_0 || Type == BlockType::q8_k) {
        constexpr std::uint64_t middle = 128 * in_each_byte;
        each([&](std::size_t i) {
            return load_sixteen(block + ((Type == BlockType::q8_0 ? 2 : 4) + i)) ^ middle;
        });
    } else if constexpr (Type == BlockType::q1_0) {
        each([&](std::size_t i) { return side_by_side<1>(block + 2, i); });
    } else if constexpr (Type == BlockType::q2_0) {
        each([&](std::size_t i) { return side_by_side<2>(block + 2, i); });
    } else {
        static_assert(Type == BlockType::tq1_0);
        each_sixteen_trits(block, use);
    }
}

}  // namespace detail

/// use.operator()<type>().
decltype(auto) with_type(BlockType type, auto&& use) {
    switch (type) {
        case BlockType::q4_0: return use.template operator()<BlockType::q4_0>();
        case BlockType::q4_1: return use.template operator()<BlockType::q4_1>();
        case BlockType::q5_0: return use.template operator()<BlockType::q5_0>();
        case BlockType::q5_1: return use.template operator()<BlockType::q5_1>();
        case BlockType::q8_0: return use.template operator()<BlockType::q8_0>();
        case BlockType::q2_k: return use.template operator()<BlockType::q2_k>();
        case BlockType::q3_k: return use.template operator()<BlockType::q3_k>();
        case BlockType::q4_k: return use.template operator()<BlockType::q4_k>();
        case BlockType::q5_k: return use.template operator()<BlockType::q5_k>();
        case BlockType::q6_k: return use.template operator()<BlockType::q6_k>();
        case BlockType::q8_k: return use.template operator()<BlockType::q8_k>();
        case BlockType::iq4_nl: return use.template operator()<BlockType::iq4_nl>();
        case BlockType::iq4_xs: return use.template operator()<BlockType::iq4_xs>();
        case BlockType::mxfp4: return use.template operator()<BlockType::mxfp4>();
        case BlockType::nvfp4: return use.template operator()<BlockType::nvfp4>();
        case BlockType::tq1_0: return use.template operator()<BlockType::tq1_0>();
        case BlockType::tq2_0: return use.template operator()<BlockType::tq2_0>();
        case BlockType::q1_0: return use.template operator()<BlockType::q1_0>();
        default: return use.template operator()<BlockType::q2_0>();
    }
}

/// The codes of a block, one per weight. `codes`: block elements.
inline void unpack_codes(BlockType type, const std::uint8_t* block, std::uint8_t* codes) noexcept {
    with_type(type, [&]<BlockType Type>() {
        detail::each_sixteen<Type>(block, [&](std::size_t i, auto sixteen) {
            fewbit::detail::store_bytes(sixteen.first, codes + i);
            fewbit::detail::store_bytes(sixteen.second, codes + i + 8);
        });
    });
}

}  // namespace fewbit::inline v0::ggml
