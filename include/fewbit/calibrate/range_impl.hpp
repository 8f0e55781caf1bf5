// Definitions of range.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "fewbit/calibrate/range.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0 {
namespace detail {

/// How error sentences about saved statistics begin.
[[nodiscard]] inline std::string statistics_of(std::string_view tensor) {
    return tensor.empty() ? std::string() : text("statistics of '", tensor, "': ");
}

}  // namespace detail

FEWBIT_INLINE Result<ScaleZero> parameters_for(Range range, int bits, bool symmetric) {
    if (bits < 2 || bits > 8)
        return fail(ErrorKind::unsupported, "static activations of ", bits,
                    " bits are not supported; 2 to 8 are");
    if (!std::isfinite(range.min) || !std::isfinite(range.max) || range.min > range.max)
        return fail(ErrorKind::bad_input, "[", range.min, ", ", range.max, "] is not a range of activations");
    const double low = std::min<double>(range.min, 0), high = std::max<double>(range.max, 0);
    ScaleZero result;
    double scale = 0;
    if (symmetric) {
        result.max_code = (1 << (bits - 1)) - 1;
        result.min_code = -result.max_code;
        scale = std::max(-low, high) / result.max_code;
    } else {
        result.max_code = (1 << bits) - 1;
        scale = (high - low) / result.max_code;
    }
    // A tiny range may round to scale 0; the smallest f32 keeps what was not zero from becoming a division by
    // zero.
    result.scale =
        scale > 0 ? std::max(static_cast<float>(scale), std::numeric_limits<float>::denorm_min()) : 0.0f;
    if (!std::isfinite(result.scale))
        return fail(ErrorKind::bad_input, "[", range.min, ", ", range.max, "] is too wide for f32 scales");
    if (!symmetric && result.scale > 0) {
        constexpr double shift =
            6755399441055744.0;  // adding 1.5 * 2^52 rounds to a whole number, ties to even
        const double zero = (-low / static_cast<double>(result.scale) + shift) - shift;
        result.zero = static_cast<int>(std::clamp<double>(zero, 0, result.max_code));
    }
    return result;
}

FEWBIT_INLINE Result<void> check_activations(MatrixView<const float> x, std::string_view tensor) {
    std::size_t bad = 0, first_row = 0, first_col = 0;
    for (std::size_t r = 0; r < x.rows; ++r) {
        bool finite = true;
        for (const float value : x.row(r)) finite &= std::abs(value) <= std::numeric_limits<float>::max();
        if (finite) continue;
        for (std::size_t c = 0; c < x.cols; ++c) {
            if (std::isfinite(x(r, c))) continue;
            if (bad++ == 0) first_row = r, first_col = c;
        }
    }
    if (bad == 0) return {};
    const float value = x(first_row, first_col);
    return fail(ErrorKind::bad_input, tensor.empty() ? "" : text("tensor '", tensor, "': "), bad, " of ",
                x.rows * x.cols, " activations are not finite; the first is [", first_row, ", ", first_col,
                "], ",
                std::isnan(value) ? "NaN"
                : value > 0       ? "infinity"
                                  : "-infinity");
}

}  // namespace fewbit::inline v0
