// Scales of input channels: W x = (W diag s) (x / s). Methods choose s so that W diag s and x / s are easier to quantize:
// awq.hpp for the weights, smoothquant.hpp for the activations. x / s is free where what writes x can be divided
// (pipeline/folds.hpp); elsewhere a Linear's InputTransform divides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"

namespace fewbit::inline v0 {

struct ChannelScales {
    std::vector<float> scales;  ///< (K), positive and finite
    /// Squared error of the outputs of all readers, relative to the outputs, without scales and with them; 0 where the
    /// method does not look at it.
    double loss_before = 0, loss_after = 0;
    std::string how;  ///< for people: "|x|^0.45"
};

/// Channels that have to share a scale, because one number writes them all: class of each channel (K), or empty. (Query heads
/// that read the same value head.)
using TiedChannels = std::span<const std::uint32_t>;

/// W diag s. Precondition: as many scales as columns.
[[nodiscard]] FEWBIT_API Matrix scaled_columns(MatrixView<const float> w, std::span<const float> scales);
/// What the statistics of x would be for x / s. Error: no memory.
[[nodiscard]] FEWBIT_API Result<TensorStatistics> scaled_statistics(const TensorStatistics& statistics,
                                                                    std::span<const float> scales);

}  // namespace fewbit::inline v0
