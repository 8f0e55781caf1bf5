// Fake quantization of weights: the values that the stored matrix will have, in float, and a mask through
// which the gradient goes back. Straight-through with clipping (Jacob et al., arXiv 1712.05877): roundings
// have derivative 1, clipped weights 0.
//
//   fit_grids(w, format, grids)                 each step: ranges from the weights (dynamic min-max), or
//   round_grids(format, scales, offsets, grids) each step: trained scales (learned_scale.hpp)
//   fake_quantize(w, format, grids, w^, mask)   forward
//   straight_through(dw^, mask, dw)             backward
//   to_quantized(w, format, grids)              at the end: the same values, stored
#pragma once

#include <cstddef>
#include <span>

#include "fewbit/qat/stored_grids.hpp"

namespace fewbit::inline v0::qat {
namespace detail {

/// Float formats: each weight rounded to its type, nothing clipped.
[[nodiscard]] inline Result<void> fake_cast(MatrixView<const float> w, Scalar type, MatrixView<float> out,
                                            MatrixView<Place> mask) {
    for (std::size_t r = 0; r < w.rows; ++r) {
        if (!all_finite(w.row(r).data(), w.cols)) return not_finite("weight", w, r);
        for (std::size_t c = 0; c < w.cols; ++c) {
            const float value = stored(type, w(r, c));
            if (!std::isfinite(value))
                return fail(ErrorKind::bad_input, "weight [", r, ", ", c, "] is ", w(r, c), ", which ",
                            fewbit::name(type), " cannot hold");
            out(r, c) = value;
            if (mask.data != nullptr) mask(r, c) = Place::inside;
        }
    }
    return {};
}

/// Shapes of a forward pass; the mask may be left out.
[[nodiscard]] inline Result<void> check_forward(MatrixView<const float> v, MatrixView<float> out,
                                                MatrixView<Place> mask) {
    if (auto same = check_shape("the output", out.rows, out.cols, v.rows, v.cols); !same) return same;
    if (mask.data == nullptr) return {};
    return check_shape("the mask", mask.rows, mask.cols, v.rows, v.cols);
}

template <Border B>
[[nodiscard]] Result<void> fake_quantize_as(MatrixView<const float> w, const Format& format,
                                            std::span<const GroupGrid> grids, MatrixView<float> out,
                                            MatrixView<Place> mask) {
    if (auto valid = validate_uniform(format); !valid) return valid;
    if (auto same = check_forward(w, out, mask); !same) return same;
    if (auto fits = check_count("grids", grids.size(), format.scales(w.rows, w.cols)); !fits) return fits;
    if (format.is_float()) return fake_cast(w, element_scalar(format), out, mask);
    if (grids.empty()) return {};
    std::size_t bad_row = w.rows;
    each_run(format, w.rows, w.cols, [&](const Run& run) {
        const float* v = &w(run.row, run.first);
        if (!all_finite(v, run.count)) {
            bad_row = run.row;
            return false;
        }
        forward_run(UniformGrid<float, B>(format, grids[run.grid]), v, run.count, &out(run.row, run.first),
                    mask.data == nullptr ? nullptr : &mask(run.row, run.first));
        return true;
    });
    if (bad_row != w.rows) return not_finite("weight", w, bad_row);
    return {};
}

}  // namespace detail

/// out (N, K) = what the matrix to_quantized(w, format, grids) dequantizes to, bit for bit; mask (N, K) =
/// where each weight lies, seen with `border` (a default MatrixView: no mask). grids: format.scales(N, K) of
/// them; none for float formats, which are a rounding of each weight. out may be w. Allocates nothing.
/// Errors: a weight that is NaN or infinite, by index (rows before it are written); shapes; an invalid
/// format; a float format that cannot hold a weight.
[[nodiscard]] inline Result<void> fake_quantize(MatrixView<const float> w, const Format& format,
                                                std::span<const GroupGrid> grids, MatrixView<float> out,
                                                MatrixView<Place> mask, Border border = Border::code) {
    return border == Border::code ? detail::fake_quantize_as<Border::code>(w, format, grids, out, mask)
                                  : detail::fake_quantize_as<Border::value>(w, format, grids, out, mask);
}

/// dL/dv (M, K) = dL/dv^ where the mask says inside, else 0. d_v may be d_out. NaN in d_out stays where it is
/// inside and is dropped where it was clipped. Error: shapes.
[[nodiscard]] inline Result<void> straight_through(MatrixView<const float> d_out,
                                                   MatrixView<const Place> mask, MatrixView<float> d_v) {
    if (auto same = detail::check_shape("the mask", mask.rows, mask.cols, d_out.rows, d_out.cols); !same)
        return same;
    if (auto same = detail::check_shape("the gradient", d_v.rows, d_v.cols, d_out.rows, d_out.cols); !same)
        return same;
    for (std::size_t r = 0; r < d_out.rows; ++r) {
        const float* in = d_out.row(r).data();
        const Place* places = mask.row(r).data();
        float* out = d_v.row(r).data();
        for (std::size_t c = 0; c < d_out.cols; ++c) out[c] = places[c] == Place::inside ? in[c] : 0.0f;
    }
    return {};
}

}  // namespace fewbit::inline v0::qat
