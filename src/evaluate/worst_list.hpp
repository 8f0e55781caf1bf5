// The n worst predictions of a stream of them, in memory for n. Internal to src/evaluate.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "fewbit/evaluate/divergence.hpp"

namespace fewbit::inline v0::evaluate::detail {

/// A heap with the least bad one on top. No two predictions rank alike, so the list depends neither on the
/// order of add() nor on how the stream was shared out among lists.
class WorstList {
public:
    explicit WorstList(std::size_t capacity) : capacity_(capacity) {}

    /// Whether add() would keep such a prediction; spares making it.
    [[nodiscard]] bool takes(double kld, std::size_t window, std::size_t position) const noexcept {
        if (heap_.size() < capacity_) return true;
        return capacity_ > 0 && rank(kld, window, position) < rank(heap_.front());
    }

    void add(const WorstPrediction& prediction) {
        if (!takes(prediction.kld, prediction.window, prediction.position)) return;
        if (heap_.size() == capacity_) {
            std::pop_heap(heap_.begin(), heap_.end(), is_worse);
            heap_.pop_back();
        }
        heap_.push_back(prediction);
        std::push_heap(heap_.begin(), heap_.end(), is_worse);
    }

    void add(const WorstList& other) {
        for (const WorstPrediction& prediction : other.heap_) add(prediction);
    }

    [[nodiscard]] std::vector<WorstPrediction> sorted() && {
        std::sort(heap_.begin(), heap_.end(), is_worse);
        return std::move(heap_);
    }

private:
    using Rank = std::tuple<double, std::size_t, std::size_t>;  // less is worse

    /// NaN, which has no order, counts as infinity.
    [[nodiscard]] static Rank rank(double kld, std::size_t window, std::size_t position) noexcept {
        return {std::isnan(kld) ? -std::numeric_limits<double>::infinity() : -kld, window, position};
    }
    [[nodiscard]] static Rank rank(const WorstPrediction& p) noexcept {
        return rank(p.kld, p.window, p.position);
    }
    [[nodiscard]] static bool is_worse(const WorstPrediction& a, const WorstPrediction& b) noexcept {
        return rank(a) < rank(b);
    }

    std::size_t capacity_;
    std::vector<WorstPrediction> heap_;
};

}  // namespace fewbit::inline v0::evaluate::detail
