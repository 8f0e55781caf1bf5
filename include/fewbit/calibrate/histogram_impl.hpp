// Definitions of histogram.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "fewbit/calibrate/histogram.hpp"
#include "fewbit/calibrate/range_impl.hpp"

namespace fewbit::inline v0 {

FEWBIT_INLINE void Histogram::grow_to(double limit) {
    if (limit_ == 0) limit_ = limit;  // so far only zeros, whose bin does not depend on the limit
    for (; limit_ < limit; limit_ *= 2) {
        // Bin i covers edge i - bins/2; two neighbours become bin bins/4 + i/2 of the doubled range.
        std::vector<std::uint64_t> doubled(bins);
        for (std::size_t i = 0; i < bins; ++i) doubled[bins / 4 + i / 2] += counts_[i];
        counts_ = std::move(doubled);
    }
}

FEWBIT_INLINE Result<void> Histogram::observe(MatrixView<const float> x, std::string_view tensor) {
    if (auto finite = check_activations(x, tensor); !finite) return finite;
    if (x.rows == 0 || x.cols == 0) return {};
    Range batch{x(0, 0), x(0, 0)};
    for (std::size_t r = 0; r < x.rows; ++r)
        for (const float value : x.row(r)) batch = {std::min(batch.min, value), std::max(batch.max, value)};
    batch = {batch.min + 0.0f, batch.max + 0.0f};  // -0 counts as 0
    const double largest = std::max(-static_cast<double>(batch.min), static_cast<double>(batch.max));
    if (largest > 0) {
        int exponent = 0;
        std::frexp(largest, &exponent);  // largest = m 2^exponent, m in [1/2, 1): strictly below the limit
        grow_to(std::ldexp(1.0, exponent));
    }
    const double per_unit = limit_ == 0 ? 0 : 1.0 / width();  // a power of two: the product is exact
    for (std::size_t r = 0; r < x.rows; ++r)
        for (const float value : x.row(r)) {
            const auto bin = static_cast<std::ptrdiff_t>(std::floor(static_cast<double>(value) * per_unit));
            ++counts_[static_cast<std::size_t>(bin + static_cast<std::ptrdiff_t>(bins / 2))];
        }
    seen_ = total_ == 0 ? batch : Range{std::min(seen_.min, batch.min), std::max(seen_.max, batch.max)};
    total_ += static_cast<std::uint64_t>(x.rows) * x.cols;
    return {};
}

FEWBIT_INLINE void Histogram::merge(const Histogram& other) {
    if (other.total_ == 0) return;
    Histogram theirs = other;
    if (theirs.limit_ > 0) grow_to(theirs.limit_);
    if (limit_ > 0) theirs.grow_to(limit_);
    for (std::size_t i = 0; i < bins; ++i) counts_[i] += theirs.counts_[i];
    seen_ = total_ == 0 ? theirs.seen_
                        : Range{std::min(seen_.min, theirs.seen_.min), std::max(seen_.max, theirs.seen_.max)};
    total_ += theirs.total_;
}

namespace detail {

/// Cuts [low, high] to what was seen, so that no range is wider than min-max.
[[nodiscard]] inline Range cut_to(Range seen, double low, double high) noexcept {
    return {std::clamp(static_cast<float>(low), seen.min, seen.max),
            std::clamp(static_cast<float>(high), seen.min, seen.max)};
}

}  // namespace detail

FEWBIT_INLINE Range percentile_range(const Histogram& histogram, double tail) {
    if (histogram.limit() == 0 || tail <= 0) return histogram.range();
    const double outside = tail * static_cast<double>(histogram.total());
    const auto& counts = histogram.counts();
    double below = 0, above = 0;
    std::size_t low = 0, high = Histogram::bins - 1;
    while (below + static_cast<double>(counts[low]) <= outside) below += static_cast<double>(counts[low++]);
    while (above + static_cast<double>(counts[high]) <= outside) above += static_cast<double>(counts[high--]);
    const double low_value =
        histogram.edge(low) + histogram.width() * (outside - below) / static_cast<double>(counts[low]);
    const double high_value =
        histogram.edge(high + 1) - histogram.width() * (outside - above) / static_cast<double>(counts[high]);
    return detail::cut_to(histogram.range(), low_value, std::max(low_value, high_value));
}

FEWBIT_INLINE Range mse_range(const Histogram& histogram, int bits, bool symmetric) {
    const Range seen = histogram.range();
    Range best = seen;
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 80 && histogram.limit() > 0; ++i) {
        const double factor = 1.0 - i / 100.0;
        const Range range{static_cast<float>(factor * seen.min), static_cast<float>(factor * seen.max)};
        const auto grid = parameters_for(range, bits, symmetric);
        if (!grid || grid->scale == 0) continue;
        const double scale = grid->scale;
        double error = 0;
        for (std::size_t bin = 0; bin < Histogram::bins; ++bin) {
            if (histogram.counts()[bin] == 0) continue;
            const double value = histogram.edge(bin) + 0.5 * histogram.width();  // a bin's mass at its middle
            const double code = std::clamp<double>(std::nearbyint(value / scale) + grid->zero, grid->min_code,
                                                   grid->max_code);
            const double difference = value - scale * (code - grid->zero);
            error += static_cast<double>(histogram.counts()[bin]) * difference * difference;
        }
        if (error >= least) continue;
        least = error;
        best = range;
    }
    return best;
}

FEWBIT_INLINE Range entropy_range(const Histogram& histogram, int bits) {
    const Range seen = histogram.range();
    if (histogram.limit() == 0) return seen;
    constexpr std::size_t half = Histogram::bins / 2;
    std::vector<double> mass(half);  // of |x|
    for (std::size_t i = 0; i < half; ++i)
        mass[i] = static_cast<double>(histogram.counts()[half + i]) +
                  static_cast<double>(histogram.counts()[half - 1 - i]);
    const std::size_t levels = std::size_t{1} << (bits - 1);
    std::size_t used = half;  // bins that hold anything
    while (used > 0 && mass[used - 1] == 0) --used;
    std::vector<double> tail(half + 1);  // mass at or beyond bin i
    for (std::size_t i = half; i-- > 0;) tail[i] = tail[i + 1] + mass[i];
    std::size_t best = used;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t kept = std::min(levels, used); kept <= used; ++kept) {
        // P: the kept bins, the clipped mass added to the last. Q: each level's mass (without the clipped),
        // spread evenly over those of its bins where P is not empty. Sums are not normalized before the
        // logarithm but in closed form.
        double divergence = 0;
        const double q_total = tail[0] - tail[kept];
        const double p_total = tail[0];
        bool infinite = q_total <= 0;
        for (std::size_t level = 0; level < levels && !infinite; ++level) {
            const std::size_t first = level * kept / levels, last = (level + 1) * kept / levels;
            double level_mass = 0, occupied = 0;
            for (std::size_t i = first; i < last; ++i) {
                level_mass += mass[i];
                occupied += mass[i] != 0 || (i + 1 == kept && tail[kept] != 0);
            }
            for (std::size_t i = first; i < last; ++i) {
                const double p = (i + 1 == kept ? mass[i] + tail[kept] : mass[i]) / p_total;
                if (p == 0) continue;
                const double q = level_mass / occupied / q_total;
                if (q == 0)
                    infinite = true;
                else
                    divergence += p * std::log(p / q);
            }
        }
        if (infinite || divergence >= least) continue;
        least = divergence;
        best = kept;
    }
    const double threshold = static_cast<double>(best) * histogram.width();
    return detail::cut_to(seen, -threshold, threshold);
}

}  // namespace fewbit::inline v0
