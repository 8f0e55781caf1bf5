// Observers: what turns batches of activations x (M tokens, K channels) into ranges.
//
//   MinMaxObserver          smallest and largest, per tensor or per channel
//   MovingAverageObserver   exponential average of the batches' min and max, per tensor or per channel
//   HistogramObserver       percentile, MSE or entropy over a streaming histogram, per tensor
//
// observe() refuses a batch that holds NaN or infinity, names the tensor and the count, and keeps its state.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fewbit/calibrate/histogram.hpp"
#include "fewbit/calibrate/range.hpp"

namespace fewbit::inline v0 {

enum class PerWhat : std::uint8_t { tensor, channel };

class MinMaxObserver {
public:
    explicit MinMaxObserver(std::string tensor = {}, PerWhat per = PerWhat::tensor)
        : tensor_(std::move(tensor)), per_(per) {}

    /// Error: x is not finite; per channel also: K differs from the first batch's.
    FEWBIT_API Result<void> observe(MatrixView<const float> x);
    /// As if `other`'s batches had been observed here. Error: other channels.
    FEWBIT_API Result<void> merge(const MinMaxObserver& other);
    /// One per channel, or one; empty before the first element.
    [[nodiscard]] const std::vector<Range>& ranges() const noexcept { return ranges_; }

private:
    std::string tensor_;
    PerWhat per_;
    std::vector<Range> ranges_;
};

class MovingAverageObserver {
public:
    /// After a batch: range = momentum * range + (1 - momentum) * batch; the first batch is taken as it is
    /// (Jacob et al. 2018, 3.1). 0 <= momentum < 1.
    explicit MovingAverageObserver(std::string tensor = {}, double momentum = 0.99,
                                   PerWhat per = PerWhat::tensor)
        : tensor_(std::move(tensor)), momentum_(momentum), per_(per) {}

    /// Errors as of MinMaxObserver; a momentum out of range.
    FEWBIT_API Result<void> observe(MatrixView<const float> x);
    [[nodiscard]] FEWBIT_API std::vector<Range> ranges() const;

private:
    struct Average {
        double min = 0, max = 0;
    };
    std::string tensor_;
    double momentum_;
    PerWhat per_;
    std::vector<Average> averages_;
};

class HistogramObserver {
public:
    explicit HistogramObserver(std::string tensor = {}) : tensor_(std::move(tensor)) {}

    Result<void> observe(MatrixView<const float> x) { return histogram_.observe(x, tensor_); }
    void merge(const HistogramObserver& other) { histogram_.merge(other.histogram_); }
    [[nodiscard]] const Histogram& histogram() const noexcept { return histogram_; }

    /// See percentile_range, mse_range and entropy_range.
    [[nodiscard]] Range percentile(double tail = 1e-4) const { return percentile_range(histogram_, tail); }
    [[nodiscard]] Range mse(int bits, bool symmetric) const { return mse_range(histogram_, bits, symmetric); }
    [[nodiscard]] Range entropy(int bits) const { return entropy_range(histogram_, bits); }

private:
    std::string tensor_;
    Histogram histogram_;
};

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/calibrate/observers_impl.hpp"
#endif
