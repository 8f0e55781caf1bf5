// owq: the few input channels that rounding would hurt most keep float weights, the others are rounded by gptq, whose error
// feedback ends in the float weights (Lee et al. 2024, arXiv 2306.02272):
//
//   sensitivity of column j:  H_jj |w_j - round(w_j)|^2          the largest are kept: S; the others: R
//   gptq on R with H_RR - H_RS H_SS^-1 H_SR,                     which is gptq on all columns, S last and never rounded
//   F = W_S + (W_R - W^_R) H_RS H_SS^-1                          what is left of the error, put into the float weights
//
// with H damped as in gptq. The paper orders columns to get there; the Schur complement is the same in exact arithmetic, and serves
// every grid and order that gptq has.
#pragma once

#include <cstddef>
#include <string>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/quantize/gptq.hpp"
#include "fewbit/quantize/quantized.hpp"

namespace fewbit::inline v0 {

struct OwqOptions {
    std::string tensor;  ///< name used in error sentences; may be empty
    /// What float columns may add to the bits of a weight, 0 to 16: ceil(extra_bits K / 16) columns, so at least one unless 0.
    double extra_bits = 0.1;
    GptqOptions gptq;  ///< of the others; `tensor` is not read
};

/// Quantizes w (N, K) with the statistics of its input, which need a Hessian. Float columns are f16, f32 where f16 overflows.
/// Errors: those of quantize_gptq; extra_bits out of range; a format without an exact 0.
[[nodiscard]] FEWBIT_API Result<Quantized> quantize_owq(MatrixView<const float> w,
                                                        const TensorStatistics& statistics,
                                                        const Format& format, const OwqOptions& options = {},
                                                        ExecutionContext context = {});

}  // namespace fewbit::inline v0
