// Steps of the stream as vectors of fields of 4 or 8 bits: 64 bytes as they are, or the planes that codes of 2, 3, 5 and 6
// bits lie in (drawn in fewbit/pack/tile16_codes.hpp). Whatever reads codes reads them through here.
#pragma once

#include "kernels/tile16/panels.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Codes of `Bits` bits. `vectors` of fields of `field` bits hold step_elements of K; read() loads what register c of
/// a tile's channels needs of a step by load(address), and vector<V>() makes a vector of it. Fields of 4 bits have anything
/// above their code: who takes them out masks them anyway.
template <class Lanes, int Bits>
struct Planes {
    using Bytes = typename Lanes::Bytes;
    static constexpr int bits = Bits, field = Bits <= 4 ? 4 : 8;
    static constexpr int quads = 8 / field;    ///< fours of K in a vector
    static constexpr int vectors = 4 / quads;  ///< of a step
    static constexpr int nibbles = Bits > 4 ? 2 : 0, twos = Bits % 4 >= 2 ? 1 : 0, ones = Bits % 2;
    static constexpr std::size_t step_elements = 16, step_bytes = 32 * Bits;

    struct Step {
        Bytes nibbles[2], twos, ones;
    };
    [[gnu::always_inline]] static Step read(const std::uint8_t* step, int c, auto load) {
        Step out;
        const std::uint8_t* const at = step + c * static_cast<int>(Lanes::register_bytes);
        if constexpr (nibbles != 0) {
            out.nibbles[0] = load(at);
            out.nibbles[1] = load(at + vector_bytes);
        }
        if constexpr (twos != 0) out.twos = load(at + nibbles * vector_bytes);
        if constexpr (ones != 0) {
            // Of the bits of fours j and j + 2 in a byte, the latter belong 16 bits on.
            const Bytes halves = Lanes::load_words(step + (nibbles + twos) * vector_bytes +
                                                   c * static_cast<int>(Lanes::register_bytes / 2));
            out.ones = Lanes::bit_or(halves, Lanes::template shift_left<14>(halves));
        }
        return out;
    }
    template <int V>
    [[gnu::always_inline]] static Bytes vector(const Step& step) {
        if constexpr (Bits == 2) {
            return shifted<-2 * V>(step.twos);
        } else if constexpr (Bits == 3) {
            return Lanes::either(set(0x33), shifted<-2 * V>(step.twos), shifted<2 - V>(step.ones));
        } else {
            const Bytes low = shifted<V % 2 * -4>(step.nibbles[V / 2]);
            if constexpr (Bits == 5) {
                constexpr int up = 4 - V % 2 * 4 - V / 2;
                return masked(Lanes::either(set(0x0F), low, shifted<up>(step.ones)), 0x1F);
            } else {
                constexpr int up = 4 - V % 2 * 4 - V / 2 * 2;
                return masked(Lanes::either(set(0x0F), low, shifted<up>(step.twos)), 0x3F);
            }
        }
    }

private:
    static_assert(Bits == 2 || Bits == 3 || Bits == 5 || Bits == 6);

    static Bytes set(int byte) { return Lanes::set_bits(byte * 0x01010101); }
    static Bytes masked(Bytes v, int byte) { return Lanes::bit_and(v, set(byte)); }
    /// To the left by `Up`. (Bits that cross into another byte are masked by what follows.)
    template <int Up>
    static Bytes shifted(Bytes v) {
        if constexpr (Up > 0)
            return Lanes::template shift_left<Up>(v);
        else if constexpr (Up < 0)
            return Lanes::template shift_right<-Up>(v);
        else
            return v;
    }
};

/// Fields of 4 and 8 bits, as they stand.
template <class Lanes, int Bits>
struct Fields {
    using Bytes = typename Lanes::Bytes;
    using Step = Bytes;
    static constexpr int bits = Bits, field = Bits, quads = 8 / Bits, vectors = 1;
    static constexpr std::size_t step_elements = 32 / Bits, step_bytes = vector_bytes;

    [[gnu::always_inline]] static Step read(const std::uint8_t* step, int c, auto load) {
        return load(step + c * static_cast<int>(Lanes::register_bytes));
    }
    template <int>
    [[gnu::always_inline]] static Bytes vector(const Step& step) {
        return step;
    }
};
template <class Lanes>
struct Planes<Lanes, 4> : Fields<Lanes, 4> {};
template <class Lanes>
struct Planes<Lanes, 8> : Fields<Lanes, 8> {};

/// use(Constant of the bits that a code takes in the stream).
void with_field_bits(int bits, auto&& use) {
    switch (bits) {
        case 2: return use(Constant<2>{});
        case 3: return use(Constant<3>{});
        case 4: return use(Constant<4>{});
        case 5: return use(Constant<5>{});
        case 6: return use(Constant<6>{});
        default: return use(Constant<8>{});
    }
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
