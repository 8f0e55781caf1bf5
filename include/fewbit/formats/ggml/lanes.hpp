// Lanes: floats that go through the same steps side by side, each with the arithmetic of one float. The searches
// of ggml's encoders are written over a lane type; lane l works on group l, so that every sum keeps its order.
//
//   One           one float, for every compiler
//   Four          a vector of the compiler (GCC, clang), compiled for whatever the target has
//   Pair<V>       two of a type, whose chains of additions hide each other's latency
//
// kernels/encode has wider ones. A lane type has what One has. min and max give the second argument unless the first
// is smaller or larger. Kernel files include this header: everything here must vanish in templates over their types.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fewbit/core/scalar.hpp"

namespace fewbit::inline v0::ggml::detail {

/// v + 1.5 * 2^23 has the integer nearest to v, ties to even, in its low 22 bits.
inline constexpr float shift_of_nearest = 12582912.0f;
inline constexpr std::uint32_t mantissa_mask = 0x007FFFFF, exponent_of_shift = 0x4B000000;

struct One {
    static constexpr std::size_t lanes = 1;
    using Part = One;  ///< what holds neighbours of a row
    struct Mask {
        bool v;
        friend Mask operator&(Mask a, Mask b) { return {a.v && b.v}; }
    };
    float v;

    One() = default;
    One(float value) : v(value) {}

    [[nodiscard]] static One load(const float* p) { return *p; }
    void store(float* p) const { *p = v; }
    void store_halves(std::uint16_t* p) const { *p = f16_from_float(v); }
    /// out[j] lane l = row(l)[j], j < 4.
    template <class Row>
    static void load4(Row row, One* out) {
        for (std::size_t j = 0; j < 4; ++j) out[j].v = row(0)[j];
    }
    /// rows[l][first + j] = the low byte of lane l of codes[j] without its fraction, j < 4.
    static void store4(const One* codes, std::uint8_t* const* rows, std::size_t first) {
        for (std::size_t j = 0; j < 4; ++j)
            rows[0][first + j] = static_cast<std::uint8_t>(static_cast<std::int32_t>(codes[j].v));
    }

    /// `count` x lanes weights of one row, as store4 does.
    static void store_row(const One* codes, std::size_t count, std::uint8_t* out) {
        for (std::size_t i = 0; i < count; ++i)
            out[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(codes[i].v));
    }

    friend One operator+(One a, One b) { return a.v + b.v; }
    friend One operator-(One a, One b) { return a.v - b.v; }
    friend One operator*(One a, One b) { return a.v * b.v; }
    friend One operator/(One a, One b) { return a.v / b.v; }
    friend Mask operator<(One a, One b) { return {a.v < b.v}; }
    friend Mask operator<=(One a, One b) { return {a.v <= b.v}; }
    friend Mask operator==(One a, One b) { return {a.v == b.v}; }
    friend Mask operator!=(One a, One b) { return {a.v != b.v}; }
    friend One select(Mask mask, One a, One b) { return mask.v ? a : b; }
    friend bool any(Mask mask, One) { return mask.v; }
    friend One min(One a, One b) { return a.v < b.v ? a : b; }
    friend One max(One a, One b) { return b.v < a.v ? a : b; }
    friend One abs(One a) { return std::fabs(a.v); }
    friend One copysign(One a, One sign) { return std::copysign(a.v, sign.v); }
    friend One sqrt(One a) { return std::sqrt(a.v); }
    /// To the nearest integer: right for |v| < 2^22; beyond it what the low bits say, as in the reference:
    /// infinities give -2^22, NaN 0.
    friend One nearest(One a) {
        const std::uint32_t low = bits(a.v + shift_of_nearest) & mantissa_mask;
        float shifted;
        const std::uint32_t whole = low | exponent_of_shift;
        std::memcpy(&shifted, &whole, 4);
        return shifted - shift_of_nearest;
    }
    /// Toward zero, for |v| < 2^22.
    friend One truncate(One a) { return static_cast<float>(static_cast<std::int32_t>(a.v)); }

private:
    static std::uint32_t bits(float value) {
        std::uint32_t result;
        std::memcpy(&result, &value, 4);
        return result;
    }
};

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FEWBIT_HAS_FOUR 1
#endif
#endif

#if defined(FEWBIT_HAS_FOUR)
struct Four {
    static constexpr std::size_t lanes = 4;
    using Part = Four;
    using Floats = float __attribute__((vector_size(16)));
    using Bits = std::int32_t __attribute__((vector_size(16)));
    using Mask = Bits;
    Floats v;

    Four() = default;
    Four(Floats value) : v(value) {}
    Four(float value) : v{value, value, value, value} {}

    [[nodiscard]] static Four load(const float* p) {
        Four result;
        std::memcpy(&result.v, p, 16);
        return result;
    }
    void store(float* p) const { std::memcpy(p, &v, 16); }
    void store_halves(std::uint16_t* p) const {
        for (std::size_t l = 0; l < lanes; ++l) p[l] = f16_from_float(v[l]);
    }
    template <class Row>
    static void load4(Row row, Four* out) {
        const Floats a = load(row(0)).v, b = load(row(1)).v, c = load(row(2)).v, d = load(row(3)).v;
        const Floats ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                     cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        const Floats AB = __builtin_shufflevector(a, b, 2, 6, 3, 7),
                     CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        out[0] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
        out[1] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        out[2] = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
        out[3] = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
    }
    static void store4(const Four* codes, std::uint8_t* const* rows, std::size_t first) {
        for (std::size_t j = 0; j < 4; ++j) {
            const Bits each = __builtin_convertvector(codes[j].v, Bits);
            for (std::size_t l = 0; l < 4; ++l) rows[l][first + j] = static_cast<std::uint8_t>(each[l]);
        }
    }

    static void store_row(const Four* codes, std::size_t count, std::uint8_t* out) {
        for (std::size_t i = 0; i < count; ++i) {
            const Bits each = __builtin_convertvector(codes[i].v, Bits);
            for (std::size_t l = 0; l < lanes; ++l) out[lanes * i + l] = static_cast<std::uint8_t>(each[l]);
        }
    }

    friend Four operator+(Four a, Four b) { return a.v + b.v; }
    friend Four operator-(Four a, Four b) { return a.v - b.v; }
    friend Four operator*(Four a, Four b) { return a.v * b.v; }
    friend Four operator/(Four a, Four b) { return a.v / b.v; }
    friend Mask operator<(Four a, Four b) { return a.v < b.v; }
    friend Mask operator<=(Four a, Four b) { return a.v <= b.v; }
    friend Mask operator==(Four a, Four b) { return a.v == b.v; }
    friend Mask operator!=(Four a, Four b) { return a.v != b.v; }
    friend Four select(Mask mask, Four a, Four b) {
        return std::bit_cast<Floats>((std::bit_cast<Bits>(a.v) & mask) | (std::bit_cast<Bits>(b.v) & ~mask));
    }
    friend bool any(Mask mask, Four) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }
    friend Four min(Four a, Four b) { return a.v < b.v ? a.v : b.v; }
    friend Four max(Four a, Four b) { return b.v < a.v ? a.v : b.v; }
    friend Four abs(Four a) { return std::bit_cast<Floats>(std::bit_cast<Bits>(a.v) & 0x7FFFFFFF); }
    friend Four copysign(Four a, Four sign) {
        return std::bit_cast<Floats>(std::bit_cast<Bits>(abs(a).v) |
                                     (std::bit_cast<Bits>(sign.v) & INT32_MIN));
    }
    friend Four sqrt(Four a) {
        return Floats{std::sqrt(a.v[0]), std::sqrt(a.v[1]), std::sqrt(a.v[2]), std::sqrt(a.v[3])};
    }
    friend Four nearest(Four a) {
        const Bits low =
            std::bit_cast<Bits>(a.v + shift_of_nearest) & static_cast<std::int32_t>(mantissa_mask);
        return std::bit_cast<Floats>(low | static_cast<std::int32_t>(exponent_of_shift)) - shift_of_nearest;
    }
    friend Four truncate(Four a) {
        return __builtin_convertvector(__builtin_convertvector(a.v, Bits), Floats);
    }
};
#endif

template <class V>
struct Pair {
    static constexpr std::size_t lanes = 2 * V::lanes;
    using Part = V;
    struct Mask {
        typename V::Mask a, b;
        friend Mask operator&(Mask x, Mask y) { return {x.a & y.a, x.b & y.b}; }
    };
    V a, b;

    Pair() = default;
    Pair(V first, V second) : a(first), b(second) {}
    Pair(float value) : a(value), b(value) {}

    [[nodiscard]] static Pair load(const float* p) { return {V::load(p), V::load(p + V::lanes)}; }
    void store(float* p) const {
        a.store(p);
        b.store(p + V::lanes);
    }
    void store_halves(std::uint16_t* p) const {
        a.store_halves(p);
        b.store_halves(p + V::lanes);
    }
    template <class Row>
    static void load4(Row row, Pair* out) {
        V low[4], high[4];
        V::load4(row, low);
        V::load4([&](std::size_t l) { return row(V::lanes + l); }, high);
        for (std::size_t j = 0; j < 4; ++j) out[j] = {low[j], high[j]};
    }
    static void store4(const Pair* codes, std::uint8_t* const* rows, std::size_t first) {
        const V low[4]{codes[0].a, codes[1].a, codes[2].a, codes[3].a};
        const V high[4]{codes[0].b, codes[1].b, codes[2].b, codes[3].b};
        V::store4(low, rows, first);
        V::store4(high, rows + V::lanes, first);
    }

    friend Pair operator+(Pair x, Pair y) { return {x.a + y.a, x.b + y.b}; }
    friend Pair operator-(Pair x, Pair y) { return {x.a - y.a, x.b - y.b}; }
    friend Pair operator*(Pair x, Pair y) { return {x.a * y.a, x.b * y.b}; }
    friend Pair operator/(Pair x, Pair y) { return {x.a / y.a, x.b / y.b}; }
    friend Mask operator<(Pair x, Pair y) { return {x.a < y.a, x.b < y.b}; }
    friend Mask operator<=(Pair x, Pair y) { return {x.a <= y.a, x.b <= y.b}; }
    friend Mask operator==(Pair x, Pair y) { return {x.a == y.a, x.b == y.b}; }
    friend Mask operator!=(Pair x, Pair y) { return {x.a != y.a, x.b != y.b}; }
    friend Pair select(Mask mask, Pair x, Pair y) {
        return {select(mask.a, x.a, y.a), select(mask.b, x.b, y.b)};
    }
    friend bool any(Mask mask, Pair x) { return any(mask.a, x.a) || any(mask.b, x.b); }
    friend Pair min(Pair x, Pair y) { return {min(x.a, y.a), min(x.b, y.b)}; }
    friend Pair max(Pair x, Pair y) { return {max(x.a, y.a), max(x.b, y.b)}; }
    friend Pair abs(Pair x) { return {abs(x.a), abs(x.b)}; }
    friend Pair copysign(Pair x, Pair y) { return {copysign(x.a, y.a), copysign(x.b, y.b)}; }
    friend Pair sqrt(Pair x) { return {sqrt(x.a), sqrt(x.b)}; }
    friend Pair nearest(Pair x) { return {nearest(x.a), nearest(x.b)}; }
    friend Pair truncate(Pair x) { return {truncate(x.a), truncate(x.b)}; }
};

}  // namespace fewbit::inline v0::ggml::detail
