// Definitions of awq.hpp.
#include "fewbit/quantize/awq.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/quantize/rounding.hpp"
#include "fewbit/quantize/row_blocks.hpp"
#include "src/quantize/subtract_product.hpp"

namespace fewbit::inline v0 {
namespace {

using namespace detail;

[[nodiscard]] Result<void> check(std::span<const MatrixView<const float>> readers,
                                 const TensorStatistics& statistics, const AwqOptions& options,
                                 TiedChannels tied) {
    const std::string prefix = tensor_prefix(options.tensor);
    if (readers.empty())
        return fail(ErrorKind::bad_input, prefix, "awq needs a matrix that reads the channels");
    const std::size_t k = readers[0].cols;
    for (const auto& w : readers)
        if (w.cols != k)
            return fail(ErrorKind::bad_input, prefix, "matrices of ", k, " and of ", w.cols,
                        " input channels do not read the same input");
    if (statistics.tokens == 0 || statistics.channels() != k ||
        statistics.hessian_sum.shape() != Tensor::Shape{k, k})
        return fail(ErrorKind::bad_input, prefix, "awq needs statistics of ", k,
                    " channels with a Hessian; these have ", statistics.channels(), " channels, ",
                    statistics.tokens, " tokens and ",
                    statistics.hessian_sum.elements() == 0 ? "no Hessian" : "one");
    for (const double value : statistics.hessian_sum.as<double>())
        if (!std::isfinite(value)) return fail(ErrorKind::bad_input, prefix, "the Hessian is not finite");
    if (options.steps < 1 || options.steps > 1000)
        return fail(ErrorKind::bad_input, prefix, "awq options are out of range: steps ", options.steps,
                    " (1 to 1000)");
    if (!tied.empty() && tied.size() != k)
        return fail(ErrorKind::bad_input, prefix, tied.size(), " classes of channels for ", k, " channels");
    return {};
}

/// Rows of all readers on which scales are tried.
[[nodiscard]] Matrix sample_of(std::span<const MatrixView<const float>> readers, std::size_t wanted) {
    std::size_t all = 0;
    for (const auto& w : readers) all += w.rows;
    const std::size_t count = wanted == 0 ? all : std::min(all, wanted);
    Matrix sample(count, readers[0].cols);
    std::size_t reader = 0, before = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t row = i * all / count;
        while (row >= before + readers[reader].rows) before += readers[reader++].rows;
        std::ranges::copy(readers[reader].row(row - before), sample.row(i).begin());
    }
    return sample;
}

/// Means over the channels of a class; `values` (K).
void share(std::vector<double>& values, TiedChannels tied) {
    if (tied.empty()) return;
    const std::size_t classes = 1 + *std::max_element(tied.begin(), tied.end());
    std::vector<double> sums(classes), counts(classes);
    for (std::size_t k = 0; k < values.size(); ++k) sums[tied[k]] += values[k], counts[tied[k]] += 1;
    for (std::size_t k = 0; k < values.size(); ++k) values[k] = sums[tied[k]] / counts[tied[k]];
}

/// mean over rows of |w_k| / absmax of its group
[[nodiscard]] std::vector<double> weight_means(const Matrix& w, std::size_t group) {
    std::vector<double> means(w.cols());
    for (std::size_t r = 0; r < w.rows(); ++r)
        for (std::size_t first = 0; first < w.cols(); first += group) {
            const std::size_t last = std::min(w.cols(), first + group);
            double largest = 0;
            for (std::size_t k = first; k < last; ++k)
                largest = std::max(largest, std::abs(static_cast<double>(w(r, k))));
            for (std::size_t k = first; k < last && largest > 0; ++k)
                means[k] +=
                    std::abs(static_cast<double>(w(r, k))) / (largest * static_cast<double>(w.rows()));
        }
    return means;
}

/// s over sqrt(max s min s), in f32; channels that were never other than zero have 1.
[[nodiscard]] std::vector<float> centred(const std::vector<double>& s, const TensorStatistics& statistics) {
    double low = std::numeric_limits<double>::infinity(), high = 0;
    for (std::size_t k = 0; k < s.size(); ++k)
        if (statistics.sum_abs[k] > 0) low = std::min(low, s[k]), high = std::max(high, s[k]);
    const double centre = std::sqrt(low) * std::sqrt(high);
    std::vector<float> out(s.size(), 1.0f);
    for (std::size_t k = 0; k < s.size(); ++k)
        if (statistics.sum_abs[k] > 0 && centre > 0 && std::isfinite(centre))
            out[k] = static_cast<float>(std::clamp(s[k] / centre, 1e-4, 1e4));
    return out;
}

/// sum over rows of e H e^T, H of the statistics times their tokens; in parts of rows, in their order.
[[nodiscard]] double energy(const Matrix& e, std::span<const double> h, ExecutionContext context) {
    constexpr std::size_t part = 32;
    const std::size_t k = e.cols(), parts = ceil_div(e.rows(), part);
    std::vector<double> sums(parts);
    context.parallel_for(parts, [&](std::size_t p, std::size_t) {
        const std::size_t first = p * part, count = std::min(part, e.rows() - first);
        std::vector<double> rows(count * k), product(count * k);
        for (std::size_t i = 0; i < count * k; ++i) rows[i] = static_cast<double>(e.values()[first * k + i]);
        subtract_product({product.data(), k, rows.data(), k, h.data(), k, count, k, k});
        for (std::size_t i = 0; i < count * k; ++i) sums[p] -= product[i] * rows[i];
    });
    double sum = 0;
    for (const double one : sums) sum += one;
    return std::max(sum, 0.0);
}

[[nodiscard]] std::vector<float> importance_of(const TensorStatistics& statistics) {
    std::vector<float> importance(statistics.channels());
    for (std::size_t k = 0; k < importance.size(); ++k)
        importance[k] = static_cast<float>(statistics.mean_square(k));
    return importance;
}

}  // namespace

Result<ChannelScales> awq_scales(std::span<const MatrixView<const float>> readers,
                                 const TensorStatistics& statistics, const Format& format,
                                 const AwqOptions& options, TiedChannels tied, ExecutionContext context) {
    if (auto valid = check(readers, statistics, options, tied); !valid)
        return Unexpected{std::move(valid).error()};
    const std::size_t k = readers[0].cols;
    ChannelScales best;
    best.scales.assign(k, 1.0f);
    best.how = "none";
    const Matrix w = sample_of(readers, options.rows);
    const auto h = statistics.hessian_sum.as<double>();
    const double outputs = energy(w, h, context);
    if (w.rows() == 0 || k == 0 || outputs == 0) return best;

    // Clipped as it will be, with a coarser search: scales that suit unclipped groups are not those that suit clipped ones.
    MseOptions clip = options.grid;
    clip.tensor = options.tensor;
    clip.steps = std::min(clip.steps, 20);
    const auto loss_of = [&](std::span<const float> scales) -> Result<double> {
        const Matrix scaled = scaled_columns(w.view(), scales);
        std::vector<float> importance = importance_of(statistics);
        for (std::size_t c = 0; c < k; ++c) importance[c] /= scales[c] * scales[c];
        clip.importance = importance;
        auto rounded = quantize_mse(scaled.view(), format, clip, context);
        if (!rounded) return Unexpected{std::move(rounded).error()};
        Matrix e(w.rows(), k);
        for (std::size_t r = 0; r < w.rows(); ++r) {
            rounded->linear.weights.dequantize(r, 0, e.row(r));
            for (std::size_t c = 0; c < k; ++c) e(r, c) = e(r, c) / scales[c] - w(r, c);
        }
        return energy(e, h, context) / outputs;
    };
    auto loss = loss_of(best.scales);
    if (!loss) return Unexpected{std::move(loss).error()};
    best.loss_before = best.loss_after = *loss;

    std::vector<double> x(k),
        weights = weight_means(w, format.is_block() ? format.group : format.group_elements(k));
    for (std::size_t c = 0; c < k; ++c) x[c] = statistics.mean_abs(c);
    share(x, tied);
    share(weights, tied);
    for (const bool duo : {false, true})
        for (int i = duo ? 0 : 1; i < options.steps; ++i) {
            const double r = static_cast<double>(i) / options.steps;
            std::vector<double> s(k);
            for (std::size_t c = 0; c < k; ++c) {
                s[c] = std::max(power(x[c], r), 1e-4);
                if (duo) s[c] /= power(weights[c], 1 - r) + 1e-4;
            }
            std::vector<float> scales = centred(s, statistics);
            loss = loss_of(scales);
            if (!loss) return Unexpected{std::move(loss).error()};
            if (!(*loss < best.loss_after)) continue;
            best.loss_after = *loss;
            best.scales = std::move(scales);
            best.how = duo ? text("|x|^", r, " / |w|^", 1 - r) : text("|x|^", r);
        }
    return best;
}

Result<Quantized> quantize_awq_clip(MatrixView<const float> w, const TensorStatistics& statistics,
                                    const Format& format, const AwqOptions& options,
                                    ExecutionContext context) {
    const std::vector<float> importance = importance_of(statistics);
    MseOptions grid = options.grid;
    grid.tensor = options.tensor;
    grid.importance = importance;
    auto done = quantize_mse(w, format, grid, context);
    if (done) done->report.method = "awq";
    return done;
}

Result<Quantized> quantize_awq(MatrixView<const float> w, const TensorStatistics& statistics,
                               const Format& format, const AwqOptions& options, ExecutionContext context) {
    auto scales = awq_scales({&w, 1}, statistics, format, options, {}, context);
    if (!scales) return Unexpected{std::move(scales).error()};
    const Matrix scaled = scaled_columns(w, scales->scales);
    auto divided = scaled_statistics(statistics, scales->scales);
    if (!divided) return Unexpected{std::move(divided).error()};
    auto done = quantize_awq_clip(scaled.view(), *divided, format, options, context);
    if (!done) return done;
    if (std::ranges::all_of(scales->scales, [](float s) { return s == 1; })) return done;
    done->linear.transform.channel_scales = std::move(scales->scales);
    detail::replace_errors(done->report, measure_error(w, done->linear, context));
    return done;
}

}  // namespace fewbit::inline v0
