// smoothquant: scales of input channels that move outliers from the activations, which are hard to round, into the weights,
// which are not (Xiao et al. 2022, arXiv 2211.10438, eq. 4):
//
//   s_k = max |x_k|^alpha / max |w_k|^(1 - alpha)      w_k: column k of all matrices that read x
//
// x / s and W diag s then have the same function and, for alpha = 1/2, equal ranges in every channel.
#pragma once

#include <span>
#include <string>

#include "fewbit/core/tensor.hpp"
#include "fewbit/quantize/channel_scales.hpp"

namespace fewbit::inline v0 {

struct SmoothQuantOptions {
    std::string tensor;  ///< name used in error sentences; may be empty
    double alpha =
        0.5;  ///< 0 to 1: how much of the difficulty the weights take; 0.75 to 0.9 for strong outliers
};

/// Scales for matrices (N_i, K) that read the same x, from the ranges of its channels. Channels that were always zero, or that
/// nobody reads, keep 1; others are at least 1e-5. Errors: no reader, statistics of another K, alpha out of range.
[[nodiscard]] FEWBIT_API Result<ChannelScales> smoothquant_scales(
    std::span<const MatrixView<const float>> readers, const TensorStatistics& statistics,
    const SmoothQuantOptions& options = {}, TiedChannels tied = {});

}  // namespace fewbit::inline v0
