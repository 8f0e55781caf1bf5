// What every quantization method returns, and what methods share: the check for NaN, the measured error.
//
// A method is a function (weights, statistics, format, options, context) -> Result<Quantized>. Methods that
// need no statistics (rtn, mse) leave them out of their own signature; quantize.hpp has the door with all of
// them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/linear.hpp"

namespace fewbit::inline v0 {

/// How far the stored weights are from the given ones, and what was met on the way. Errors are those of the
/// f32 values that QuantizedMatrix::dequantize gives, summed in double in an order that does not depend on
/// threads.
struct QuantizeReport {
    std::string method;               ///< "rtn", "mse", ...
    double relative_error = 0;        ///< ||w - w^|| / ||w||, Frobenius; 0 when exact
    double sqnr_db = 0;               ///< 10 log10(sum w^2 / sum (w - w^)^2); infinity when exact
    double max_abs_error = 0;         ///< max |w - w^|, in the unit of the weights
    double mean_square_error = 0;     ///< sum (w - w^)^2 / (N K)
    double mean_square = 0;           ///< sum w^2 / (N K)
    double bits_per_weight = 0;       ///< scales, zeros and offsets included
    std::size_t groups = 0;           ///< sets of weights that share a scale
    std::size_t zero_groups = 0;      ///< all weights zero: scale 0, exact
    std::size_t constant_groups = 0;  ///< all weights equal and not zero
    std::size_t subnormal_scales =
        0;  ///< scale below the normal range of its type, or under 16 counts: coarser, rounded up
    std::size_t flushed_groups = 0;  ///< not all zero before, all zero after
    std::size_t dead_channels =
        0;               ///< inputs that calibration never saw other than zero; methods that calibrate
    double damping = 0;  ///< gptq: share of the mean diagonal that was added to the Hessian's
    std::vector<std::string> notes;  ///< sentences for people, one for each kind of event that happened
};

struct Quantized {
    Linear linear;
    QuantizeReport report;
};

/// Error at the first weight (row-major) that is NaN or infinite: "tensor 'layers.3.wq': weight [12, 7] is
/// NaN". `tensor` may be empty; then the sentence starts at "weight".
[[nodiscard]] FEWBIT_API Result<void> check_finite(MatrixView<const float> w, std::string_view tensor,
                                                   ExecutionContext context = {});

/// Fills the error fields and bits_per_weight from w (N, K) and its quantized form of the same shape
/// (precondition).
[[nodiscard]] FEWBIT_API QuantizeReport measure_error(MatrixView<const float> w,
                                                      const QuantizedMatrix& quantized,
                                                      ExecutionContext context = {});
/// The same of a whole layer: w (N, K) as it meets x Q (formats/linear.hpp). Permutations, scales and float columns count.
[[nodiscard]] FEWBIT_API QuantizeReport measure_error(MatrixView<const float> w, const Linear& linear,
                                                      ExecutionContext context = {});

namespace detail {
/// What measure_error measures anew; counts and notes of the method stay.
inline void replace_errors(QuantizeReport& report, const QuantizeReport& measured) {
    report.relative_error = measured.relative_error;
    report.sqnr_db = measured.sqnr_db;
    report.max_abs_error = measured.max_abs_error;
    report.mean_square_error = measured.mean_square_error;
    report.mean_square = measured.mean_square;
    report.bits_per_weight = measured.bits_per_weight;
    report.groups = measured.groups;
}
}  // namespace detail

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/quantize/quantized_impl.hpp"
#endif
