// Definitions of gptq.hpp: the statistics made into a factor, and rows of weights run through error_feedback.hpp.
#include "fewbit/quantize/gptq.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include "src/quantize/error_feedback.hpp"
#include "src/quantize/inverse_factor.hpp"

namespace fewbit::inline v0 {
namespace {

using namespace detail;

/// Rows of a task: enough to use what is packed for them often, but work for every thread. (Bits do not depend on it.)
[[nodiscard]] std::size_t rows_of_task(std::size_t n, ExecutionContext context) {
    return std::clamp<std::size_t>(n / (4 * context.workers()) / 4 * 4, 16, 128);
}

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

/// What was added to the diagonal, and how it went.
struct Damping {
    double share = 0;  ///< of the mean diagonal
    std::string note;  ///< where the wanted share did not do
};

class Factorization {
public:
    Factorization(const TensorStatistics& statistics, std::span<const std::uint32_t> order)
        : sum_(statistics.hessian_sum.as<double>()),
          order_(order),
          k_(order.size()),
          tokens_(static_cast<double>(statistics.tokens)),
          factor_(k_ * k_) {
        double trace = 0;
        for (std::size_t i = 0; i < k_; ++i) {
            const double h = diagonal(i);
            trace += h;
            largest_ = std::max(largest_, h);
            dead_ += h == 0;
        }
        mean_ = k_ == 0 ? 0 : trace / static_cast<double>(k_);
    }

    /// Fills factor(); nothing: no damping of the ladder (gptq.hpp) was enough.
    [[nodiscard]] std::optional<Damping> run(double damping, ExecutionContext context) {
        if (mean_ == 0) return std::nullopt;
        for (int step = 0; step <= 10; ++step) {
            const double share = damping + 0.01 * step;
            if (!attempt(share * mean_, context)) continue;
            return Damping{share, step == 0 ? std::string()
                                            : text("the Hessian had no factor with damping ", damping,
                                                   "; it has one with ", share)};
        }
        for (double floor = 1e-6 * largest_; floor <= 0.11 * largest_; floor *= 10) {
            const double added = (damping + 0.1) * mean_ + floor;
            if (attempt(added, context))
                return Damping{added / mean_, text("the Hessian had no factor with damping ", damping + 0.1,
                                                   "; ", floor, " were added to its diagonal")};
        }
        return std::nullopt;
    }

    [[nodiscard]] std::span<const double> factor() const noexcept { return factor_; }
    [[nodiscard]] std::size_t dead() const noexcept { return dead_; }

private:
    [[nodiscard]] double diagonal(std::size_t i) const noexcept { return sum_[i * k_ + i] / tokens_; }

    [[nodiscard]] bool attempt(double added, ExecutionContext context) {
        context.parallel_for(k_, [&](std::size_t i, std::size_t) {
            const std::size_t from = order_[i];
            double* const row = factor_.data() + i * k_;
            for (std::size_t j = 0; j < k_; ++j) {
                const std::size_t to = order_[j];  // of a symmetric matrix one triangle counts
                row[j] = sum_[std::min(from, to) * k_ + std::max(from, to)] / tokens_;
            }
            // A channel that was always zero has zeros in its row and column: with 1 it stands alone.
            row[i] = (row[i] == 0 ? 1.0 : row[i]) + added;
        });
        return invert_to_factor(factor_, k_, context);
    }

    std::span<const double> sum_;
    std::span<const std::uint32_t> order_;
    std::size_t k_;
    double tokens_, mean_ = 0, largest_ = 0;
    std::size_t dead_ = 0;
    std::vector<double> factor_;
};

/// W + share W D H^-1: what the weights would have to be to undo what their inputs have lost (gptq.hpp).
[[nodiscard]] Matrix compensated(MatrixView<const float> w, std::span<const double> asymmetry_sum,
                                 double tokens, double share, std::span<const double> factor,
                                 std::span<const std::uint32_t> order, ExecutionContext context) {
    constexpr std::size_t piece = 128;  // columns of U that are transposed at a time
    const std::size_t k = w.cols, task_rows = rows_of_task(w.rows, context);
    Matrix out(w.rows, k);
    context.parallel_for(ceil_div(w.rows, task_rows), [&](std::size_t task, std::size_t) {
        const std::size_t first = task * task_rows, count = std::min(w.rows - first, task_rows);
        std::vector<double> given(count * k), a(count * k), b(count * k), transposed(piece * k);
        for (std::size_t r = 0; r < count; ++r)
            for (std::size_t c = 0; c < k; ++c) given[r * k + c] = static_cast<double>(w(first + r, c));
        subtract_product({a.data(), k, given.data(), k, asymmetry_sum.data(), k, count, k, k});  // -W D
        for (std::size_t r = 0; r < count; ++r)  // in the order of the factor
            for (std::size_t i = 0; i < k; ++i) given[r * k + i] = a[r * k + order[i]] * (share / tokens);
        for (std::size_t begin = 0; begin < k; begin += piece) {
            const std::size_t end = std::min(k, begin + piece);
            for (std::size_t n = 0; n < end; ++n)
                for (std::size_t c = begin; c < end; ++c)
                    transposed[(c - begin) * end + n] = c >= n ? factor[n * k + c] : 0;
            subtract_product(
                {b.data(), k, given.data() + begin, k, transposed.data(), end, count, end, end - begin});
        }
        // b = share W D U^T; a = -share W D H^-1
        std::fill(a.begin(), a.end(), 0.0);
        subtract_product({a.data(), k, b.data(), k, factor.data(), k, count, k, k});
        for (std::size_t r = 0; r < count; ++r)
            for (std::size_t i = 0; i < k; ++i)
                out(first + r, order[i]) =
                    static_cast<float>(static_cast<double>(w(first + r, order[i])) - a[r * k + i]);
    });
    return out;
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

[[nodiscard]] ClipSearch search_of(const MseOptions& options) {
    ClipSearch search;
    search.steps = options.steps;
    search.candidates = std::max(1, static_cast<int>(options.steps * options.max_shrink + 0.5));
    search.exponent = options.exponent;
    return search;
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
    Factorization factorization(statistics, order);
    const auto damping = factorization.run(options.damping, context);
    const bool moves = damping && statistics.asymmetry_sum.elements() != 0 && options.asymmetry > 0;
    const Matrix moved =
        moves ? compensated(w, statistics.asymmetry_sum.as<double>(), static_cast<double>(statistics.tokens),
                            options.asymmetry, factorization.factor(), order, context)
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
                                    ": rounded to nearest"));
        return done;
    }
    const FeedbackPlan plan{factorization.factor(), order, refits, {search_of(grid), importance}};
    QuantizedMatrix& out = done->linear.weights;
    const std::string why = format.is_block() ? round_all<BlockGrids>(plan, target, out, context)
                                              : round_all<PlainGrids>(plan, target, out, context);
    if (!why.empty()) return fail(ErrorKind::bad_input, prefix, why);

    QuantizeReport measured = measure_error(w, out, context);
    measured.method = report.method;
    measured.zero_groups = report.zero_groups;
    measured.constant_groups = report.constant_groups;
    measured.subnormal_scales = report.subnormal_scales;
    measured.flushed_groups = report.flushed_groups;
    measured.dead_channels = report.dead_channels;
    measured.damping = damping->share;
    measured.notes = std::move(report.notes);
    if (!damping->note.empty()) measured.notes.push_back(prefix + damping->note);
    if (statistics.tokens < k)
        measured.notes.push_back(text(prefix, statistics.tokens, " tokens for ", k,
                                      " channels: the Hessian has a rank of at most ", statistics.tokens));
    report = std::move(measured);
    return done;
}

}  // namespace fewbit::inline v0
