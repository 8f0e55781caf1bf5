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

FEWBIT_INLINE QuantizeReport measure_error(MatrixView<const float> w, const QuantizedMatrix& quantized,
                                           ExecutionContext context) {
    struct Sums {
        double signal = 0, noise = 0, largest = 0;
    };
    const detail::RowBlocks blocks(w.rows, w.cols);
    std::vector<Sums> sums(blocks.count);
    context.parallel_for(blocks.count, [&](std::size_t block, std::size_t) {
        constexpr std::size_t piece = 512;
        float decoded[piece];
        Sums total;
        for (std::size_t r = blocks.first(block); r < blocks.last(block); ++r)
            for (std::size_t c = 0; c < w.cols; c += piece) {
                const std::size_t count = std::min(piece, w.cols - c);
                quantized.dequantize(r, c, {decoded, count});
                const float* given = w.row(r).data() + c;
                for (std::size_t i = 0; i < count; ++i) {
                    const double value = given[i];
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
    report.bits_per_weight = bits_per_weight(quantized.format(), w.rows, w.cols);
    report.groups = quantized.format().scales(w.rows, w.cols);
    return report;
}

}  // namespace fewbit::inline v0
