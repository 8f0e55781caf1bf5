// Words of 64 bits of four rows at once: what eight_codes.hpp and packing do with a word of one row, they do with these, in
// vectors of the compiler of 16 bytes, which every 64-bit CPU has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fewbit/formats/eight_codes.hpp"

namespace fewbit::inline v0::detail {

struct FourWords {
    typedef std::uint64_t Pair __attribute__((vector_size(16)));
    Pair low, high;

    friend FourWords operator&(FourWords a, std::uint64_t mask) noexcept {
        return {a.low & mask, a.high & mask};
    }
    friend FourWords operator^(FourWords a, std::uint64_t mask) noexcept {
        return {a.low ^ mask, a.high ^ mask};
    }
    friend FourWords operator+(FourWords a, std::uint64_t b) noexcept { return {a.low + b, a.high + b}; }
    friend FourWords operator|(FourWords a, FourWords b) noexcept { return {a.low | b.low, a.high | b.high}; }
    friend FourWords operator^(FourWords a, FourWords b) noexcept { return {a.low ^ b.low, a.high ^ b.high}; }
    friend FourWords operator+(FourWords a, FourWords b) noexcept { return {a.low + b.low, a.high + b.high}; }
    friend FourWords operator<<(FourWords a, int bits) noexcept {
        const auto by = static_cast<std::uint64_t>(bits);
        return {a.low << by, a.high << by};
    }
    friend FourWords operator>>(FourWords a, int bits) noexcept {
        const auto by = static_cast<std::uint64_t>(bits);
        return {a.low >> by, a.high >> by};
    }
};

/// Elements of a, and behind them of b, in another order.
template <int... Places, class Vector>
[[nodiscard]] inline Vector shuffled(Vector a, Vector b) noexcept {
#if defined(__clang__) || (__GNUC__ >= 12 && !defined(__CUDACC__))
    return __builtin_shufflevector(a, b, Places...);
#else
    return __builtin_shuffle(a, b, Vector{Places...});
#endif
}

/// A byte of each word in all eight of it.
[[nodiscard]] inline FourWords in_all_bytes(FourWords x) noexcept {
    x = x | x << 8;
    x = x | x << 16;
    return x | x << 32;
}

/// A place in each of four rows that begin `stride` bytes apart.
struct FourRows {
    const std::uint8_t* first;
    std::size_t stride;

    friend FourRows operator+(FourRows rows, std::size_t bytes) noexcept {
        return {rows.first + bytes, rows.stride};
    }
};

[[nodiscard]] inline FourWords load_bytes(FourRows p, std::size_t count) noexcept {
    const auto word = [&](std::size_t row) { return load_bytes(p.first + row * p.stride, count); };
    return {FourWords::Pair{word(0), word(1)}, FourWords::Pair{word(2), word(3)}};
}
template <std::size_t Count>
[[nodiscard]] inline FourWords load_bytes(FourRows p) noexcept {
    const auto word = [&](std::size_t row) { return load_bytes<Count>(p.first + row * p.stride); };
    return {FourWords::Pair{word(0), word(1)}, FourWords::Pair{word(2), word(3)}};
}
[[nodiscard]] inline FourWords load_bytes(FourRows p) noexcept {
    const auto word = [&](std::size_t row) { return load_bytes(p.first + row * p.stride); };
    return {FourWords::Pair{word(0), word(1)}, FourWords::Pair{word(2), word(3)}};
}

}  // namespace fewbit::inline v0::detail
