// Truth: products in double precision, one loop, nothing clever. Every kernel, the generic ones included, is
// tested against it; it shares with them only the definition of formats.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "fewbit/core/scalar.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::reference {

/// The exact values of row n, and what roundings of a kernel that treats codes and offsets apart are
/// proportional to: |scale level| + |offset|. `integers`: codebooks as products with integer activations read them
/// (formats/codebooks.hpp).
struct WeightRow {
    std::vector<double> values, magnitudes;
};
[[nodiscard]] inline WeightRow weight_row(const QuantizedMatrix& w, std::size_t n, bool integers = false) {
    WeightRow row{std::vector<double>(w.k()), std::vector<double>(w.k())};
    if (w.format().is_float()) {
        std::vector<float> floats(w.k());
        w.dequantize(n, 0, floats);
        for (std::size_t k = 0; k < w.k(); ++k) {
            row.values[k] = static_cast<double>(floats[k]);
            row.magnitudes[k] = std::fabs(row.values[k]);
        }
        return row;
    }
    std::vector<std::uint8_t> codes(w.k());
    w.unpack(n, 0, codes);
    const codebooks::IntegerTable* const table = integers ? w.format().integer_codebook() : nullptr;
    for (std::size_t k = 0; k < w.k(); ++k) {
        const std::size_t g = k / w.group_elements();
        const double level = table != nullptr ? static_cast<double>(table->unit) * table->levels[codes[k]]
                                              : static_cast<double>(w.level(n, g, codes[k]));
        const double product = static_cast<double>(w.scale(n, g)) * level;
        const auto offset = static_cast<double>(w.offset(n, g));
        row.values[k] = product + offset;
        row.magnitudes[k] = std::fabs(product) + std::fabs(offset);
    }
    return row;
}

/// x (M, K) as an activation format represents it (formats/activation_format.hpp).
struct Activations {
    std::vector<double> values;  ///< (M, K)
    std::vector<double> sizes;   ///< (M, K) |scale| (|code| + |zero|): what kernels add up, zero points apart
};

/// How far from those of weight_row(), relative to each, a kernel's weights may be: those that multiply bf16 by bf16 round
/// them to it, unless that is what they are.
[[nodiscard]] inline double weight_rounding(Isa isa, const Format& weights,
                                            const ActivationFormat& activations) noexcept {
    const bool rounds = activations.element == ActivationElement::bf16 && isa == Isa::avx512_bf16 &&
                        !(weights.is_float() && element_scalar(weights) == Scalar::bf16);
    return rounds ? 0x1p-8 : 0;
}

/// `range`: of a static format, finite and not reversed.
[[nodiscard]] inline Activations activations(MatrixView<const float> x, const ActivationFormat& format,
                                             const std::optional<StaticRange>& range = {}) {
    Activations out;
    out.values.resize(x.rows * x.cols);
    out.sizes.resize(x.rows * x.cols);
    const bool exact = format.element != ActivationElement::int8;
    const bool tensor = !exact && format.granularity == Granularity::tensor;
    const std::size_t group = format.group_elements(x.cols);
    const double most = std::ldexp(1.0, format.bits - 1) - 1;
    const double least = format.asymmetric && format.bits < 8 ? -most - 1 : -most;
    for (std::size_t m = 0; m < x.rows; ++m)
        for (std::size_t begin = 0; begin < x.cols; begin += group) {
            const std::size_t end = std::min(begin + group, x.cols);
            if (exact) {
                for (std::size_t k = begin; k < end; ++k) {
                    const float read = format.element == ActivationElement::bf16
                                           ? float_from_bf16(bf16_from_float(x(m, k)))
                                           : x(m, k);
                    out.values[m * x.cols + k] = static_cast<double>(read);
                    out.sizes[m * x.cols + k] = std::fabs(static_cast<double>(read));
                }
                continue;
            }
            // The elements whose range counts: of the group, the row or all of x; of a static format the
            // row's elements are looked at only to find what is not finite.
            double low = 0, high = 0;
            bool finite = true;
            const bool everything = tensor && !format.is_static;
            for (std::size_t r = everything ? 0 : m; r < (everything ? x.rows : m + 1); ++r)
                for (std::size_t k = begin; k < end; ++k) {
                    const auto value = static_cast<double>(x(r, k));
                    finite = finite && std::isfinite(value);
                    low = std::fmin(low, value);
                    high = std::fmax(high, value);
                }
            if (format.is_static && range) {
                low = std::fmin(0.0, static_cast<double>(range->min));
                high = std::fmax(0.0, static_cast<double>(range->max));
            }
            float scale = format.asymmetric
                              ? static_cast<float>((high - low) / (most - least))
                              : static_cast<float>(std::fmax(-low, high)) / static_cast<float>(most);
            if (format.is_static && scale == 0.0f && low != high) scale = 0x1p-149f;
            const double zero =
                format.asymmetric && scale > 0.0f
                    ? std::fmin(most,
                                std::fmax(least, least + std::nearbyint(-low / static_cast<double>(scale))))
                    : 0.0;
            for (std::size_t k = begin; k < end; ++k) {
                const float quotient = x(m, k) / scale;
                const double code =
                    std::fmin(most, std::fmax(least, std::nearbyint(static_cast<double>(quotient)) + zero));
                const double s = static_cast<double>(scale);
                out.values[m * x.cols + k] = !finite ? NAN : scale == 0.0f ? 0.0 : s * (code - zero);
                out.sizes[m * x.cols + k] = !finite         ? NAN
                                            : scale == 0.0f ? 0.0
                                                            : s * (std::fabs(code) + std::fabs(zero));
            }
        }
    return out;
}

/// y (M, N) = x * W^T + bias, row-major. `magnitudes`, if given, receives sum_k |x| |w| + |bias| (of
/// asymmetric activations with |code| + |zero| for |code - zero|): what the rounding errors of any order of
/// summation are proportional to. `range`: of static activations.
[[nodiscard]] inline std::vector<double> matmul(MatrixView<const float> x, const QuantizedMatrix& w,
                                                const ActivationFormat& format,
                                                std::span<const float> bias = {},
                                                std::vector<double>* magnitudes = nullptr,
                                                const std::optional<StaticRange>& range = {}) {
    const Activations read = activations(x, format, range);
    std::vector<double> y(x.rows * w.n());
    if (magnitudes != nullptr) magnitudes->assign(y.size(), 0.0);
    for (std::size_t n = 0; n < w.n(); ++n) {
        const auto [weights, sizes] = weight_row(w, n, format.element == ActivationElement::int8);
        for (std::size_t m = 0; m < x.rows; ++m) {
            double sum = bias.empty() ? 0.0 : static_cast<double>(bias[n]), magnitude = std::fabs(sum);
            for (std::size_t k = 0; k < w.k(); ++k) {
                sum += read.values[m * w.k() + k] * weights[k];
                magnitude += read.sizes[m * w.k() + k] * sizes[k];
            }
            y[m * w.n() + n] = sum;
            if (magnitudes != nullptr) (*magnitudes)[m * w.n() + n] = magnitude;
        }
    }
    return y;
}

}  // namespace fewbit::inline v0::reference
