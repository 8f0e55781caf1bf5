// Linear: one linear layer as methods return it, files hold it and models run it:
//
//   y = T(x) * W^T  +  x[:, columns] * F^T  +  bias
//
//   T        optional input transform: first rotate runs of channels, then reorder them, then divide each by its scale
//   W        QuantizedMatrix (N, K)
//   F        optional float columns (N, C): input channels that are kept in full (their codes in W stand
//            for zero, and integer activations are rounded as if x were zero there)
//   bias     optional f32 (N)
// Everything optional is empty when absent, and everything counts in the bits per weight.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/formats/hadamard.hpp"
#include "fewbit/formats/quantized_matrix.hpp"

namespace fewbit::inline v0 {

/// What happens to x before it meets the codes: T(x)[k] = (x Q)[permutation[k]] / channel_scales[k].
/// (Rotations that no other matrix could absorb; act-order permutations; SmoothQuant and AWQ scales.)
struct InputTransform {
    std::uint32_t hadamard = 0;              ///< order of Q, in blocks: divides K (hadamard.hpp); 0: no Q
    std::vector<float> channel_scales;       ///< (K) or empty; positive
    std::vector<std::uint32_t> permutation;  ///< (K) or empty; a permutation of 0..K-1

    [[nodiscard]] bool reorders_or_scales() const noexcept {
        return !channel_scales.empty() || !permutation.empty();
    }
    [[nodiscard]] bool empty() const noexcept { return hadamard == 0 && !reorders_or_scales(); }
};

/// Input channels that stay in floating point (outliers), outside the transform's order: indices into x Q.
struct FloatColumns {
    std::vector<std::uint32_t> channels;  ///< (C) ascending indices into x Q
    QuantizedMatrix values;               ///< (N, C) of a float format

    [[nodiscard]] bool empty() const noexcept { return channels.empty(); }
};

struct Linear {
    QuantizedMatrix weights;  ///< (N, K)
    InputTransform transform;
    FloatColumns columns;
    std::vector<float> bias;  ///< (N) or empty

    [[nodiscard]] std::size_t n() const noexcept { return weights.n(); }
    [[nodiscard]] std::size_t k() const noexcept { return weights.k(); }

    /// Bits of all that is stored, without row padding.
    [[nodiscard]] double total_bits() const noexcept {
        double bits = fewbit::total_bits(weights.format(), n(), k());
        bits += 32.0 * static_cast<double>(transform.channel_scales.size() + transform.permutation.size() +
                                           (transform.hadamard == 0 ? 0 : 1) + columns.channels.size() +
                                           bias.size());
        if (!columns.empty())
            bits += fewbit::total_bits(columns.values.format(), columns.values.n(), columns.values.k());
        return bits;
    }
    /// Effective bits per weight: total_bits() over N * K; 0 for an empty layer.
    [[nodiscard]] double bits_per_weight() const noexcept {
        const double count = static_cast<double>(n()) * static_cast<double>(k());
        return count == 0.0 ? 0.0 : total_bits() / count;
    }
};

/// Row r of the matrix that a layer multiplies x Q with, out (K): codes in the order of x Q, divided by the channel scales,
/// and float columns.
inline void dequantize_row(const Linear& linear, std::size_t r, std::span<float> out) {
    const auto& [hadamard, scales, permutation] = linear.transform;
    if (!linear.transform.reorders_or_scales()) {
        linear.weights.dequantize(r, 0, out);
    } else {
        std::vector<float> row(out.size());
        linear.weights.dequantize(r, 0, row);
        for (std::size_t k = 0; k < row.size(); ++k)
            out[permutation.empty() ? k : permutation[k]] = scales.empty() ? row[k] : row[k] / scales[k];
    }
    for (std::size_t c = 0; c < linear.columns.channels.size(); ++c) {
        float value = 0;
        linear.columns.values.dequantize(r, c, {&value, 1});
        out[linear.columns.channels[c]] += value;
    }
}

/// All rows: (N, K).
[[nodiscard]] inline Matrix dequantized(const Linear& linear) {
    Matrix out(linear.n(), linear.k());
    for (std::size_t r = 0; r < out.rows(); ++r) dequantize_row(linear, r, out.row(r));
    return out;
}

/// What changes float models, before anything is quantized, starts with this. Error: bad_input, a sentence about
/// `tensor` that ends in `why`, where the layer has codes, an input transform or float columns.
[[nodiscard]] inline Result<void> expect_plain_floats(const Linear& linear, std::string_view tensor,
                                                      std::string_view why) {
    const Format& format = linear.weights.format();
    const bool more = !linear.transform.empty() || !linear.columns.empty();
    if (format.is_float() && !more) return {};
    return fail(ErrorKind::bad_input, "matrix '", tensor, "' is ", name(format),
                more ? " with an input transform or float columns" : "", "; ", why);
}

/// The weights (N, K) of a layer that passes expect_plain_floats.
[[nodiscard]] inline Result<Matrix> plain_floats(const Linear& linear, std::string_view tensor,
                                                 std::string_view why) {
    if (auto plain = expect_plain_floats(linear, tensor, why); !plain)
        return Unexpected{std::move(plain).error()};
    return dequantized(linear);
}

/// x Q for each row of x (M, K). Precondition: the order divides K.
[[nodiscard]] inline Matrix rotated(const Hadamard& q, MatrixView<const float> x) {
    Matrix out(x.rows, x.cols);
    for (std::size_t m = 0; m < x.rows; ++m) {
        std::copy_n(x.row(m).data(), x.cols, out.row(m).data());
        q.apply(out.row(m));
    }
    return out;
}

/// The rest of T: x Q (M, K) in another order, divided by scales. Precondition: a transform for K channels.
[[nodiscard]] inline Matrix reordered_and_scaled(const InputTransform& transform, MatrixView<const float> x) {
    Matrix out(x.rows, x.cols);
    for (std::size_t m = 0; m < x.rows; ++m)
        for (std::size_t k = 0; k < x.cols; ++k) {
            const float value = x(m, transform.permutation.empty() ? k : transform.permutation[k]);
            out(m, k) = transform.channel_scales.empty() ? value : value / transform.channel_scales[k];
        }
    return out;
}

/// x (M, K) with zeros in some channels. Precondition: they are below K.
[[nodiscard]] inline Matrix with_cleared(MatrixView<const float> x, std::span<const std::uint32_t> channels) {
    Matrix out(x.rows, x.cols);
    for (std::size_t m = 0; m < x.rows; ++m) {
        std::copy_n(x.row(m).data(), x.cols, out.row(m).data());
        for (const std::uint32_t channel : channels) out(m, channel) = 0;
    }
    return out;
}

/// What the codes of a layer are multiplied with: T(x), without the channels that float columns count in full.
[[nodiscard]] inline Matrix codes_read(const Linear& linear, MatrixView<const float> x) {
    Matrix turned;
    if (linear.transform.hadamard != 0) {
        turned = rotated(*Hadamard::create(linear.transform.hadamard), x);
        x = std::as_const(turned).view();
    }
    Matrix cleared = with_cleared(x, linear.columns.channels);
    return linear.transform.reorders_or_scales()
               ? reordered_and_scaled(linear.transform, std::as_const(cleared).view())
               : std::move(cleared);
}

/// Says why a transform, or float columns, do not fit a layer of K input channels.
[[nodiscard]] inline Result<void> validate_input(const InputTransform& transform, const FloatColumns& columns,
                                                 std::size_t k) {
    const auto& [hadamard, scales, permutation] = transform;
    if (hadamard != 0) {
        if (auto q = Hadamard::create(hadamard); !q) return Unexpected{std::move(q).error()};
        if (k % hadamard != 0)
            return fail(ErrorKind::bad_input, "its Hadamard transform of order ", hadamard,
                        " does not divide ", k, " channels");
    }
    if (!scales.empty() && scales.size() != k)
        return fail(ErrorKind::bad_input, "it has ", scales.size(), " channel scales, not ", k);
    for (std::size_t i = 0; i < scales.size(); ++i)
        if (!std::isfinite(scales[i]) || scales[i] <= 0.0f)
            return fail(ErrorKind::bad_input, "channel scale ", i, " is ", scales[i],
                        ", not a positive number");
    if (!permutation.empty() && permutation.size() != k)
        return fail(ErrorKind::bad_input, "its permutation has ", permutation.size(), " entries, not ", k);
    std::vector<bool> seen(permutation.size());
    for (std::size_t i = 0; i < permutation.size(); ++i) {
        if (permutation[i] >= k || seen[permutation[i]])
            return fail(ErrorKind::bad_input, "entry ", i, " of its permutation is ", permutation[i],
                        permutation[i] >= k ? ", out of range" : ", which stands there twice");
        seen[permutation[i]] = true;
    }
    const auto& channels = columns.channels;
    for (std::size_t i = 0; i < channels.size(); ++i)
        if (channels[i] >= k || (i > 0 && channels[i] <= channels[i - 1]))
            return fail(ErrorKind::bad_input, "float column ", i, " is channel ", channels[i],
                        "; channels ascend and lie below ", k);
    return {};
}

/// Says why the parts of a layer do not fit each other.
[[nodiscard]] inline Result<void> validate(const Linear& linear) {
    const std::size_t n = linear.n(), k = linear.k();
    const auto bad = [&](const auto&... why) {
        return fail(ErrorKind::bad_input, "a layer of ", n, " x ", k, ": ", why...);
    };
    const FloatColumns& columns = linear.columns;
    if (auto fits = validate_input(linear.transform, columns, k); !fits) return bad(fits.error().message);
    if (!columns.empty() && (columns.values.n() != n || columns.values.k() != columns.channels.size() ||
                             !columns.values.format().is_float()))
        return bad("its ", columns.channels.size(), " float columns have values of ", columns.values.n(),
                   " x ", columns.values.k(), " ", name(columns.values.format()));
    if (!linear.bias.empty() && linear.bias.size() != n)
        return bad("its bias has ", linear.bias.size(), " elements");
    return {};
}

}  // namespace fewbit::inline v0
