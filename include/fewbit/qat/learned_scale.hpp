// Learned scales and offsets: LSQ (Esser et al., arXiv 1902.08153) and LSQ+ (Bhalgat et al., arXiv
// 2004.09576). The trained numbers are floats; every forward rounds them to their stored types first, so that
// the grid in training is the one in the file. The rounding of a scale has derivative 1, like every other.
//
// For activations the same functions serve with a format such as int8-tensor-fzero-sf32 (LSQ+) and x as the
// matrix; LSQ counts features there: LsqGradient{.elements = x.cols}.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "fewbit/qat/fake_quantize.hpp"
#include "fewbit/quantize/mse.hpp"

namespace fewbit::inline v0::qat {

/// The largest step above zero, Qp of LSQ: 2^(b-1) - 1 for symmetric formats (LSQ's signed data), 2^b - 1
/// with a zero point or an offset (its unsigned data; LSQ+).
[[nodiscard]] inline int positive_steps(const Format& format) noexcept {
    return format.offset == Offset::none ? format.max_code() - format.middle_code() : format.max_code();
}

/// LSQ's g = 1 / sqrt(N Qp), with N the elements that share the scale: those of its group, not of its tensor.
[[nodiscard]] inline double lsq_gradient_scale(std::size_t elements, int positive_steps) noexcept {
    return elements == 0 ? 0.0 : 1.0 / std::sqrt(static_cast<double>(elements) * positive_steps);
}

struct LsqGradient {
    bool scaled = true;        ///< multiply gradients of scales and offsets by g
    std::size_t elements = 0;  ///< N of g; 0: the elements that share the scale
};

/// Where initial scales come from. Offsets, where the format has them, start so that the codes lie around 0
/// as in a symmetric format (beta = -2^(b-1) s); fitted and mse take theirs from the fit.
enum class InitialScale : std::uint8_t {
    lsq,       ///< 2 mean|v| / sqrt(2^(b-1) - 1) (LSQ, 2.1)
    lsq_plus,  ///< max(|mean - 3 sigma|, |mean + 3 sigma|) / 2^(b-1) (LSQ+, for weights)
    fitted,    ///< fit_grids: training starts from rtn
    mse,       ///< quantize_mse: least squared error (LSQ+, for activations)
};

/// Initial scales and offsets of w (N, K), format.scales(N, K) each (no offsets for symmetric formats). A
/// group of zeros gets the smallest normal scale of its type, not 0. Errors: those of fit_grids.
[[nodiscard]] inline Result<void> initial_parameters(MatrixView<const float> w, const Format& format,
                                                     InitialScale from, std::span<float> scales,
                                                     std::span<float> offsets) {
    if (auto valid = validate_uniform(format); !valid) return valid;
    const std::size_t count = format.scales(w.rows, w.cols);
    if (auto fits = detail::check_count("scales", scales.size(), count); !fits) return fits;
    const bool shifted = format.offset != Offset::none;
    if (auto fits = detail::check_count("offsets", offsets.size(), shifted ? count : 0); !fits) return fits;
    std::vector<GroupGrid> grids(count);
    if (from == InitialScale::fitted) {
        if (auto fitted = fit_grids(w, format, grids); !fitted) return fitted;
        parameters_of(format, grids, scales, offsets);
        return {};
    }
    if (from == InitialScale::mse) {
        const auto best = quantize_mse(w, format);
        if (!best) return Unexpected{best.error()};
        const QuantizedMatrix& q = best->linear.weights;
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t r = i / q.scale_cols(), g = i % q.scale_cols();
            grids[i] = {q.scale(r, g), q.zero(r, g), q.offset(r, g), false};
        }
        parameters_of(format, grids, scales, offsets);
        return {};
    }
    struct Sums {
        double magnitude = 0, value = 0, square = 0;
    };
    std::vector<Sums> sums(count);
    for (std::size_t r = 0; r < w.rows && count != 0; ++r)
        if (!detail::all_finite(w.row(r).data(), w.cols)) return detail::not_finite("weight", w, r);
    detail::each_run(format, w.rows, w.cols, [&](const detail::Run& run) {
        for (const float v : w.row(run.row).subspan(run.first, run.count)) {
            sums[run.grid].magnitude += std::abs(static_cast<double>(v));
            sums[run.grid].value += static_cast<double>(v);
            sums[run.grid].square += static_cast<double>(v) * static_cast<double>(v);
        }
        return true;
    });
    const double middle = format.middle_code();
    for (std::size_t i = 0; i < count; ++i) {
        const auto n = static_cast<double>(detail::sharing(format, w.rows, w.cols, i));
        const double mean = sums[i].value / n;
        const double sigma = std::sqrt(std::max(0.0, sums[i].square / n - mean * mean));
        const double scale = from == InitialScale::lsq
                                 ? 2 * (sums[i].magnitude / n) / std::sqrt(middle - 1)
                                 : std::max(std::abs(mean - 3 * sigma), std::abs(mean + 3 * sigma)) / middle;
        scales[i] = scale > 0 ? static_cast<float>(scale) : detail::smallest_scale(format.scale);
        if (shifted) offsets[i] = static_cast<float>(-middle) * scales[i];
    }
    return {};
}

namespace detail {

/// A grid that remembers the beta from which its integer zero point was rounded.
[[nodiscard]] inline UniformGrid<float> trained_grid(const Format& format, const GroupGrid& stored_as,
                                                     float beta) noexcept {
    UniformGrid<float> grid(format, stored_as);
    if (format.offset != Offset::integer || grid.scale == 0) return grid;
    const double steps = static_cast<double>(beta) / static_cast<double>(grid.scale);
    const double zero = nearest_integer(-steps);
    const bool clamped = zero < 0 || zero > format.max_code();
    grid.beta_steps = clamped ? 0 : steps;
    grid.offset_passes = clamped ? 0 : 1;
    return grid;
}

}  // namespace detail

/// Gradients through fake_quantize(w, format, grids, ., mask, Border::value), with grids from
/// round_grids(format, scales, offsets, grids): d_out = dL/dw^ (N, K) becomes d_w = dL/dw (N, K; may be
/// d_out), d_scales = dL/ds and d_offsets = dL/dbeta (format.scales(N, K) each; offsets and d_offsets are
/// empty for symmetric formats). The table of derivatives stands at UniformGrid (grid.hpp). Outputs are
/// overwritten; allocates nothing. Errors: shapes, sizes, a float format.
[[nodiscard]] inline Result<void> learned_backward(MatrixView<const float> d_out, MatrixView<const float> w,
                                                   MatrixView<const Place> mask, const Format& format,
                                                   std::span<const GroupGrid> grids,
                                                   std::span<const float> offsets, MatrixView<float> d_w,
                                                   std::span<float> d_scales, std::span<float> d_offsets,
                                                   const LsqGradient& options = {}) {
    if (auto valid = validate_uniform(format); !valid) return valid;
    if (auto same = detail::check_shape("the incoming gradient", d_out.rows, d_out.cols, w.rows, w.cols);
        !same)
        return same;
    if (auto same = detail::check_shape("the mask", mask.rows, mask.cols, w.rows, w.cols); !same) return same;
    if (auto same = detail::check_shape("the gradient", d_w.rows, d_w.cols, w.rows, w.cols); !same)
        return same;
    if (format.is_float())
        return fail(ErrorKind::bad_input, fewbit::name(format), " has no scales that could be trained");
    const std::size_t count = format.scales(w.rows, w.cols),
                      shifted = format.offset == Offset::none ? 0 : count;
    if (auto fits = detail::check_count("grids", grids.size(), count); !fits) return fits;
    if (auto fits = detail::check_count("offsets", offsets.size(), shifted); !fits) return fits;
    if (auto fits = detail::check_count("gradients of scales", d_scales.size(), count); !fits) return fits;
    if (auto fits = detail::check_count("gradients of offsets", d_offsets.size(), shifted); !fits)
        return fits;
    ParameterGradient sum;
    detail::each_run(format, w.rows, w.cols, [&](const detail::Run& run) {
        const auto grid = detail::trained_grid(format, grids[run.grid], shifted ? offsets[run.grid] : 0.0f);
        const ParameterGradient part =
            backward_run(grid, &w(run.row, run.first), &mask(run.row, run.first), &d_out(run.row, run.first),
                         run.count, &d_w(run.row, run.first));
        sum = {sum.scale + part.scale, sum.offset + part.offset};
        if (format.granularity == Granularity::tensor && run.row + 1 < w.rows) return true;
        const std::size_t elements =
            options.elements != 0 ? options.elements : detail::sharing(format, w.rows, w.cols, run.grid);
        const double g = options.scaled ? lsq_gradient_scale(elements, positive_steps(format)) : 1.0;
        d_scales[run.grid] = static_cast<float>(g * sum.scale);
        if (shifted) d_offsets[run.grid] = static_cast<float>(g * sum.offset);
        sum = {};
        return true;
    });
    return {};
}

}  // namespace fewbit::inline v0::qat
