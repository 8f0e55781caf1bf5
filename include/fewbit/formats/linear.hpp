// Linear: one linear layer as methods return it, files hold it and models run it:
//
//   y = T(x) * W^T  +  x[:, columns] * F^T  +  bias
//
//   T        optional input transform: first reorder the channels, then divide each by its scale
//   W        QuantizedMatrix (N, K)
//   F        optional float columns (N, C): input channels that are kept in full (their codes in W stand
//            for zero)
//   bias     optional f32 (N)
// Everything optional is empty when absent, and everything counts in the bits per weight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fewbit/formats/quantized_matrix.hpp"

namespace fewbit::inline v0 {

/// What happens to x before it meets the codes: T(x)[k] = x[permutation[k]] / channel_scales[k].
/// (SmoothQuant and AWQ scales that no norm could absorb; act-order permutations.)
struct InputTransform {
    std::vector<float> channel_scales;       ///< (K) or empty; positive
    std::vector<std::uint32_t> permutation;  ///< (K) or empty; a permutation of 0..K-1

    [[nodiscard]] bool empty() const noexcept { return channel_scales.empty() && permutation.empty(); }
};

/// T(x) of x (M, K). Precondition: the transform is for K channels.
[[nodiscard]] inline Matrix transformed(const InputTransform& transform, MatrixView<const float> x) {
    Matrix out(x.rows, x.cols);
    for (std::size_t m = 0; m < x.rows; ++m)
        for (std::size_t k = 0; k < x.cols; ++k) {
            const float value = x(m, transform.permutation.empty() ? k : transform.permutation[k]);
            out(m, k) = transform.channel_scales.empty() ? value : value / transform.channel_scales[k];
        }
    return out;
}

/// Input channels that stay in floating point (outliers), outside the transform's order: indices into x
/// itself.
struct FloatColumns {
    std::vector<std::uint32_t> channels;  ///< (C) ascending indices into x
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
                                           columns.channels.size() + bias.size());
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

}  // namespace fewbit::inline v0
