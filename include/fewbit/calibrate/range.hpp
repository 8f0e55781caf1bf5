// Range: the interval that observers find in activations, and the scale and zero point of a static grid over
// it.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"

namespace fewbit::inline v0 {

struct Range {
    float min = 0;
    float max = 0;

    friend bool operator==(const Range&, const Range&) = default;
};

/// value = scale * (code - zero), codes from min_code to max_code.
struct ScaleZero {
    float scale = 0;
    int zero = 0;
    int min_code = 0;
    int max_code = 0;

    friend bool operator==(const ScaleZero&, const ScaleZero&) = default;
};

/// The f32 grid of `bits` (2..8) over a range, for static activations (Jacob et al. 2018).
/// symmetric: signed codes -(2^(b-1) - 1) .. 2^(b-1) - 1, zero 0, scale = absmax / (2^(b-1) - 1): never
/// -2^(b-1), which int16 accumulators could not take. asymmetric: codes 0 .. 2^b - 1, the range widened to
/// contain 0, scale = (max - min) / (2^b - 1), zero = round(-min / scale) clamped to the codes. A range of
/// {0, 0} gives scale 0. Errors: bits; a range that is not finite, reversed, or wider than f32 can say.
[[nodiscard]] FEWBIT_API Result<ScaleZero> parameters_for(Range range, int bits, bool symmetric);

/// Error when x holds NaN or infinity: "tensor 'x': 3 of 4096 activations are not finite; the first is [2,
/// 5], NaN".
[[nodiscard]] FEWBIT_API Result<void> check_activations(MatrixView<const float> x, std::string_view tensor);

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/calibrate/range_impl.hpp"
#endif
