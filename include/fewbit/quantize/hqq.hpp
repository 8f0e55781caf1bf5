// hqq: half-quadratic quantization (Badri & Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models"): no
// calibration; the zero point of each group is moved so that few weights have large errors and many have tiny ones, which is
// what |e|^p with p < 1 asks for. The scale stays that of rtn.
//
//   e <- shrink(w - w^),  shrink(x) = sign(x) max(0, |x| - |x|^(p-1) / beta)
//   z <- mean over the group of (q - (w - e) / s),      beta <- kappa beta
//
// The reference stops all groups together and keeps the last zero points; here each group keeps the best it met, the one of rtn
// among them, so that no group's sum of |e|^p is larger than with rtn.
#pragma once

#include <string>

#include "fewbit/core/config.hpp"
#include "fewbit/quantize/quantized.hpp"

namespace fewbit::inline v0 {

struct HqqOptions {
    std::string tensor;     ///< name used in error sentences; may be empty
    double exponent = 0.7;  ///< p: 0.1 to 2
    double beta = 10;       ///< of errors in the unit of the weights, as in the reference
    double kappa = 1.01;    ///< growth of beta per step
    int steps = 20;
};

/// Quantizes w (N, K) to integers with a real offset, or with an integer zero point, which rarely has a better neighbour. The
/// same bytes for any context. Errors: those of quantize_rtn; a format without either, or a
/// block; options out of range.
[[nodiscard]] FEWBIT_API Result<Quantized> quantize_hqq(MatrixView<const float> w, const Format& format,
                                                        const HqqOptions& options = {},
                                                        ExecutionContext context = {});

}  // namespace fewbit::inline v0
