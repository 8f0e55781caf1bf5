// Definitions of observers.hpp.
#pragma once

#include <algorithm>

#include "fewbit/calibrate/histogram_impl.hpp"
#include "fewbit/calibrate/observers.hpp"

namespace fewbit::inline v0 {
namespace detail {

/// Ranges of one batch with at least one element.
[[nodiscard]] inline std::vector<Range> batch_ranges(MatrixView<const float> x, PerWhat per) {
    std::vector<Range> ranges(per == PerWhat::channel ? x.cols : 1, Range{x(0, 0), x(0, 0)});
    if (per == PerWhat::channel)
        for (std::size_t c = 0; c < x.cols; ++c) ranges[c] = {x(0, c), x(0, c)};
    for (std::size_t r = 0; r < x.rows; ++r)
        for (std::size_t c = 0; c < x.cols; ++c) {
            Range& range = ranges[per == PerWhat::channel ? c : 0];
            range = {std::min(range.min, x(r, c)), std::max(range.max, x(r, c))};
        }
    return ranges;
}

[[nodiscard]] inline Result<void> check_batch(MatrixView<const float> x, const std::string& tensor,
                                              std::size_t known) {
    if (known > 1 && known != x.cols)
        return fail(ErrorKind::bad_input, tensor.empty() ? "" : text("tensor '", tensor, "': "),
                    "a batch has ", x.cols, " channels, the batches before it had ", known);
    return check_activations(x, tensor);
}

}  // namespace detail

FEWBIT_INLINE Result<void> MinMaxObserver::observe(MatrixView<const float> x) {
    if (x.rows == 0 || x.cols == 0) return {};
    if (auto valid = detail::check_batch(x, tensor_, per_ == PerWhat::channel ? ranges_.size() : 0); !valid)
        return valid;
    MinMaxObserver batch(tensor_, per_);
    batch.ranges_ = detail::batch_ranges(x, per_);
    return merge(batch);
}

FEWBIT_INLINE Result<void> MinMaxObserver::merge(const MinMaxObserver& other) {
    if (other.ranges_.empty()) return {};
    if (ranges_.empty()) {
        ranges_ = other.ranges_;
        return {};
    }
    if (ranges_.size() != other.ranges_.size())
        return fail(ErrorKind::bad_input, tensor_.empty() ? "" : text("tensor '", tensor_, "': "),
                    "ranges of ", other.ranges_.size(), " channels cannot be merged into ranges of ",
                    ranges_.size());
    for (std::size_t c = 0; c < ranges_.size(); ++c)
        ranges_[c] = {std::min(ranges_[c].min, other.ranges_[c].min),
                      std::max(ranges_[c].max, other.ranges_[c].max)};
    return {};
}

FEWBIT_INLINE Result<void> MovingAverageObserver::observe(MatrixView<const float> x) {
    if (!(momentum_ >= 0 && momentum_ < 1))
        return fail(ErrorKind::bad_input, "a momentum of ", momentum_, " is not in [0, 1)");
    if (x.rows == 0 || x.cols == 0) return {};
    if (auto valid = detail::check_batch(x, tensor_, per_ == PerWhat::channel ? averages_.size() : 0); !valid)
        return valid;
    const std::vector<Range> batch = detail::batch_ranges(x, per_);
    const double keep = averages_.empty() ? 0 : momentum_;
    averages_.resize(batch.size());
    for (std::size_t c = 0; c < batch.size(); ++c) {
        averages_[c].min = keep * averages_[c].min + (1 - keep) * static_cast<double>(batch[c].min);
        averages_[c].max = keep * averages_[c].max + (1 - keep) * static_cast<double>(batch[c].max);
    }
    return {};
}

FEWBIT_INLINE std::vector<Range> MovingAverageObserver::ranges() const {
    std::vector<Range> ranges;
    for (const Average& average : averages_)
        ranges.push_back({static_cast<float>(average.min), static_cast<float>(average.max)});
    return ranges;
}

}  // namespace fewbit::inline v0
