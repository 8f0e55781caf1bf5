// Definitions of grid.hpp, and the loops over a run of weights that rtn and mse share.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "fewbit/quantize/grid.hpp"
#include "fewbit/quantize/rounding.hpp"

namespace fewbit::inline v0 {
namespace detail {

struct GridFit {
    GroupGrid grid;
    const char* overflows = nullptr;  ///< set: which number its stored type cannot hold
    double value = 0;                 ///< that number
};

[[nodiscard]] inline GridFit fit_group(const Format& format, double min, double max, double shrink) noexcept {
    constexpr double largest = std::numeric_limits<float>::max();
    GridFit fit;
    GroupGrid& grid = fit.grid;
    const double steps = format.max_code();  // 2^b - 1
    double wanted = 0;
    if (format.offset == Offset::real) {
        if (shrink < 1.0) {
            const double middle = 0.5 * (min + max), half = 0.5 * (max - min) * shrink;
            min = middle - half;
            max = middle + half;
        }
        grid.offset = stored_below(format.scale, min);
        if (!std::isfinite(grid.offset)) return {grid, "an offset", min};
        wanted = (max - static_cast<double>(grid.offset)) / steps;
    } else if (min == max && min != 0) {
        // Constant: the magnitude itself is the scale and the code +-1; nothing can be clipped, so nearest is
        // best, below the normal range too. The ordinary scale, which is smaller, steps in where the
        // magnitude overflows.
        const double magnitude = std::abs(min);
        const float nearest = rounded_to(format.scale, magnitude);
        if (std::isfinite(nearest) && magnitude * (steps + 1) <= largest) {
            grid.scale = nearest;
            wanted = magnitude;
        }
    }
    if (wanted == 0 && format.offset == Offset::none) {
        const double range = shrink * std::max(-min, max);
        wanted = format.narrow ? range / (format.middle_code() - 1) : 2.0 * range / steps;
    }
    if (format.offset == Offset::integer) {
        min = shrink * std::min(min, 0.0);
        max = shrink * std::max(max, 0.0);
        if (wanted == 0) wanted = (max - min) / steps;
    }
    if (format.offset == Offset::none) grid.zero = format.middle_code();
    if (wanted == 0) return fit;

    if (grid.scale == 0) grid.scale = stored_scale(format.scale, wanted);
    grid.subnormal = grid.scale < smallest_normal(format.scale);
    if (!std::isfinite(grid.scale)) return {grid, "a scale", wanted};
    const double scale = grid.scale;
    if (format.offset == Offset::integer)
        grid.zero = static_cast<int>(std::clamp(round_half_even(-min / scale), 0.0, steps));
    // The outermost codes must decode to finite numbers, or a weight near the end of f32 would come back
    // infinite.
    const int farthest = std::max(grid.zero - format.min_code(), format.max_code() - grid.zero);
    const double reach = scale * farthest + std::abs(static_cast<double>(grid.offset));
    if (!std::isfinite(static_cast<float>(reach))) return {grid, "a decoded value", reach};
    return fit;
}

/// "needs a scale of 7e4, which f16 cannot hold (...)": the end of an error sentence about a group.
[[nodiscard]] inline std::string overflow_text(const Format& format, const GridFit& fit, float min,
                                               float max) {
    const bool f16 = format.scale == Scalar::f16;
    const bool advice = format.scale != Scalar::f32 && std::abs(fit.value) < 1e38;
    return text("weights from ", min, " to ", max, " need ", fit.overflows, " of ", fit.value, " in ",
                name(format), ", which ", advice ? name(format.scale) : "f32",
                " cannot hold (its largest number is ",
                advice && f16 ? 65504.0f
                : advice      ? 0x1.FEp127f
                              : std::numeric_limits<float>::max(),
                "); ",
                advice ? (f16 ? "use scales of another type: '-sf32' or '-sbf16'" : "use '-sf32'")
                       : "scale the weights down");
}

/// (w - offset) / scale rounded to a whole number and clamped to the codes: the code minus the zero.
struct StepRounder {
    StepRounder(const Format& format, const GroupGrid& grid) noexcept
        : scale(grid.scale),
          offset(grid.offset),
          low(format.min_code() - grid.zero),
          high(format.max_code() - grid.zero) {}

    [[nodiscard]] double operator()(float w) const noexcept {
        const double steps = round_half_even((static_cast<double>(w) - offset) / scale);
        const double raised = steps < low ? low : steps;
        return raised > high ? high : raised;
    }

    double scale, offset, low, high;
};

inline void encode_run(const Format& format, const GroupGrid& grid, const float* w, std::size_t count,
                       std::uint8_t* codes) noexcept {
    if (grid.scale == 0) {
        std::fill_n(codes, count, static_cast<std::uint8_t>(grid.zero));
        return;
    }
    const StepRounder steps(format, grid);
    for (std::size_t i = 0; i < count; ++i)
        codes[i] = static_cast<std::uint8_t>(static_cast<int>(steps(w[i])) + grid.zero);
}

}  // namespace detail

FEWBIT_INLINE Result<GroupGrid> fit_grid(const Format& format, float min, float max, double shrink) {
    const detail::GridFit fit = detail::fit_group(format, min, max, shrink);
    if (fit.overflows != nullptr)
        return unexpected(ErrorKind::bad_input, detail::overflow_text(format, fit, min, max));
    return fit.grid;
}

FEWBIT_INLINE void encode(const Format& format, const GroupGrid& grid, std::span<const float> weights,
                          std::span<std::uint8_t> codes) {
    detail::encode_run(format, grid, weights.data(), weights.size(), codes.data());
}

FEWBIT_INLINE float decode(const Format& format, const GroupGrid& grid, int code) {
    const float product = grid.scale * static_cast<float>(code - grid.zero);
    return format.offset == Offset::real ? product + grid.offset : product;
}

}  // namespace fewbit::inline v0
