// SplitMix64 (Steele, Lea and Flood 2014): random numbers that are the same on every platform, which those of
// <random>'s distributions are not. For seeds, synthetic data and sampling; not for secrets.
#pragma once

#include <cstdint>

#include "fewbit/core/config.hpp"

namespace fewbit::inline v0 {

inline constexpr std::uint64_t splitmix_step = 0x9E3779B97F4A7C15u;

/// The finalizer: a bijection in which every input bit reaches every output bit.
[[nodiscard]] constexpr std::uint64_t splitmix_mixed(std::uint64_t z) noexcept {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/// The next number of the sequence that `state` stands in.
[[nodiscard]] constexpr std::uint64_t splitmix_next(std::uint64_t& state) noexcept {
    return splitmix_mixed(state += splitmix_step);
}

/// 53 bits as a number in [0, 1), and in (0, 1], of which logarithms may be taken.
[[nodiscard]] constexpr double unit_interval(std::uint64_t bits) noexcept {
    return static_cast<double>(bits >> 11) * 0x1p-53;
}
[[nodiscard]] constexpr double positive_unit_interval(std::uint64_t bits) noexcept {
    return static_cast<double>((bits >> 11) + 1) * 0x1p-53;
}

}  // namespace fewbit::inline v0
