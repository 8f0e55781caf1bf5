// What the encoders ask of lanes: one job over many groups. A job is the same for every lane type, and gives the same
// numbers with each. Kernel files include this header, so it holds plain structs only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fewbit::inline v0::ggml::detail {

// clang-format off
enum class LaneTask : std::uint8_t {
    squares,    ///< scale[g] = sum x^2 in index order, any n that 4 divides
    affine,     ///< fit_affine: scale, offset (what is subtracted), weight_sums, codes
    symmetric,  ///< fit_symmetric: scale, weight_sums, codes
    q3,         ///< fit_q3: scale, codes
    positive,   ///< fit_positive: scale, codes
    iq4,        ///< fit_iq4: scale
    round,      ///< codes under given scale and offset; groups of scale 0 keep theirs
    round_iq4,  ///< codes under given inverse scales (in scale)
    to_end,     ///< q4_0, q5_0: halves, codes
    range,      ///< q4_1, q5_1: halves, codes
    q8_0,       ///< halves, codes (signed bytes)
};
/// Weights of the errors that a search sums up; v: spread[g].
enum class Weighing : std::uint8_t {
    squares,            ///< x^2
    magnitude,          ///< v + |x|
    importance,         ///< importance
    spread_importance,  ///< importance * sqrt(v + x^2)
};
// clang-format on

/// What fit_affine tries after the plain range: inverse scales (first + step k + most) / range, k = 0 ..
/// steps, each followed by the least-squares scale and minimum for its codes.
struct AffineSearch {
    float first, step;
    int steps;
    bool square;  ///< error in squares, else in magnitudes
};

/// Groups lie one after another; so do their codes, one byte each, stride n.
struct LaneJob {
    LaneTask task{};
    std::size_t groups = 0;
    std::size_t n = 0;         ///< weights of a group: 8, 16 or 32
    const float* x = nullptr;  ///< (groups, n)
    int most = 0;              ///< the last code; of symmetric grids, the one that stands for 0
    Weighing weighing = Weighing::squares;
    const float* importance = nullptr;  ///< (groups, n)
    const float* spread = nullptr;      ///< (groups)
    AffineSearch search{};
    int zero = 0;  ///< round: the code of 0
    float* scale = nullptr;
    float* offset = nullptr;
    float* weight_sums = nullptr;  ///< nullptr: nobody asks
    std::uint8_t* codes = nullptr;
    std::size_t code_stride = 0;     ///< bytes from the codes of a group to those of the next
    bool nibbles = false;            ///< two codes a byte: j and n / 2 + j
    std::uint8_t* halves = nullptr;  ///< blocks that begin with the scale (and the offset) as f16
    std::size_t half_stride = 0;     ///< bytes of a block
};

/// One build of the lanes.
using LaneCode = void (*)(const LaneJob&) noexcept;

}  // namespace fewbit::inline v0::ggml::detail
