// Definitions of rtn.hpp and mse.hpp: one driver, with and without a search. The work is cut into
// blocks of rows by shape; whatever is summed or counted is summed per block and added in block order.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbit/quantize/blocks_impl.hpp"
#include "fewbit/quantize/grid_impl.hpp"
#include "fewbit/quantize/grid_quantizer.hpp"
#include "fewbit/quantize/mse.hpp"
#include "fewbit/quantize/quantized_impl.hpp"
#include "fewbit/quantize/row_blocks.hpp"
#include "fewbit/quantize/rtn.hpp"

namespace fewbit::inline v0 {
namespace detail {

/// Float formats: each weight rounded by itself. Error: a finite weight becomes infinite.
[[nodiscard]] inline Result<void> cast_weights(MatrixView<const float> w, QuantizedMatrix& out,
                                               std::string_view tensor, ExecutionContext context) {
    const Scalar type = element_scalar(out.format());
    const std::size_t element_bytes = size_bytes(type);
    const RowBlocks blocks(w.rows, w.cols);
    std::vector<std::size_t> first_bad(blocks.count, w.rows);
    context.parallel_for(blocks.count, [&](std::size_t block, std::size_t) {
        for (std::size_t r = blocks.last(block); r-- > blocks.first(block);) {
            auto* bytes = reinterpret_cast<std::byte*>(out.codes.mutable_row(r));
            for (std::size_t c = 0; c < w.cols; ++c) {
                store_float(type, w(r, c), bytes + c * element_bytes);
                if (!std::isfinite(rounded_to(type, w(r, c)))) first_bad[block] = r;
            }
        }
    });
    for (const std::size_t r : first_bad) {
        if (r == w.rows) continue;
        std::size_t c = 0;
        while (std::isfinite(rounded_to(type, w(r, c)))) ++c;
        return fail(ErrorKind::bad_input, tensor_prefix(tensor), "weight [", r, ", ", c, "] is ", w(r, c),
                    ", which ", name(type), " cannot hold; use ",
                    type == Scalar::f16 ? "'bf16' or 'f32'" : "'f32'");
    }
    return {};
}

/// Why an importance does not fit K input channels; nothing when it does, or is none.
[[nodiscard]] inline std::string importance_error(std::span<const float> importance, std::size_t k) {
    if (!importance.empty() && importance.size() != k)
        return text("the importance has ", importance.size(), " values for ", k, " input channels");
    for (std::size_t c = 0; c < importance.size(); ++c)
        if (!(importance[c] >= 0) || !std::isfinite(importance[c]))
            return text("the importance of input channel ", c, " is ", importance[c],
                        ", not a finite number of 0 or more");
    return {};
}

[[nodiscard]] inline Result<Quantized> quantize_to_grid(MatrixView<const float> w, const Format& format,
                                                        const ClipSearch& search, std::string_view method,
                                                        std::string_view tensor,
                                                        std::span<const float> importance,
                                                        ExecutionContext context) {
    const std::string prefix = tensor_prefix(tensor);
    auto matrix = QuantizedMatrix::allocate(format, w.rows, w.cols);
    if (!matrix) return fail(matrix.error().kind, prefix, matrix.error().message);
    if (auto finite = check_finite(w, tensor, context); !finite) return Unexpected{std::move(finite).error()};
    if (const std::string why = importance_error(importance, w.cols); !why.empty())
        return fail(ErrorKind::bad_input, prefix, why);
    BlockEvents events;
    if (format.is_block()) {
        events = quantize_blocks(w, importance, search.candidates > 1, *matrix, context);
        if (!events.error.empty()) return fail(ErrorKind::bad_input, prefix, events.error);
    } else if (format.is_float()) {
        if (auto cast = cast_weights(w, *matrix, tensor, context); !cast)
            return Unexpected{std::move(cast).error()};
    } else {
        events = GridQuantizer(w, importance.empty() ? nullptr : importance.data(), *matrix, search, context)
                     .run();
        if (!events.error.empty()) return fail(ErrorKind::bad_input, prefix, events.error);
    }
    Quantized result;
    result.report = measure_error(w, *matrix, context);
    result.report.method = method;
    result.report.zero_groups = events.zero;
    result.report.constant_groups = events.constant;
    result.report.subnormal_scales = events.subnormal;
    result.report.flushed_groups = events.flushed;
    if (events.subnormal != 0 && format.double_quantized())
        result.report.notes.push_back(
            text(prefix, events.subnormal, " of ", result.report.groups,
                 " groups have scales below a sixteenth of their row's largest, where double "
                 "quantization loses precision"));
    else if (events.subnormal != 0)
        result.report.notes.push_back(text(prefix, events.subnormal, " of ", result.report.groups,
                                           " groups have scales below ", smallest_normal(format.scale),
                                           ", where ", name(format.scale), " loses precision"));
    if (events.flushed != 0)
        result.report.notes.push_back(
            text(prefix, events.flushed, " of ", result.report.groups,
                 " groups became zero: their weights are under half of the smallest ",
                 format.is_block() ? "" : name(format.scale), format.is_block() ? "step" : " scale"));
    result.linear.weights = *std::move(matrix);
    return result;
}

}  // namespace detail

FEWBIT_INLINE Result<Quantized> quantize_rtn(MatrixView<const float> w, const Format& format,
                                             const RtnOptions& options, ExecutionContext context) {
    return detail::quantize_to_grid(w, format, {}, "rtn", options.tensor, options.importance, context);
}

FEWBIT_INLINE Result<Quantized> quantize_mse(MatrixView<const float> w, const Format& format,
                                             const MseOptions& options, ExecutionContext context) {
    if (options.steps < 1 || options.steps > 100000 || !(options.max_shrink >= 0 && options.max_shrink < 1) ||
        !(options.exponent >= 1 && options.exponent <= 4))
        return fail(ErrorKind::bad_input, detail::tensor_prefix(options.tensor),
                    "mse options are out of range: steps ", options.steps, " (1 to 100000), max_shrink ",
                    options.max_shrink, " (0 up to but not 1), exponent ", options.exponent, " (1 to 4)");
    const auto search = detail::ClipSearch::over(options.steps, options.max_shrink, options.exponent);
    return detail::quantize_to_grid(w, format, search, "mse", options.tensor, options.importance, context);
}

}  // namespace fewbit::inline v0
