// gptq: codes are chosen column by column, and what rounding one column did to the layer's output is compensated in the
// columns that follow (Frantar et al. 2022, arXiv 2210.17323, algorithm 1). It minimizes ||(W - W^) X^T||, X being the
// inputs of calibration, where rtn minimizes ||W - W^||.
//
//   H = X^T X / tokens + damping mean(diag) I,   H^-1 = U^T U,   U upper triangular
//   for each column j:   e = (w_j - round(w_j)) / U_jj,   w_i -= e U_ji for all later columns i
//
// Any grid: integers, codebooks, ggml's blocks with their two levels of scales. Float formats are only rounded.
// All arithmetic that chooses codes is double precision in a fixed order: the same bytes from any number of threads,
// any compiler and any CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/quantize/mse.hpp"
#include "fewbit/quantize/quantized.hpp"

namespace fewbit::inline v0 {

/// In which order columns are rounded. Late ones are rounded worse: nothing is left that could compensate.
enum class ColumnOrder : std::uint8_t {
    natural,
    group_aware,  ///< by H_jj, largest first, within groups; groups by their largest H_jj (GPTQModel's "GAR")
    activation,  ///< by H_jj, largest first ("act-order"); grids from the weights as they came ("static groups")
    permuted,  ///< as activation, with groups of neighbours in that order: the Linear permutes its input
};

struct GptqOptions {
    std::string tensor;  ///< name used in error sentences; may be empty
    ColumnOrder order = ColumnOrder::group_aware;
    /// Grids of the weights as they came, instead of the weights as compensation left them when their group's turn
    /// comes. Formats with one grid per row or tensor are always static.
    bool static_groups = false;
    /// Share of the mean diagonal that is added to the diagonal: 0 or more. Where H has no factor, 0.01 is added up to
    /// ten times, then 1e-6 of the largest diagonal times 1, 10, ... 1e5, then the tensor is rounded by mse; the
    /// report says which.
    double damping = 0.01;
    /// How a group's grid is found: the search of mse, of which `tensor` and `importance` are not read. With
    /// max_shrink 0 it spans the group, as in rtn.
    MseOptions grid;
    /// Which share of the inputs' own error is compensated, where the statistics tell it (asymmetry_sum): the weights
    /// are moved to W + asymmetry W D H^-1 first, D = sum (x - x^)^T x^, which for 1 minimizes ||W X^T - W^ X^^T||
    /// with X of the float model and X^ of the quantized one (the aim of GPTAQ, Li et al. 2025, arXiv 2504.02692).
    double asymmetry = 0.75;
};

/// Quantizes w (N, K) with the statistics of its input x (tokens, K), which need a Hessian. Channels that were zero in
/// all tokens are rounded to nearest. Errors: those of quantize_rtn; statistics without a Hessian, of another K or not
/// finite; options out of range; a grid that overflows its scale's type on the way.
[[nodiscard]] FEWBIT_API Result<Quantized> quantize_gptq(MatrixView<const float> w,
                                                         const TensorStatistics& statistics,
                                                         const Format& format,
                                                         const GptqOptions& options = {},
                                                         ExecutionContext context = {});

}  // namespace fewbit::inline v0
