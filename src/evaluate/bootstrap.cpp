// Definitions of evaluate/bootstrap.hpp.
#include "fewbit/evaluate/bootstrap.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/random.hpp"
#include "fewbit/evaluate/divergence.hpp"

namespace fewbit::inline v0::evaluate {

std::vector<double> window_sums(std::span<const Window> windows, std::span<const double> values) {
    std::vector<double> sums;
    sums.reserve(windows.size());
    for (const Window& window : windows) {
        const auto own = values.first(window.predictions());
        sums.push_back(std::accumulate(own.begin(), own.end(), 0.0));
        values = values.subspan(own.size());
    }
    return sums;
}

std::optional<BootstrapInterval> ratio_interval(std::span<const double> a, std::span<const double> b,
                                                const BootstrapOptions& options, ExecutionContext context) {
    const std::size_t windows = a.size();
    if (windows < 2) return std::nullopt;
    std::vector<double> ratios(options.resamples);
    const auto draw = [&](std::size_t resample) {
        // A sequence of its own for each resample: whichever thread draws it, it is the same.
        std::uint64_t state = splitmix_mixed(options.seed + (resample + 1) * splitmix_step);
        double above = 0, below = 0;
        for (std::size_t i = 0; i < windows; ++i) {
            const double at = unit_interval(splitmix_next(state)) * static_cast<double>(windows);
            above += a[static_cast<std::size_t>(at)];
            below += b[static_cast<std::size_t>(at)];
        }
        ratios[resample] = below > 0 ? above / below : std::numeric_limits<double>::quiet_NaN();
    };
    constexpr std::size_t part = 50;  // of few windows a resample is too little work for a task
    context.parallel_for(ceil_div(options.resamples, part), [&](std::size_t p, std::size_t) {
        for (std::size_t r = p * part; r < std::min(options.resamples, (p + 1) * part); ++r) draw(r);
    });
    if (!std::all_of(ratios.begin(), ratios.end(), [](double ratio) { return std::isfinite(ratio); }))
        return std::nullopt;
    std::sort(ratios.begin(), ratios.end());
    const double outside = (1 - options.confidence) / 2;
    return BootstrapInterval{quantile(ratios, outside), quantile(ratios, 1 - outside), options.confidence,
                             options.resamples};
}

std::optional<BootstrapInterval> mean_interval(std::span<const Window> windows,
                                               std::span<const double> values,
                                               const BootstrapOptions& options, ExecutionContext context) {
    std::vector<double> predictions;
    predictions.reserve(windows.size());
    for (const Window& window : windows) predictions.push_back(static_cast<double>(window.predictions()));
    return ratio_interval(window_sums(windows, values), predictions, options, context);
}

}  // namespace fewbit::inline v0::evaluate
