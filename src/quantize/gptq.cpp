// Definitions of gptq.hpp: the statistics made into a factor, and rows of weights run through error_feedback.hpp.
#include "fewbit/quantize/gptq.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include "src/quantize/damped_factor.hpp"
#include "src/quantize/error_feedback.hpp"

namespace fewbit::inline v0 {
namespace {

using namespace detail;

[[nodiscard]] Result<void> check(const TensorStatistics& statistics, std::size_t k,
                                 const GptqOptions& options) {
    const std::string prefix = tensor_prefix(options.tensor);
    if (!(options.damping >= 0) || !(options.damping <= 1e6) || !(options.asymmetry >= 0) ||
        !(options.asymmetry <= 1))
        return fail(ErrorKind::bad_input, prefix, "gptq options are out of range: damping ", options.damping,
                    " (0 to 1e6), asymmetry ", options.asymmetry, " (0 to 1)");
    if (const Tensor::Shape square{k, k}; statistics.hessian_sum.shape() != square || statistics.tokens == 0)
        return fail(ErrorKind::bad_input, prefix, "gptq needs a Hessian of ", k, " x ", k,
                    " from calibration; the statistics have ",
                    statistics.hessian_sum.elements() == 0
                        ? std::string("none")
                        : text("one of ", shape_text(statistics.hessian_sum.shape()), " and ",
                               statistics.tokens, " tokens"));
    const auto h = statistics.hessian_sum.as<double>();
    for (std::size_t i = 0; i < h.size(); ++i)
        if (!std::isfinite(h[i]) || (i % (k + 1) == 0 && h[i] < 0))
            return fail(ErrorKind::bad_input, prefix, "the Hessian is ",
                        std::isnan(h[i]) ? std::string("NaN") : text(h[i]), " at [", i / k, ", ", i % k, "]");
    return {};
}

/// Columns in the order in which they are rounded.
[[nodiscard]] std::vector<std::uint32_t> order_of(const TensorStatistics& statistics, std::size_t k,
                                                  std::size_t unit, ColumnOrder wanted) {
    const auto h = statistics.hessian_sum.as<double>();
    const auto larger = [&](std::uint32_t a, std::uint32_t b) { return h[a * k + a] > h[b * k + b]; };
    std::vector<std::uint32_t> order(k);
    std::iota(order.begin(), order.end(), 0u);
    if (wanted == ColumnOrder::natural) return order;
    if (wanted != ColumnOrder::group_aware) {
        std::stable_sort(order.begin(), order.end(), larger);
        return order;
    }
    // Whole units only: a short one stays the last.
    const std::size_t units = k / unit;
    std::vector<std::uint32_t> first(units);
    for (std::size_t u = 0; u < units; ++u) {
        std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(u * unit),
                         order.begin() + static_cast<std::ptrdiff_t>((u + 1) * unit), larger);
        first[u] = static_cast<std::uint32_t>(u);
    }
    std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(units * unit), order.end(), larger);
    std::stable_sort(first.begin(), first.end(), [&](std::uint32_t a, std::uint32_t b) {
        return larger(order[a * unit], order[b * unit]);
    });
    std::vector<std::uint32_t> grouped;
    for (const std::uint32_t u : first)
        grouped.insert(grouped.end(), order.begin() + static_cast<std::ptrdiff_t>(u * unit),
                       order.begin() + static_cast<std::ptrdiff_t>((u + 1) * unit));
    grouped.insert(grouped.end(), order.begin() + static_cast<std::ptrdiff_t>(units * unit), order.end());
    return grouped;
}

template <class Grids>
[[nodiscard]] std::string round_all(const FeedbackPlan& plan, MatrixView<const float> w, QuantizedMatrix& out,
                                    ExecutionContext context) {
    const std::size_t task_rows = rows_of_task(out.n(), context), k = out.k();
    const std::size_t tasks = ceil_div(out.n(), task_rows);
    std::vector<std::string> errors(tasks);
    context.parallel_for(tasks, [&](std::size_t task, std::size_t) {
        const std::size_t first = task * task_rows, last = std::min(out.n(), first + task_rows);
        std::vector<double> rows((last - first) * k);
        for (std::size_t r = first; r < last; ++r)
            for (std::size_t i = 0; i < k; ++i)
                rows[(r - first) * k + i] = static_cast<double>(w(r, plan.order[i]));
        errors[task] = round_rows<Grids>(plan, out, first, last, rows);
    });
    for (std::string& error : errors)
        if (!error.empty()) return std::move(error);
    return {};
}

/// With columns, or rows and columns, in `order`.
[[nodiscard]] Matrix permuted(MatrixView<const float> w, std::span<const std::uint32_t> order) {
    Matrix out(w.rows, w.cols);
    for (std::size_t r = 0; r < w.rows; ++r)
        for (std::size_t i = 0; i < w.cols; ++i) out(r, i) = w(r, order[i]);
    return out;
}
[[nodiscard]] Result<Tensor> permuted(const Tensor& square, std::span<const std::uint32_t> order) {
    if (square.elements() == 0) return square;
    const std::size_t k = order.size();
    auto out = Tensor::allocate(Scalar::f64, {k, k});
    if (!out) return out;
    const auto from = square.as<double>();
    const auto to = out->as_mutable<double>();
    for (std::size_t i = 0; i < k; ++i)
        for (std::size_t j = 0; j < k; ++j) to[i * k + j] = from[order[i] * k + order[j]];
    return out;
}

/// The same problem with permuted columns in natural order; the Linear permutes its input back.
[[nodiscard]] Result<Quantized> quantize_permuted(MatrixView<const float> w,
                                                  const TensorStatistics& statistics, const Format& format,
                                                  GptqOptions options, ExecutionContext context) {
    const auto order = order_of(statistics, w.cols, 1, ColumnOrder::activation);
    TensorStatistics sorted;
    sorted.tokens = statistics.tokens;
    for (auto part : {&TensorStatistics::hessian_sum, &TensorStatistics::asymmetry_sum}) {
        auto moved = permuted(statistics.*part, order);
        if (!moved) return Unexpected{std::move(moved).error()};
        sorted.*part = *std::move(moved);
    }
    options.order = ColumnOrder::natural;
    const Matrix moved = permuted(w, order);
    auto done = quantize_gptq(moved.view(), sorted, format, options, context);
    if (done) done->linear.transform.permutation = order;
    if (done) done->report.bits_per_weight = done->linear.bits_per_weight();
    return done;
}

}  // namespace

Result<Quantized> quantize_gptq(MatrixView<const float> w, const TensorStatistics& statistics,
                                const Format& format, const GptqOptions& options, ExecutionContext context) {
    if (auto valid = validate(format); !valid) return Unexpected{std::move(valid).error()};
    if (auto valid = check(statistics, w.cols, options); !valid) return Unexpected{std::move(valid).error()};
    MseOptions grid = options.grid;
    grid.tensor = options.tensor;
    std::vector<float> importance(format.is_block() ? w.cols : 0);
    for (std::size_t i = 0; i < importance.size(); ++i)
        importance[i] = static_cast<float>(statistics.hessian_sum.as<double>()[i * (w.cols + 1)] /
                                           static_cast<double>(statistics.tokens));
    grid.importance = importance;
    const bool one_grid = !format.is_block() && format.granularity != Granularity::group;
    if (options.order == ColumnOrder::permuted && !one_grid && !format.is_float())
        return quantize_permuted(w, statistics, format, options, context);

    const std::size_t k = w.cols;
    if (format.is_float() || w.rows == 0 || k == 0) {
        auto rounded = quantize_mse(w, format, grid, context);
        if (rounded) rounded->report.method = "gptq";
        return rounded;
    }
    if (auto finite = check_finite(w, options.tensor, context); !finite)
        return Unexpected{std::move(finite).error()};
    const bool by_activation =
        options.order == ColumnOrder::activation || options.order == ColumnOrder::permuted;
    const std::size_t unit =
        format.is_block() ? ggml::traits(format.block).elements : format.group_elements(k);
    const auto order = order_of(statistics, k, unit, options.order);
    DampedFactor factorization(statistics, order);
    const auto damping = factorization.run(options.damping, context);
    const bool moves = damping && statistics.asymmetry_sum.elements() != 0 && options.asymmetry > 0;
    const Matrix moved =
        moves ? moved_target(w, statistics, options.asymmetry, factorization.factor(), order, context)
              : Matrix();
    const MatrixView<const float> target = moves ? moved.view() : w;

    const bool refits = damping && !options.static_groups && !by_activation && !one_grid;
    // Grids of the weights as they came: what remains where there is no way to compensate, and what is not worth a search
    // where each group's is found again.
    MseOptions start = grid;
    if (refits) start.max_shrink = 0;
    auto done = quantize_mse(target, format, start, context);
    if (!done) return done;
    QuantizeReport& report = done->report;
    report.method = "gptq";
    report.dead_channels = factorization.dead();
    const std::string prefix = tensor_prefix(options.tensor);
    if (!damping) {
        report.notes.push_back(text(prefix, "no damping gave the Hessian a factor",
                                    report.dead_channels == k ? " (all inputs were zero)" : "",
                                    ": rounded by mse"));
        return done;
    }
    const auto search = ClipSearch::over(grid.steps, grid.max_shrink, grid.exponent);
    const FeedbackPlan plan{factorization.factor(), order, refits, {search, importance}};
    QuantizedMatrix& out = done->linear.weights;
    const std::string why = format.is_block() ? round_all<BlockGrids>(plan, target, out, context)
                                              : round_all<PlainGrids>(plan, target, out, context);
    if (!why.empty()) return fail(ErrorKind::bad_input, prefix, why);

    replace_errors(report, measure_error(w, out, context));
    report.damping = damping->share;
    if (!damping->note.empty()) report.notes.push_back(prefix + damping->note);
    if (statistics.tokens < k)
        report.notes.push_back(text(prefix, statistics.tokens, " tokens for ", k,
                                    " channels: the Hessian has a rank of at most ", statistics.tokens));
    return done;
}

}  // namespace fewbit::inline v0
