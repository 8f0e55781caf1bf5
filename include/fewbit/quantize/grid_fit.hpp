// Finding the grid of a group and rounding a run of weights to it: what grid.hpp promises, as loops that methods inline.
// Internal to the room: included by its sources alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "fewbit/core/text.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/quantize/group_grid.hpp"
#include "fewbit/quantize/levels.hpp"
#include "fewbit/quantize/rounding.hpp"

namespace fewbit::inline v0::detail {

struct GridFit {
    GroupGrid grid;
    const char* overflows = nullptr;  ///< set: which number its stored type cannot hold
    double value = 0;                 ///< that number
};

/// Doubly quantized scales count less than this where they lose precision.
inline constexpr double precise_count = 16;

/// A scale as a group stores it, nearest or rounded up (grid.hpp); counts of `row_scale` where doubly quantized.
[[nodiscard]] inline float stored_scale(const Format& format, double wanted, float row_scale,
                                        bool nearest = false) noexcept {
    if (!format.double_quantized())
        return nearest ? rounded_to(format.scale, wanted) : stored_scale(format.scale, wanted);
    const double count = wanted / static_cast<double>(row_scale);
    double rounded = round_half_even(count);
    if (!nearest && count < precise_count && rounded < count) rounded += 1;
    return static_cast<float>(std::clamp(rounded, 1.0, 255.0)) * row_scale;
}
[[nodiscard]] inline bool loses_precision(const Format& format, float scale, float row_scale) noexcept {
    if (format.double_quantized())
        return static_cast<double>(scale) < precise_count * static_cast<double>(row_scale);
    return format.scale != Scalar::e8m0 && scale < smallest_normal(format.scale);
}

/// A codebook's grid. e8m0 has no 0: a group of zeros takes its smallest number and codes of 0.
[[nodiscard]] inline GridFit fit_codebook(const Format& format, double min, double max, double shrink,
                                          float row_scale) noexcept {
    GridFit fit;
    GroupGrid& grid = fit.grid;
    grid.zero = format.middle_code();
    const auto [low, high] = codebook_range(format.element);
    if (format.scale == Scalar::e8m0) {
        const auto absmax = static_cast<float>(shrink * std::max(-min, max));
        const int top =
            static_cast<int>(std::bit_cast<std::uint64_t>(high) >> 52) - 1023;  // floor(log2 high)
        int exponent = e8m0_from_float(absmax) - top;
        // Where the largest value is a power of two itself (nf4), OCP's rule could clip half of the range.
        if (high == std::bit_cast<double>(std::bit_cast<std::uint64_t>(high) & 0xFFF0000000000000u) &&
            float_from_e8m0(e8m0_from_float(absmax)) < absmax)
            exponent = std::min(exponent + 1, 254);
        grid.scale = float_from_e8m0(static_cast<std::uint8_t>(std::max(exponent, 0)));
        return fit;
    }
    const double wanted = shrink * std::max({max / high, min / low, 0.0});
    if (wanted == 0) return fit;
    grid.scale = stored_scale(format, wanted, row_scale);
    grid.subnormal = loses_precision(format, grid.scale, row_scale);
    if (!std::isfinite(grid.scale)) return {grid, "a scale", wanted};
    const double reach = static_cast<double>(grid.scale) * std::max(-low, high);
    if (!std::isfinite(static_cast<float>(reach))) return {grid, "a decoded value", reach};
    return fit;
}

[[nodiscard]] inline GridFit fit_group(const Format& format, double min, double max, double shrink,
                                       float row_scale = 0) noexcept {
    if (format.is_codebook()) return fit_codebook(format, min, max, shrink, row_scale);
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
        const float nearest = stored_scale(format, magnitude, row_scale, true);
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

    if (grid.scale == 0) grid.scale = stored_scale(format, wanted, row_scale);
    grid.subnormal = loses_precision(format, grid.scale, row_scale);
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

inline void encode_run(const Format& format, const GroupGrid& grid, const float* w, std::size_t count,
                       std::uint8_t* codes) noexcept {
    if (grid.scale == 0) {
        std::fill_n(codes, count, static_cast<std::uint8_t>(grid.zero));
        return;
    }
    with_levels(format, grid, [&](const auto& levels) {
        for (std::size_t i = 0; i < count; ++i) codes[i] = levels.code(w[i]);
    });
}

/// The smallest power of two of which 255 reach `widest`, the largest scale of a row.
[[nodiscard]] inline float row_scale_for(double widest) noexcept {
    if (widest == 0) return 0x1p-127f;
    const double wanted = widest / 255;
    float power = float_from_e8m0(e8m0_from_float(static_cast<float>(wanted)));
    if (static_cast<double>(power) < wanted) power *= 2;
    return power;
}

}  // namespace fewbit::inline v0::detail
