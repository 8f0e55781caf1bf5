// Confidence intervals by resampling (Efron 1979; clusters: Davison and Hinkley 1997, section 3.8): how far a
// mean over a text's predictions may be from that over all text of its kind.
//
// Predictions of one window are not independent: a text that is hard for a model is hard throughout. Windows
// are, where they are documents of their own. So windows are drawn with replacement, as many as there are,
// each with all of its predictions, and what is measured is a ratio of sums over the drawn ones:
//
//   a mean        sum of the values / number of predictions, which differs from window to window
//   a against b   sum of a / sum of b: two models on the same windows, drawn together, so that what is hard
//                 for both cancels
//
// The interval lies between quantiles of the drawn ratios. It is too narrow where few windows carry the sum
// (of ten equal ones by a sixth), and where neighbouring windows are one text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/evaluate/documents.hpp"

namespace fewbit::inline v0::evaluate {

struct BootstrapOptions {
    std::size_t resamples = 2000;  ///< at least 1
    double confidence = 0.95;      ///< between 0 and 1; what is left over is cut off in halves at both ends
    std::uint64_t seed = 1;
};

struct BootstrapInterval {
    double low = 0;
    double high = 0;
    double confidence = 0;  ///< as asked for
    std::size_t resamples = 0;

    friend bool operator==(const BootstrapInterval&, const BootstrapInterval&) = default;
};

/// Sums of each window's values, which stand in the order of the predictions, window by window. Precondition:
/// as many values as the windows have predictions.
[[nodiscard]] FEWBIT_API std::vector<double> window_sums(std::span<const Window> windows,
                                                         std::span<const double> values);

/// The interval of sum a / sum b, a and b the sums of each window. The same for any number of threads. None:
/// fewer than two windows; a resample whose b do not add up to more than 0, or whose ratio is not finite.
/// Precondition: as many a as b.
[[nodiscard]] FEWBIT_API std::optional<BootstrapInterval> ratio_interval(std::span<const double> a,
                                                                         std::span<const double> b,
                                                                         const BootstrapOptions& options = {},
                                                                         ExecutionContext context = {});

/// The interval of the mean of values, as in window_sums: that of sums / predictions.
[[nodiscard]] FEWBIT_API std::optional<BootstrapInterval> mean_interval(std::span<const Window> windows,
                                                                        std::span<const double> values,
                                                                        const BootstrapOptions& options = {},
                                                                        ExecutionContext context = {});

}  // namespace fewbit::inline v0::evaluate
