// Definitions of channel_scales.hpp.
#include "fewbit/quantize/channel_scales.hpp"

#include <utility>

namespace fewbit::inline v0 {

Matrix scaled_columns(MatrixView<const float> w, std::span<const float> scales) {
    Matrix out(w.rows, w.cols);
    for (std::size_t r = 0; r < w.rows; ++r)
        for (std::size_t k = 0; k < w.cols; ++k) out(r, k) = w(r, k) * scales[k];
    return out;
}

Result<TensorStatistics> scaled_statistics(const TensorStatistics& statistics,
                                           std::span<const float> scales) {
    TensorStatistics out = statistics;
    for (std::size_t k = 0; k < scales.size(); ++k) {
        const auto s = static_cast<double>(scales[k]);
        out.channel_ranges[k] = {out.channel_ranges[k].min / scales[k],
                                 out.channel_ranges[k].max / scales[k]};
        out.sum_abs[k] /= s;
        out.sum_square[k] /= s * s;
    }
    for (Tensor TensorStatistics::*square :
         {&TensorStatistics::hessian_sum, &TensorStatistics::asymmetry_sum}) {
        const Tensor& from = statistics.*square;
        if (from.elements() == 0) continue;
        auto to = Tensor::allocate(Scalar::f64, from.shape());
        if (!to) return Unexpected{std::move(to).error()};
        const auto a = from.as<double>();
        const auto b = to->as_mutable<double>();
        for (std::size_t i = 0; i < scales.size(); ++i)
            for (std::size_t j = 0; j < scales.size(); ++j)
                b[i * scales.size() + j] = a[i * scales.size() + j] /
                                           (static_cast<double>(scales[i]) * static_cast<double>(scales[j]));
        out.*square = *std::move(to);
    }
    return out;
}

}  // namespace fewbit::inline v0
