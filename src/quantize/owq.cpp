// Definitions of owq.hpp.
#include "fewbit/quantize/owq.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "fewbit/core/checked.hpp"
#include "src/quantize/damped_factor.hpp"
#include "src/quantize/float_columns.hpp"
#include "src/quantize/inverse_factor.hpp"
#include "src/quantize/subtract_product.hpp"

namespace fewbit::inline v0 {
namespace {

using namespace detail;

using Channels = std::vector<std::uint32_t>;

/// The most sensitive channels, ascending.
[[nodiscard]] Result<Channels> weak_channels(MatrixView<const float> w, const TensorStatistics& statistics,
                                             const Format& format, const OwqOptions& options,
                                             ExecutionContext context) {
    const std::size_t k = w.cols;
    const auto count =
        std::min(k, static_cast<std::size_t>(std::ceil(options.extra_bits * static_cast<double>(k) / 16)));
    MseOptions grid = options.gptq.grid;
    grid.tensor = options.tensor;
    auto rounded = quantize_mse(w, format, grid, context);
    if (!rounded) return Unexpected{std::move(rounded).error()};
    std::vector<double> lost(k);
    std::vector<float> row(k);
    for (std::size_t r = 0; r < w.rows; ++r) {
        rounded->linear.weights.dequantize(r, 0, row);
        for (std::size_t c = 0; c < k; ++c) {
            const double e = static_cast<double>(w(r, c)) - static_cast<double>(row[c]);
            lost[c] += e * e;
        }
    }
    const auto h = statistics.hessian_sum.as<double>();
    for (std::size_t c = 0; c < k; ++c) lost[c] *= h[c * k + c];
    Channels order(k);
    std::iota(order.begin(), order.end(), 0u);
    std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) { return lost[a] > lost[b]; });
    order.resize(count);
    std::ranges::sort(order);
    return order;
}

/// What joins the kept channels S to the others: G = (H_SS + damping)^-1 H_S. (C, K), H of means.
struct Joint {
    std::vector<double> h;  ///< (C, K): rows S of H
    std::vector<double> g;  ///< (C, K)
};

/// Nothing: H_SS has no factor with the damping asked for.
[[nodiscard]] std::optional<Joint> join(const TensorStatistics& statistics, const Channels& kept,
                                        std::size_t k, double damping, ExecutionContext context) {
    const std::size_t c = kept.size();
    const auto sum = statistics.hessian_sum.as<double>();
    const auto tokens = static_cast<double>(statistics.tokens);
    double trace = 0;
    for (std::size_t i = 0; i < k; ++i) trace += sum[i * k + i] / tokens;
    Joint joint{std::vector<double>(c * k), std::vector<double>(c * k)};
    std::vector<double> u(c * c), inverse(c * c);
    for (std::size_t i = 0; i < c; ++i) {
        for (std::size_t j = 0; j < k; ++j)  // of a symmetric matrix one triangle counts
            joint.h[i * k + j] =
                sum[std::min<std::size_t>(kept[i], j) * k + std::max<std::size_t>(kept[i], j)] / tokens;
        for (std::size_t j = 0; j < c; ++j) u[i * c + j] = joint.h[i * k + kept[j]];
        u[i * c + i] += damping * trace / static_cast<double>(k);
    }
    if (!invert_to_factor(u, c, context)) return std::nullopt;
    for (std::size_t i = 0; i < c; ++i)  // -(U^T U): the sign that subtract_product takes away again
        for (std::size_t j = 0; j < c; ++j)
            for (std::size_t n = 0; n <= std::min(i, j); ++n)
                inverse[i * c + j] -= u[n * c + i] * u[n * c + j];
    subtract_product({joint.g.data(), k, inverse.data(), c, joint.h.data(), k, c, k, c});
    return joint;
}

/// The problem that is left: H - H_S^T G, with nothing in the rows and columns of S.
[[nodiscard]] Result<TensorStatistics> without(const TensorStatistics& statistics, const Channels& kept,
                                               const Joint& joint, std::size_t k, ExecutionContext context) {
    constexpr std::size_t task_rows = 64;
    const std::size_t c = kept.size();
    const auto tokens = static_cast<double>(statistics.tokens);
    TensorStatistics out;
    out.tokens = statistics.tokens;
    auto square = Tensor::allocate(Scalar::f64, {k, k});
    if (!square) return Unexpected{std::move(square).error()};
    out.hessian_sum = *std::move(square);
    const auto from = statistics.hessian_sum.as<double>();
    const auto to = out.hessian_sum.as_mutable<double>();
    std::vector<bool> is_kept(k);
    for (const std::uint32_t channel : kept) is_kept[channel] = true;
    std::vector<double> transposed(k * c);
    for (std::size_t i = 0; i < c; ++i)
        for (std::size_t j = 0; j < k; ++j) transposed[j * c + i] = joint.h[i * k + j] * tokens;
    context.parallel_for(ceil_div(k, task_rows), [&](std::size_t task, std::size_t) {
        const std::size_t first = task * task_rows, last = std::min(k, first + task_rows);
        for (std::size_t i = first; i < last; ++i)
            for (std::size_t j = 0; j < k; ++j) to[i * k + j] = from[std::min(i, j) * k + std::max(i, j)];
        subtract_product({to.data() + first * k, k, transposed.data() + first * c, c, joint.g.data(), k,
                          last - first, k, c});
        for (std::size_t i = first; i < last; ++i) {
            for (std::size_t j = 0; j < k; ++j)
                if (is_kept[i] || is_kept[j]) to[i * k + j] = 0;
            to[i * k + i] = std::max(0.0, to[i * k + i]);  // rounding may have gone below
        }
    });
    return out;
}

}  // namespace

Result<Quantized> quantize_owq(MatrixView<const float> w, const TensorStatistics& statistics,
                               const Format& format, const OwqOptions& options, ExecutionContext context) {
    const std::string prefix = tensor_prefix(options.tensor);
    if (!(options.extra_bits >= 0 && options.extra_bits <= 16))
        return fail(ErrorKind::bad_input, prefix, "owq with ", options.extra_bits,
                    " more bits per weight for float columns: 0 to 16 are possible");
    if (auto valid = check_has_zero(format, options.tensor, "owq"); !valid)
        return Unexpected{std::move(valid).error()};
    const std::size_t k = w.cols;
    GptqOptions gptq = options.gptq;
    gptq.tensor = options.tensor;
    // Whatever gptq refuses is refused in its words.
    const bool usable = statistics.tokens > 0 && statistics.hessian_sum.shape() == Tensor::Shape{k, k};
    Channels kept;
    if (usable && !format.is_float() && w.rows != 0) {
        auto found = weak_channels(w, statistics, format, options, context);
        if (!found) return Unexpected{std::move(found).error()};
        kept = *std::move(found);
    }
    const auto named = [&](Result<Quantized> done) {
        if (done) done->report.method = "owq";
        return done;
    };
    if (kept.empty()) return named(quantize_gptq(w, statistics, format, gptq, context));

    // What the inputs have lost is undone first, for all columns; the rest is one problem with one target.
    Matrix target(w.rows, k);
    for (std::size_t r = 0; r < w.rows; ++r) std::ranges::copy(w.row(r), target.row(r).begin());
    if (statistics.asymmetry_sum.elements() != 0 && gptq.asymmetry > 0) {
        Channels natural(k);
        std::iota(natural.begin(), natural.end(), 0u);
        DampedFactor factor(statistics, natural);
        if (factor.run(gptq.damping, context))
            target = moved_target(w, statistics, gptq.asymmetry, factor.factor(), natural, context);
    }
    gptq.asymmetry = 0;
    const auto joint = join(statistics, kept, k, std::max(gptq.damping, 1e-9), context);
    auto rest_statistics =
        joint ? without(statistics, kept, *joint, k, context) : Result<TensorStatistics>(statistics);
    if (!rest_statistics) return Unexpected{std::move(rest_statistics).error()};
    auto split = split_columns(std::as_const(target).view(), kept);
    const Matrix& rest = split.first;
    Matrix& values = split.second;
    auto done = named(quantize_gptq(rest.view(), *rest_statistics, format, gptq, context));
    if (!done) return done;
    if (joint) {
        const std::size_t task_rows = rows_of_task(w.rows, context), c = kept.size();
        std::vector<double> transposed(k * c);
        for (std::size_t i = 0; i < c; ++i)
            for (std::size_t j = 0; j < k; ++j) transposed[j * c + i] = joint->g[i * k + j];
        context.parallel_for(ceil_div(w.rows, task_rows), [&](std::size_t task, std::size_t) {
            const std::size_t first = task * task_rows, count = std::min(w.rows - first, task_rows);
            std::vector<double> e(count * k), sums(count * c);
            std::vector<float> row(k);
            for (std::size_t r = 0; r < count; ++r) {
                dequantize_row(done->linear, first + r, row);
                for (std::size_t j = 0; j < k; ++j)
                    e[r * k + j] = static_cast<double>(row[j]) - static_cast<double>(rest(first + r, j));
            }
            subtract_product({sums.data(), c, e.data(), k, transposed.data(), c, count, c, k});
            for (std::size_t r = 0; r < count; ++r)
                for (std::size_t i = 0; i < c; ++i)
                    values(first + r, i) =
                        static_cast<float>(static_cast<double>(values(first + r, i)) + sums[r * c + i]);
        });
    } else {
        done->report.notes.push_back(text(
            prefix, "the float columns' part of the Hessian had no factor: nothing was compensated in them"));
    }
    auto columns = float_columns(std::as_const(values).view(), kept);
    if (!columns) return Unexpected{std::move(columns).error()};
    done->linear.columns = *std::move(columns);
    done->report.dead_channels -= std::min(done->report.dead_channels, kept.size());
    replace_errors(done->report, measure_error(w, done->linear, context));
    return done;
}

}  // namespace fewbit::inline v0
