// Definitions of evaluate/divergence.hpp that run no model: numbers in, statistics out.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "fewbit/evaluate/divergence.hpp"

namespace fewbit::inline v0::evaluate {

double quantile(std::span<const double> sorted, double q) noexcept {
    if (sorted.empty()) return 0;
    const double position = std::clamp(q, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const double part = position - static_cast<double>(below);
    // Without the test an infinite neighbour that has no weight would make a NaN.
    if (part == 0 || sorted[below] == sorted[below + 1]) return sorted[below];
    return sorted[below] + part * (sorted[below + 1] - sorted[below]);
}

Distribution distribution(std::span<const double> values) {
    Distribution out;
    if (values.empty()) return out;
    double sum = 0;
    bool nan = false;
    for (const double value : values) {
        sum += value;
        nan = nan || std::isnan(value);
    }
    if (nan) {
        constexpr double none = std::numeric_limits<double>::quiet_NaN();
        return {none, none, none, none, none, none};
    }
    std::vector<double> sorted(values.begin(), values.end());
    std::sort(sorted.begin(), sorted.end());
    out.mean = sum / static_cast<double>(values.size());
    out.median = quantile(sorted, 0.5);
    out.p90 = quantile(sorted, 0.9);
    out.p99 = quantile(sorted, 0.99);
    out.p999 = quantile(sorted, 0.999);
    out.max = sorted.back();
    return out;
}

std::vector<PositionBucket> by_position(std::span<const Window> windows, std::span<const double> values) {
    std::vector<PositionBucket> buckets;
    std::size_t i = 0;
    for (const Window& window : windows)
        for (std::size_t position = 1; position <= window.predictions(); ++position, ++i) {
            // 2^b + 1 .. 2^(b + 1), and 1 with 2.
            const auto b =
                std::max<std::size_t>(1, static_cast<std::size_t>(std::bit_width(position - 1))) - 1;
            while (buckets.size() <= b) {
                PositionBucket next;
                next.first = buckets.empty() ? 1 : buckets.back().last + 1;
                next.last = std::size_t{2} << buckets.size();
                buckets.push_back(next);
            }
            PositionBucket& bucket = buckets[b];
            // The second comparison is false for NaN on either side, and a NaN that is in stays in.
            if (bucket.predictions == 0 || std::isnan(values[i]) || values[i] > bucket.max)
                bucket.max = values[i];
            bucket.mean += values[i];  // the sum, for now
            ++bucket.predictions;
        }
    for (PositionBucket& bucket : buckets)
        if (bucket.predictions > 0) bucket.mean /= static_cast<double>(bucket.predictions);
    return buckets;
}

}  // namespace fewbit::inline v0::evaluate
