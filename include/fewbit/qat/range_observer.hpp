// Static activation ranges that training finds by itself: a moving average of each batch's min and max, and
// no quantization at all for the first steps, while activations still move (Jacob et al., arXiv 1712.05877,
// section 3.1: "smoothing parameter being close to 1"; quantization of activations off for 50 thousand to 2
// million steps).
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "fewbit/calibrate/observers.hpp"
#include "fewbit/qat/fake_activations.hpp"

namespace fewbit::inline v0::qat {

struct RangeOptions {
    int bits = 8;                 ///< 2..8
    bool symmetric = false;       ///< else with a zero point
    double momentum = 0.99;       ///< of the average, in [0, 1)
    std::size_t delay_steps = 0;  ///< forwards that pass x through
};

class RangeObserver {
public:
    explicit RangeObserver(std::string tensor = {}, const RangeOptions& options = {})
        : options_(options), observer_(std::move(tensor), options.momentum) {}

    /// Batches observed so far; empty ones do not count.
    [[nodiscard]] std::size_t steps() const noexcept { return steps_; }
    /// Whether the last batch was quantized, and evaluate() would quantize.
    [[nodiscard]] bool active() const noexcept { return steps_ > options_.delay_steps; }

    /// Min and max of the average. Error: nothing observed yet.
    [[nodiscard]] Result<Range> range() const {
        const auto ranges = observer_.ranges();
        if (ranges.empty()) return fail(ErrorKind::bad_input, "no batch of activations was observed yet");
        return ranges[0];
    }
    /// The grid of the average: parameters_for(range(), bits, symmetric).
    [[nodiscard]] Result<ScaleZero> grid() const {
        const auto found = range();
        if (!found) return Unexpected{found.error()};
        return parameters_for(*found, options_.bits, options_.symmetric);
    }

    /// A step of training: takes x (M, K) into the average, then y = x and a mask of inside while steps() <=
    /// delay_steps, after that fake_quantize_static on the average. y may be x. Errors: those of
    /// MovingAverageObserver (a refused batch changes nothing), of grid() and fake_quantize_static.
    [[nodiscard]] Result<void> forward(MatrixView<const float> x, MatrixView<float> y,
                                       MatrixView<Place> mask) {
        if (auto same = detail::check_forward(x, y, mask); !same) return same;
        if (x.rows == 0 || x.cols == 0) return {};
        if (auto seen = observer_.observe(x); !seen) return seen;
        ++steps_;
        return evaluate(x, y, mask);
    }

    /// The same without observing: for validation. Passes x through while not active(). Errors: those of
    /// grid() and fake_quantize_static.
    [[nodiscard]] Result<void> evaluate(MatrixView<const float> x, MatrixView<float> y,
                                        MatrixView<Place> mask) const {
        if (!active()) return fake_quantize_dynamic(x, exact_activations(), y, mask);
        const auto found = grid();
        if (!found) return Unexpected{found.error()};
        return fake_quantize_static(x, *found, y, mask);
    }

private:
    RangeOptions options_;
    MovingAverageObserver observer_;
    std::size_t steps_ = 0;
};

}  // namespace fewbit::inline v0::qat
