// awq: input channels that carry much are scaled up before rounding, so that they lose less, and groups are clipped where
// that loses less of the output (Lin et al. 2023, arXiv 2306.00978).
//
//   s_k = a_k^r / sqrt(max s min s),  a_k = mean |x_k|,  r = 0, 1/20, ... 19/20
//   s_k = a_k^r / b_k^(1-r),          b_k = mean over rows of |w_k| / absmax of its group      (AutoAWQ's "duo scaling")
//
// The s that loses least is kept: sum of e H e^T over rows, e = (W diag s)^ diag(1/s) - W, H = X^T X of calibration. (The
// reference runs tokens through the module instead.) s = 1 is among the candidates.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "fewbit/quantize/channel_scales.hpp"
#include "fewbit/quantize/mse.hpp"
#include "fewbit/quantize/quantized.hpp"

namespace fewbit::inline v0 {

struct AwqOptions {
    std::string tensor;       ///< name used in error sentences; may be empty
    int steps = 20;           ///< exponents r = i / steps
    std::size_t rows = 1024;  ///< of all readers together, evenly spaced, on which scales are tried; 0: all
    /// The search of clipped ranges, once scales are chosen; errors count by mean x_k^2. (`tensor`, `importance`: not read.)
    MseOptions grid;
};

/// Scales for matrices (N_i, K) that read the same x. Errors: no reader, statistics without a Hessian or of another K,
/// options out of range, those of quantize_mse.
[[nodiscard]] FEWBIT_API Result<ChannelScales> awq_scales(std::span<const MatrixView<const float>> readers,
                                                          const TensorStatistics& statistics,
                                                          const Format& format,
                                                          const AwqOptions& options = {},
                                                          TiedChannels tied = {},
                                                          ExecutionContext context = {});

/// The clipped rounding that follows: mse with errors weighed by mean x_k^2. Errors: those of quantize_mse.
[[nodiscard]] FEWBIT_API Result<Quantized> quantize_awq_clip(MatrixView<const float> w,
                                                             const TensorStatistics& statistics,
                                                             const Format& format,
                                                             const AwqOptions& options = {},
                                                             ExecutionContext context = {});

/// Both for one matrix (N, K); the Linear divides its input by the scales.
[[nodiscard]] FEWBIT_API Result<Quantized> quantize_awq(MatrixView<const float> w,
                                                        const TensorStatistics& statistics,
                                                        const Format& format, const AwqOptions& options = {},
                                                        ExecutionContext context = {});

}  // namespace fewbit::inline v0
