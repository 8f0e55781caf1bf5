// How codes of tile16 become floats, for floats.hpp: level(vector, i, zero), the value of the i-th of K that a vector of a step
// (Steps) holds, in units of the scale.
//
// Bits of a code that stand at `place` of a mantissa whose exponent makes that place the unit are 2^(23 - place) + code: one
// subtraction, of that power and the zero point, gives code - zero exactly. No shift, no conversion.
#pragma once

#include "kernels/tile16/planes.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Integers that take `Stored` bits of the stream, read where vectors have them: 4 x 4 constants for fields of 4 bits.
template <class Lanes, int Stored>
class PlacedLevels {
public:
    using Steps = Planes<Lanes, Stored>;
    static constexpr int Bits = Steps::field, bias = 0;
    static constexpr bool has_words = false;

    /// What is subtracted at each place of the lower half of a word.
    static constexpr int places = 16 / Bits;
    struct Zero {
        typename Lanes::Floats minus[places];
    };

    explicit PlacedLevels(const WeightsView&) {}
    [[nodiscard]] float unit() const { return 1.0f; }

    [[nodiscard]] Zero zero(typename Lanes::Ints code) const {
        Zero out;
        const auto value = Lanes::to_floats(code);
#pragma GCC unroll 4
        for (int p = 0; p < places; ++p)
            out.minus[p] = Lanes::add(Lanes::as_floats(Lanes::set_bits(power(Bits * p))), value);
        return out;
    }
    template <int I>
    [[gnu::always_inline]] typename Lanes::Floats level(typename Lanes::Bytes vector,
                                                        const Zero& zero) const {
        // Of 4 bits: four low nibbles, then four high ones.
        constexpr int shift = Bits == 8 ? 8 * I : 8 * (I % 4) + 4 * (I / 4), place = shift % 16;
        const auto half = shift < 16 ? vector : Lanes::template shift_right<16>(vector);
        return Lanes::subtract(
            Lanes::as_floats(Lanes::and_or(half, Lanes::set_bits(((1 << Steps::bits) - 1) << place),
                                           Lanes::set_bits(power(place)))),
            zero.minus[place / Bits]);
    }

private:
    /// The bits of 2^(23 - place).
    static constexpr int power(int place) { return (127 + 23 - place) << 23; }
};

/// The same, converted: an operation more, but hardly a constant.
template <class Lanes, int Stored>
class ConvertedLevels {
public:
    using Steps = Planes<Lanes, Stored>;
    static constexpr int Bits = Steps::field, bias = 0;
    static constexpr bool has_words = false;
    struct Zero {
        typename Lanes::Ints code;
    };

    explicit ConvertedLevels(const WeightsView&) {}
    [[nodiscard]] float unit() const { return 1.0f; }
    [[nodiscard]] Zero zero(typename Lanes::Ints code) const { return {code}; }
    template <int I>
    [[gnu::always_inline]] typename Lanes::Floats level(typename Lanes::Bytes vector,
                                                        const Zero& zero) const {
        constexpr int shift = Bits == 8 ? 8 * I : 8 * (I % 4) + 4 * (I / 4);
        const auto code = Lanes::bit_and(Lanes::template shift_right<shift>(vector),
                                         Lanes::set_bits((1 << Steps::bits) - 1));
        return Lanes::to_floats(Lanes::subtract_ints(code, zero.code));
    }
};

template <class Lanes, int Stored>
using IntegerLevels =
    typename Either<Lanes::many_registers, PlacedLevels<Lanes, Stored>, ConvertedLevels<Lanes, Stored>>::Type;

/// What codes of `bits` stand for where all channels read them alike, in units of the scale, whatever stands above them in
/// fields of 4 bits.
inline void list_levels(const WeightsView& w, int bits, float (&out)[16]) {
    for (int field = 0; field < 16; ++field) {
        const int code = field & ((1 << bits) - 1);
        out[field] = w.kind == Codes::table ? w.table[code]
                                            : static_cast<float>(code - (w.has_offsets ? 0 : w.middle_code));
    }
}

/// Places in a table of 16, which take `Stored` bits of the stream.
template <class Lanes, int Stored = 4>
class TableLevels {
public:
    using Steps = Planes<Lanes, Stored>;
    static constexpr int bias = 0;
    static constexpr bool has_words = false;
    struct Zero {};

    explicit TableLevels(const WeightsView& w) {
        float levels[16];
        list_levels(w, Steps::bits, levels);
        table_ = Lanes::load_table(levels);
    }
    [[nodiscard]] float unit() const { return 1.0f; }
    [[nodiscard]] Zero zero(typename Lanes::Ints) const { return {}; }
    template <int I>
    [[gnu::always_inline]] typename Lanes::Floats level(typename Lanes::Bytes vector, const Zero&) const {
        return Lanes::template find<8 * (I % 4) + 4 * (I / 4)>(table_, vector);
    }

private:
    typename Lanes::Table table_;
};

/// Words of two bf16 from codes of 4 bits that all channels read alike: one lookup of 16 bits for both, whatever else stands
/// beside the codes.
template <class Lanes, int Stored>
class FoundWords {
public:
    using Steps = Planes<Lanes, Stored>;
    static constexpr int bias = 0;
    static constexpr bool has_words = true;
    struct Zero {};

    explicit FoundWords(const WeightsView& w) {
        float levels[16];
        list_levels(w, Steps::bits, levels);
        table_ = Lanes::load_pairs(levels);
    }
    [[nodiscard]] float unit() const { return 1.0f; }
    [[nodiscard]] Zero zero(typename Lanes::Ints) const { return {}; }
    template <int Word>
    [[gnu::always_inline]] typename Lanes::Floats word(typename Lanes::Bytes vector) const {
        return Lanes::template find_pairs<8 * (Word % 2) + 4 * (Word / 2)>(table_, vector);
    }

private:
    typename Lanes::Bytes table_;
};

/// fp8 with `Mantissa` bits below the point and the exponent's `Bias`. Magnitudes from `Special` on, in units of the code,
/// are infinity and NaN. The bits of a code are moved to where an f32 has its own.
template <class Lanes, int Mantissa, int Bias, int Special, bool HasInfinity>
class Float8Levels {
public:
    using Steps = Planes<Lanes, 8>;
    static constexpr int bias = 0;
    static constexpr bool has_words = false;
    struct Zero {};

    explicit Float8Levels(const WeightsView&) {}
    [[nodiscard]] float unit() const { return 1.0f; }
    [[nodiscard]] Zero zero(typename Lanes::Ints) const { return {}; }
    template <int I>
    [[gnu::always_inline]] typename Lanes::Floats level(typename Lanes::Bytes vector, const Zero&) const {
        const auto top = Lanes::template shift_left<24 - 8 * I>(vector);  // the code's sign is the word's
        const auto magnitude = Lanes::bit_and(Lanes::template shift_right<1 + Mantissa>(top),
                                              Lanes::set_bits(0x7F << (23 - Mantissa)));
        const auto normal = Lanes::add(magnitude, Lanes::set_bits((127 - Bias) << 23));
        // Subnormals: 2^(1 - Bias) (1 + m) - 2^(1 - Bias), so that no f32 subnormal arises.
        const auto first = Lanes::set_bits((128 - Bias) << 23);
        const auto subnormal =
            Lanes::subtract(Lanes::as_floats(Lanes::add(magnitude, first)), Lanes::as_floats(first));
        const auto value = Lanes::select_below(magnitude, 1 << 23, Lanes::as_bits(subnormal), normal);
        const auto sign = Lanes::bit_and(top, Lanes::set_bits(static_cast<int>(0x80000000u)));
        return Lanes::as_floats(Lanes::or_from(Lanes::bit_or(value, sign), magnitude,
                                               Special << (23 - Mantissa),
                                               HasInfinity ? 0x7F800000 : 0x7FC00000));
    }
};

template <class Lanes>
using E4m3Levels = Float8Levels<Lanes, 3, 7, 0x7F, false>;
template <class Lanes>
using E5m2Levels = Float8Levels<Lanes, 2, 15, 0x7C, true>;

}  // namespace
}  // namespace fewbit::inline v0::kernels
