// Truth: products in double precision, one loop, nothing clever. Every kernel, the generic ones included, is
// tested against it; it shares with them only the definition of formats.
#pragma once

#include <cmath>
#include <vector>

#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/quantized_matrix.hpp"

namespace fewbit::inline v0::reference {

/// The exact value of weight (n, k).
[[nodiscard]] inline double weight(const QuantizedMatrix& w, std::size_t n, std::size_t k) {
    if (w.format().is_float()) {
        float value = 0;
        w.dequantize(n, k, {&value, 1});
        return static_cast<double>(value);
    }
    const std::size_t g = k / w.group_elements();
    return static_cast<double>(w.scale(n, g)) * (w.codes.code(n, k) - w.zero(n, g)) +
           static_cast<double>(w.offset(n, g));
}

/// Row m of x (M, K) as the activation format represents it (formats/activation_format.hpp).
[[nodiscard]] inline std::vector<double> activations(MatrixView<const float> x, std::size_t m,
                                                     const ActivationFormat& format) {
    std::vector<double> row(x.row(m).begin(), x.row(m).end());
    if (format.element == ActivationElement::f32) return row;
    const std::size_t group = format.group_elements(x.cols);
    for (std::size_t begin = 0; begin < row.size(); begin += group) {
        const std::size_t end = std::min(begin + group, row.size());
        double largest = 0;
        for (std::size_t k = begin; k < end; ++k)
            largest = std::isfinite(row[k]) ? std::max(largest, std::fabs(row[k])) : NAN;
        const float scale = static_cast<float>(largest) / 127.0f;
        for (std::size_t k = begin; k < end; ++k) {
            const float quotient = static_cast<float>(row[k]) / scale;
            const double code =
                std::fmin(127.0, std::fmax(-127.0, std::nearbyint(static_cast<double>(quotient))));
            row[k] = scale == 0.0f ? 0.0 : std::isnan(scale) ? NAN : static_cast<double>(scale) * code;
        }
    }
    return row;
}

/// |scale| * code + |offset|, or |w|: what roundings of a kernel that treats codes and offsets apart are
/// proportional to.
[[nodiscard]] inline double weight_magnitude(const QuantizedMatrix& w, std::size_t n, std::size_t k) {
    if (w.format().is_float() || w.format().offset != Offset::real) return std::fabs(weight(w, n, k));
    const std::size_t g = k / w.group_elements();
    return std::fabs(static_cast<double>(w.scale(n, g))) * w.codes.code(n, k) +
           std::fabs(static_cast<double>(w.offset(n, g)));
}

/// y (M, N) = x * W^T + bias, row-major. `magnitudes`, if given, receives sum_k |x| |w| + |bias|: what the
/// rounding errors of any order of summation are proportional to.
[[nodiscard]] inline std::vector<double> matmul(MatrixView<const float> x, const QuantizedMatrix& w,
                                                const ActivationFormat& format,
                                                std::span<const float> bias = {},
                                                std::vector<double>* magnitudes = nullptr) {
    std::vector<std::vector<double>> rows;
    for (std::size_t m = 0; m < x.rows; ++m) rows.push_back(activations(x, m, format));
    std::vector<double> y(x.rows * w.n());
    if (magnitudes != nullptr) magnitudes->assign(y.size(), 0.0);
    std::vector<double> weights(w.k()), sizes(w.k());
    for (std::size_t n = 0; n < w.n(); ++n) {
        for (std::size_t k = 0; k < w.k(); ++k) {
            weights[k] = weight(w, n, k);
            sizes[k] = weight_magnitude(w, n, k);
        }
        for (std::size_t m = 0; m < x.rows; ++m) {
            double sum = bias.empty() ? 0.0 : static_cast<double>(bias[n]), magnitude = std::fabs(sum);
            for (std::size_t k = 0; k < w.k(); ++k) {
                sum += rows[m][k] * weights[k];
                magnitude += std::fabs(rows[m][k]) * sizes[k];
            }
            y[m * w.n() + n] = sum;
            if (magnitudes != nullptr) (*magnitudes)[m * w.n() + n] = magnitude;
        }
    }
    return y;
}

}  // namespace fewbit::inline v0::reference
