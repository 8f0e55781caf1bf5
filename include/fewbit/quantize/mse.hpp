// mse: round to nearest on a grid that may clip. For each group, shrunken ranges are tried and the one with
// the least error is kept (the search of GPTQ's quant.py, which calls it `mse`; there with exponent 2.4, here
// 2 by default).
#pragma once

#include <span>
#include <string>

#include "fewbit/quantize/quantized.hpp"

namespace fewbit::inline v0 {

struct MseOptions {
    std::string tensor;       ///< name used in error sentences; may be empty
    int steps = 100;          ///< range factors are 1 - i / steps
    double max_shrink = 0.8;  ///< for i = 0 .. steps * max_shrink - 1
    double exponent = 2.0;    ///< of |w - w^| in the sum that is minimized, 1 to 4; GPTQ uses 2.4
    /// (K) or empty: what squared errors in an input channel weigh, finite and >= 0: means of x^2 over a text
    /// (TensorStatistics::mean_square, an importance matrix). Has to live as long as the options.
    std::span<const float> importance = {};
};

/// Quantizes w (N, K) to `format`. Ranges are shrunk as fit_grid (grid.hpp) says; errors are taken with the
/// scale as stored, and factor 1 is among the candidates (with scales of e8m0 also 2, the next power of two): with exponent 2 no group's squared error is larger
/// than with rtn. In ggml's blocks the squared error (weighed by importance, where there is one) is brought down
/// by alternating least squares of the f16 numbers and nearest codes; steps, max_shrink and exponent are not
/// read, and no block's error is larger than with rtn. Errors: those of quantize_rtn; options out of range.
[[nodiscard]] FEWBIT_API Result<Quantized> quantize_mse(MatrixView<const float> w, const Format& format,
                                                        const MseOptions& options = {},
                                                        ExecutionContext context = {});

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/quantize/grid_methods_impl.hpp"
#endif
