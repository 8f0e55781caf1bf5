// Definitions of quantized.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "fewbit/quantize/quantized.hpp"
#include "fewbit/quantize/row_blocks.hpp"

namespace fewbit::inline v0 {

FEWBIT_INLINE Result<void> check_finite(MatrixView<const float> w, std::string_view tensor,
                                        ExecutionContext context) {
    const detail::RowBlocks blocks(w.rows, w.cols);
    std::vector<std::size_t> first_bad(blocks.count, w.rows);  // row; each block writes its own element
    context.parallel_for(blocks.count, [&](std::size_t block, std::size_t) {
        for (std::size_t r = blocks.first(block); r < blocks.last(block); ++r) {
            bool finite = true;
            for (const float value : w.row(r)) finite &= std::abs(value) <= std::numeric_limits<float>::max();
            if (finite) continue;
            first_bad[block] = r;
            return;
        }
    });
    for (const std::size_t r : first_bad) {
        if (r == w.rows) continue;
        std::size_t c = 0;
        while (std::isfinite(w(r, c))) ++c;
        return fail(ErrorKind::bad_input, detail::tensor_prefix(tensor), "weight [", r, ", ", c, "] is ",
                    std::isnan(w(r, c)) ? "NaN"
                    : w(r, c) > 0       ? "infinity"
                                        : "-infinity");
    }
    return {};
}

namespace detail {

/// Errors of w against rows that decode(r, out) writes.
[[nodiscard]] inline QuantizeReport measure_rows(
    MatrixView<const float> w, FunctionRef<void(std::size_t r, std::span<float> out)> decode,
    ExecutionContext context) {
    struct Sums {
        double signal = 0, noise = 0, largest = 0;
    };
    const RowBlocks blocks(w.rows, w.cols);
    std::vector<Sums> sums(blocks.count);
    context.parallel_for(blocks.count, [&](std::size_t block, std::size_t) {
        std::vector<float> decoded(w.cols);
        Sums total;
        for (std::size_t r = blocks.first(block); r < blocks.last(block); ++r) {
            decode(r, decoded);
            for (std::size_t i = 0; i < w.cols; ++i) {
                const double value = w(r, i);
                const double error = value - static_cast<double>(decoded[i]);
                total.signal += value * value;
                total.noise += error * error;
                total.largest = std::max(total.largest, std::abs(error));
            }
        }
        sums[block] = total;
    });
    Sums total;
    for (const Sums& part : sums) {
        total.signal += part.signal;
        total.noise += part.noise;
        total.largest = std::max(total.largest, part.largest);
    }
    QuantizeReport report;
    const double count = static_cast<double>(w.rows) * static_cast<double>(w.cols);
    report.max_abs_error = total.largest;
    report.mean_square_error = count == 0 ? 0 : total.noise / count;
    report.mean_square = count == 0 ? 0 : total.signal / count;
    report.relative_error = total.noise == 0 ? 0 : std::sqrt(total.noise / total.signal);
    report.sqnr_db = total.noise == 0 ? std::numeric_limits<double>::infinity()
                                      : 10.0 * std::log10(total.signal / total.noise);
    return report;
}

}  // namespace detail

FEWBIT_INLINE QuantizeReport measure_error(MatrixView<const float> w, const QuantizedMatrix& quantized,
                                           ExecutionContext context) {
    auto report = detail::measure_rows(
        w, [&](std::size_t r, std::span<float> out) { quantized.dequantize(r, 0, out); }, context);
    report.bits_per_weight = bits_per_weight(quantized.format(), w.rows, w.cols);
    report.groups = quantized.format().scales(w.rows, w.cols);
    return report;
}

FEWBIT_INLINE QuantizeReport measure_error(MatrixView<const float> w, const Linear& linear,
                                           ExecutionContext context) {
    auto report = detail::measure_rows(
        w, [&](std::size_t r, std::span<float> out) { dequantize_row(linear, r, out); }, context);
    report.bits_per_weight = linear.bits_per_weight();
    report.groups = linear.weights.format().scales(w.rows, w.cols);
    return report;
}

}  // namespace fewbit::inline v0
