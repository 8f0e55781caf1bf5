// The grid of one group: which scale and zero (or offset) serve weights between min and max, in their stored
// types. Every method that rounds to a grid (rtn, mse, hqq, gptq, awq) takes its grids from here.
//
//   symmetric   scale = 2 absmax / (2^b - 1)       all 2^b codes (GPTQ's symmetric grid)
//   narrow      scale = absmax / (2^(b-1) - 1)     2^b - 1 codes
//   integer     scale = (max - min) / (2^b - 1), zero = round(-min / scale)     [min, max] widened to contain 0
//   real        offset = min rounded down, scale = (max - offset) / (2^b - 1)
//   codebook    the smallest scale with which the table spans [min, max]; with scales of e8m0 the power of two
//               2^(floor(log2 absmax) - floor(log2 largest value)), which may clip (OCP MX 1.0); of nf4, whose largest
//               value is 1, the smallest power that spans
//
// Rounding: to nearest, but the scale up where it is subnormal in its type (doubly quantized: less than 16 of its
// row's power of two) and the offset always down: a grid that covers too little clips. zero and codes are chosen
// from the rounded values. docs/decisions/0003 and 0011 have the reasons.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/quantize/group_grid.hpp"

namespace fewbit::inline v0 {

/// The grid for weights in [min, max] (finite, min <= max; from Jacob et al. 2018 and GPTQ's quant.py). A
/// constant group (min = max) of integers gets scale |c| and a code of +-1, which is as exact as the scale's type
/// allows. `shrink` in (0, 1] clips: it multiplies absmax or [min, max]; with a real offset it shrinks around the
/// middle. `row_scale`: fit_row_scale() of the row where scales are doubly quantized, else not read. Precondition:
/// integers or a codebook. Error: a scale, offset or decoded value that overflows its type.
[[nodiscard]] FEWBIT_API Result<GroupGrid> fit_grid(const Format& format, float min, float max,
                                                    double shrink = 1.0, float row_scale = 0.0f);

/// The power of two that doubly quantized scales of this row count: the smallest one of which 255 reach the scale of
/// every group. Error: a scale that f32 cannot hold.
[[nodiscard]] FEWBIT_API Result<float> fit_row_scale(const Format& format, std::span<const float> row);

/// Nearest code of each weight: of integers clamp(round((w - offset) / scale) + zero), of codebooks that of the
/// value closest to w / scale; of two equally close ones the even code. w / scale is rounded to a double once,
/// which leaves ties exact. codes.size() == weights.size(); weights finite.
FEWBIT_API void encode(const Format& format, const GroupGrid& grid, std::span<const float> weights,
                       std::span<std::uint8_t> codes);

/// What a code stands for, with the roundings of QuantizedMatrix::dequantize.
[[nodiscard]] FEWBIT_API float decode(const Format& format, const GroupGrid& grid, int code);

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/quantize/grid_impl.hpp"
#endif
