// llm-int8: input channels with outliers stay in floating point, the others are rounded to nearest (Dettmers et al. 2022, LLM.int8(),
// arXiv 2208.07339):
//
//   y = T(x) W^T without the outlier channels, in int8  +  x[:, outliers] F^T in f16
//
// The paper looks for outliers in every batch; here they are those of calibration, so that a token's result does not depend
// on the tokens beside it and W holds no copy of what F has. It is what makes int8 activations work: their grid spans the other
// channels only (matmul/linear.hpp). Any format with an exact 0 will do.
#pragma once

#include <string>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/quantize/quantized.hpp"

namespace fewbit::inline v0 {

struct LlmInt8Options {
    std::string tensor;      ///< name used in error sentences; may be empty
    double threshold = 6.0;  ///< channels that reached this magnitude in calibration are outliers
};

/// Quantizes w (N, K) with the ranges of its input's channels. Outlier columns are kept in f16, in f32 where f16 overflows.
/// Errors: those of quantize_rtn; statistics of another K or without tokens; a threshold that is not positive; a format without an exact 0.
[[nodiscard]] FEWBIT_API Result<Quantized> quantize_llm_int8(MatrixView<const float> w,
                                                             const TensorStatistics& statistics,
                                                             const Format& format,
                                                             const LlmInt8Options& options = {},
                                                             ExecutionContext context = {});

}  // namespace fewbit::inline v0
