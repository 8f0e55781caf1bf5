// PACT: activations with a learned clip (Choi et al., arXiv 1805.06085). y = clip(x, 0, alpha) on the
// unsigned grid of `bits` over [0, alpha]; alpha is trained like a weight (the paper adds its square to the
// loss).
//
//   d/dx = 1 for 0 <= x < alpha, else 0        d/dalpha = 1 for x >= alpha, else 0        (PACT, eq. 3)
#pragma once

#include <cmath>

#include "fewbit/calibrate/range.hpp"
#include "fewbit/qat/fake_quantize.hpp"

namespace fewbit::inline v0::qat {

/// y (M, K) = scale * round(clip(x, 0, alpha) / scale), scale = alpha / (2^bits - 1) as parameters_for()
/// (calibrate/range.hpp) gives it; mask (M, K): above for x >= alpha, below for x < 0. y may be x. Errors:
/// alpha not positive and finite; bits not in 2..8; an x that is NaN or infinite, by index; shapes.
[[nodiscard]] inline Result<void> pact(MatrixView<const float> x, float alpha, int bits, MatrixView<float> y,
                                       MatrixView<Place> mask) {
    if (auto same = detail::check_forward(x, y, mask); !same) return same;
    if (!(alpha > 0) || !std::isfinite(alpha))
        return fail(ErrorKind::bad_input, "PACT's alpha is ", alpha, "; it must be positive and finite");
    const auto range = parameters_for({0.0f, alpha}, bits, false);
    if (!range) return Unexpected{range.error()};
    const UniformGrid<float> grid(range->scale, 0, 0.0f, 0, range->max_code);
    for (std::size_t r = 0; r < x.rows; ++r) {
        const float* in = x.row(r).data();
        if (!detail::all_finite(in, x.cols)) return detail::not_finite("activation", x, r);
        // Places first: y may be x. They are PACT's own: alpha is not a whole number of rounded scales.
        if (mask.data != nullptr)
            for (std::size_t c = 0; c < x.cols; ++c)
                mask(r, c) = static_cast<Place>((in[c] < 0) + 2 * (in[c] >= alpha));
        forward_run(grid, in, x.cols, y.row(r).data(), nullptr);
    }
    return {};
}

/// d_x (M, K) = dL/dy inside, else 0; returns dL/dalpha. d_x may be d_y. Error: shapes.
[[nodiscard]] inline Result<float> pact_backward(MatrixView<const float> d_y, MatrixView<const Place> mask,
                                                 MatrixView<float> d_x) {
    if (auto same = detail::check_shape("the mask", mask.rows, mask.cols, d_y.rows, d_y.cols); !same)
        return Unexpected{std::move(same).error()};
    double d_alpha = 0;
    for (std::size_t r = 0; r < d_y.rows; ++r)
        for (std::size_t c = 0; c < d_y.cols; ++c)
            d_alpha += mask(r, c) == Place::above ? static_cast<double>(d_y(r, c)) : 0.0;
    if (auto passed = straight_through(d_y, mask, d_x); !passed) return Unexpected{std::move(passed).error()};
    return static_cast<float>(d_alpha);
}

}  // namespace fewbit::inline v0::qat
