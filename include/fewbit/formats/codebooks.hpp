// Codebooks: grids whose values are no multiples of one step. A code u stands for scale * table[u].
//
//   nf4        4 bits  quantiles of a normal distribution, -1 .. 1 (QLoRA, arXiv 2305.14314, appendix E)
//   e2m1       4 bits  a float: sign, 2 of exponent, 1 of mantissa: 0 0.5 1 1.5 2 3 4 6, then their negatives
//   iq4        4 bits  ggml's IQ4 table, integers -127 .. 113
//   fp8_e4m3   8 bits  a float, largest 448 (codes 0x7F and 0xFF are NaN and are never chosen)
//   fp8_e5m2   8 bits  a float, largest 57344 (0x7C..0x7F, 0xFC..0xFF are infinity and NaN, never chosen)
//
// Products with integer activations read tables of 16 entries as integers of 8 bits: exact for e2m1 and iq4;
// nf4 is within 0.0039 of its values (RMS 0.0017).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "fewbit/core/scalar.hpp"
#include "fewbit/formats/ggml/types.hpp"

namespace fewbit::inline v0::codebooks {

inline constexpr std::size_t small_entries = 16;  ///< of 4-bit codebooks

using SmallTable = std::array<float, small_entries>;
using LargeTable = std::array<float, 256>;

inline constexpr SmallTable nf4{-1.0f,
                                -0.6961928009986877f,
                                -0.5250730514526367f,
                                -0.39491748809814453f,
                                -0.28444138169288635f,
                                -0.18477343022823334f,
                                -0.09105003625154495f,
                                0.0f,
                                0.07958029955625534f,
                                0.16093020141124725f,
                                0.24611230194568634f,
                                0.33791524171829224f,
                                0.44070982933044434f,
                                0.5626170039176941f,
                                0.7229568362236023f,
                                1.0f};
inline constexpr SmallTable e2m1{0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                 -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
inline constexpr SmallTable iq4 = ggml::iq4_codebook;

namespace detail {
template <class Decode>
[[nodiscard]] constexpr LargeTable table_of(Decode decode) noexcept {
    LargeTable table{};
    for (std::size_t u = 0; u < table.size(); ++u) table[u] = decode(static_cast<std::uint8_t>(u));
    return table;
}
}  // namespace detail

inline constexpr LargeTable fp8_e4m3 = detail::table_of(float_from_fp8_e4m3);
inline constexpr LargeTable fp8_e5m2 = detail::table_of(float_from_fp8_e5m2);

/// A table of 16 as products with integer activations read it: value = unit * level.
struct IntegerTable {
    std::array<std::int8_t, small_entries> levels;
    float unit;
};

inline constexpr IntegerTable nf4_levels{
    {-112, -78, -59, -44, -32, -21, -10, 0, 9, 18, 28, 38, 49, 63, 81, 112},
    static_cast<float>(1 / 112.03)};  // of all units the one with the least squared error over the 16 values
inline constexpr IntegerTable e2m1_levels{{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}, 0.5f};
inline constexpr IntegerTable iq4_levels{
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}, 1.0f};

}  // namespace fewbit::inline v0::codebooks
