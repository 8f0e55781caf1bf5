// The clip search of mse.hpp on a run of weights. Internal to the room: included by its sources alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "fewbit/quantize/grid_fit.hpp"

namespace fewbit::inline v0::detail {

/// Which range factors are tried: 1 - i / steps for i = 0 .. candidates - 1. One candidate: no search, rtn.
struct ClipSearch {
    int candidates = 1;
    int steps = 100;
    double exponent = 2.0;

    /// From 1 down to 1 - max_shrink.
    [[nodiscard]] static ClipSearch over(int steps, double max_shrink, double exponent) noexcept {
        return {std::max(1, static_cast<int>(steps * max_shrink + 0.5)), steps, exponent};
    }
    [[nodiscard]] double factor(int i) const noexcept {
        return i == 0 ? 1.0 : 1.0 - static_cast<double>(i) / steps;
    }
};

/// A run of weights, and what their errors weigh; null: 1 each.
struct WeightRun {
    const float* w;
    const float* importance;
    std::size_t count;
};

/// Sum of |w - w^|^exponent times importance over a run, in eight interleaved partial sums: a fixed order that
/// vectorizes. Stops early once it exceeds `limit`; sums of nonnegative terms only grow, so that never changes which
/// grid is the best.
template <bool Real, bool Square, class Levels>
[[nodiscard]] double run_error_as(const Levels& levels, const GroupGrid& grid, double exponent,
                                  const WeightRun& run, double limit) noexcept {
    constexpr std::size_t lanes = 8, piece = 32;
    const float scale = grid.scale, offset = grid.offset;
    double sums[lanes] = {};
    double errors[piece];
    const auto errors_of = [&](std::size_t first, std::size_t n) {
        const float* const values = run.w + first;
        for (std::size_t i = 0; i < n; ++i) {
            float decoded = scale * static_cast<float>(levels.level(values[i]));
            if constexpr (Real) decoded += offset;
            errors[i] = static_cast<double>(values[i]) - static_cast<double>(decoded);
        }
        for (std::size_t i = 0; i < n; ++i) {
            if constexpr (Square)
                errors[i] *= errors[i];
            else
                errors[i] = power(std::abs(errors[i]), exponent);
        }
        if (run.importance == nullptr) return;
        for (std::size_t i = 0; i < n; ++i) errors[i] *= static_cast<double>(run.importance[first + i]);
    };
    const auto total = [&] {
        return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    };
    std::size_t first = 0;
    for (; run.count - first >= piece; first += piece) {
        errors_of(first, piece);
        for (std::size_t i = 0; i < piece; i += lanes)
            for (std::size_t j = 0; j < lanes; ++j) sums[j] += errors[i + j];
        const double so_far = total();
        if (so_far > limit) return so_far;
    }
    errors_of(first, run.count - first);
    for (std::size_t i = 0; first + i < run.count; ++i) sums[i % lanes] += errors[i];
    return total();
}

[[nodiscard]] inline double run_error(const Format& format, const GroupGrid& grid, double exponent,
                                      const WeightRun& run, double limit) noexcept {
    const bool square = exponent == 2.0;
    return with_levels(format, grid, [&](const auto& levels) {
        if (format.offset == Offset::real)
            return square ? run_error_as<true, true>(levels, grid, exponent, run, limit)
                          : run_error_as<true, false>(levels, grid, exponent, run, limit);
        return square ? run_error_as<false, true>(levels, grid, exponent, run, limit)
                      : run_error_as<false, false>(levels, grid, exponent, run, limit);
    });
}

/// Runs body(factor) over the ranges to try besides the unshrunken one. Scales of e8m0 are rounded down first
/// (grid.hpp), so the next power of two is worth a try.
template <class Body>
void for_each_factor(const Format& format, const ClipSearch& search, Body&& body) {
    if (format.scale == Scalar::e8m0) body(2.0);
    for (int i = 1; i < search.candidates; ++i) body(search.factor(i));
}

/// The best grid for a group in one run, starting from the unshrunken fit; the first of equals.
[[nodiscard]] inline GroupGrid best_grid(const Format& format, const ClipSearch& search,
                                         const GroupGrid& unshrunken, float min, float max, float row_scale,
                                         const WeightRun& run) noexcept {
    const bool integer_constant = min == max && !format.is_codebook();
    if (search.candidates <= 1 || integer_constant || unshrunken.scale == 0) return unshrunken;
    GroupGrid best = unshrunken, previous = unshrunken;
    double least = run_error(format, best, search.exponent, run, std::numeric_limits<double>::infinity());
    for_each_factor(format, search, [&](double factor) {
        const GroupGrid grid = fit_group(format, min, max, factor, row_scale).grid;
        if (grid == previous || grid.scale == 0) return;
        previous = grid;
        const double error = run_error(format, grid, search.exponent, run, least);
        if (error >= least) return;
        least = error;
        best = grid;
    });
    return best;
}

}  // namespace fewbit::inline v0::detail
