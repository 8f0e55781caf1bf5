// Definitions of statistics.hpp: gathering and merging. The saved form is in statistics_io_impl.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "fewbit/calibrate/range_impl.hpp"
#include "fewbit/calibrate/statistics.hpp"

namespace fewbit::inline v0 {
FEWBIT_INLINE Range TensorStatistics::range() const {
    if (channel_ranges.empty()) return {};
    Range all = channel_ranges[0];
    for (const Range& one : channel_ranges) all = {std::min(all.min, one.min), std::max(all.max, one.max)};
    return all;
}

FEWBIT_INLINE Result<void> TensorStatistics::add(MatrixView<const float> x, std::string_view tensor) {
    if (tokens != 0 && channels() != x.cols)
        return fail(ErrorKind::bad_input, detail::statistics_of(tensor), "a batch has ", x.cols,
                    " channels, earlier ones had ", channels());
    if (auto finite = check_activations(x, tensor); !finite) return finite;
    if (x.rows == 0 || x.cols == 0) return {};
    if (tokens == 0) {
        sum_abs.assign(x.cols, 0);
        sum_square.assign(x.cols, 0);
        channel_ranges.clear();
        for (const float value : x.row(0)) channel_ranges.push_back({value, value});
    }
    for (std::size_t r = 0; r < x.rows; ++r)
        for (std::size_t c = 0; c < x.cols; ++c) {
            const float single = x(r, c);
            const double value = single;
            sum_abs[c] += std::abs(value);
            sum_square[c] += value * value;
            Range& range = channel_ranges[c];
            range = {std::min(range.min, single), std::max(range.max, single)};
        }
    tokens += x.rows;
    return {};
}

FEWBIT_INLINE Result<void> TensorStatistics::merge(const TensorStatistics& other, std::string_view tensor) {
    if (other.tokens == 0) return {};
    if (tokens == 0) {
        *this = other;
        return {};
    }
    if (channels() != other.channels())
        return fail(ErrorKind::bad_input, detail::statistics_of(tensor), other.channels(),
                    " channels cannot be merged into ", channels());
    if (channel_scales != other.channel_scales)
        return fail(ErrorKind::bad_input, detail::statistics_of(tensor),
                    "the channels of the two that are to be merged were divided by different scales");
    for (const detail::SquareSum& sum : detail::square_sums)
        if ((this->*sum.member).elements() != (other.*sum.member).elements())
            return fail(ErrorKind::bad_input, detail::statistics_of(tensor),
                        "only one of the two that are to be merged has ", sum.what);
    for (std::size_t c = 0; c < channels(); ++c) {
        sum_abs[c] += other.sum_abs[c];
        sum_square[c] += other.sum_square[c];
        channel_ranges[c] = {std::min(channel_ranges[c].min, other.channel_ranges[c].min),
                             std::max(channel_ranges[c].max, other.channel_ranges[c].max)};
    }
    for (const detail::SquareSum& square : detail::square_sums) {
        Tensor& mine = this->*square.member;
        if (mine.elements() == 0) continue;
        auto sum =
            Tensor::allocate(Scalar::f64, mine.shape());  // a new one: copies of tensors share their bytes
        if (!sum) return Unexpected{std::move(sum).error()};
        const auto a = mine.as<double>(), b = (other.*square.member).as<double>();
        const auto total = sum->as_mutable<double>();
        for (std::size_t i = 0; i < total.size(); ++i) total[i] = a[i] + b[i];
        mine = *std::move(sum);
    }
    for (const auto& [observer, theirs] : other.ranges) {
        const auto [mine, added] = ranges.try_emplace(observer, theirs);
        if (!added)
            mine->second = {std::min(mine->second.min, theirs.min), std::max(mine->second.max, theirs.max)};
    }
    tokens += other.tokens;
    return {};
}

FEWBIT_INLINE const TensorStatistics* Statistics::find(std::string_view tensor) const {
    const auto found = tensors.find(tensor);
    return found == tensors.end() ? nullptr : &found->second;
}

FEWBIT_INLINE Result<void> Statistics::merge(const Statistics& other) {
    Statistics sum = *this;  // all or nothing: an error leaves this one as it was
    for (const auto& [tensor, theirs] : other.tensors)
        if (auto merged = sum.tensors[tensor].merge(theirs, tensor); !merged) return merged;
    *this = std::move(sum);
    return {};
}

}  // namespace fewbit::inline v0
