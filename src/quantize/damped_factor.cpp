#include "src/quantize/damped_factor.hpp"

#include <algorithm>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "src/quantize/inverse_factor.hpp"
#include "src/quantize/subtract_product.hpp"

namespace fewbit::inline v0::detail {

DampedFactor::DampedFactor(const TensorStatistics& statistics, std::span<const std::uint32_t> order)
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

std::optional<Damping> DampedFactor::run(double damping, ExecutionContext context) {
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
            return Damping{added / mean_, text("the Hessian had no factor with damping ", damping + 0.1, "; ",
                                               floor, " were added to its diagonal")};
    }
    return std::nullopt;
}

bool DampedFactor::attempt(double added, ExecutionContext context) {
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

std::size_t rows_of_task(std::size_t n, ExecutionContext context) {
    return std::clamp<std::size_t>(n / (4 * context.workers()) / 4 * 4, 16, 128);
}

Matrix moved_target(MatrixView<const float> w, const TensorStatistics& statistics, double share,
                    std::span<const double> factor, std::span<const std::uint32_t> order,
                    ExecutionContext context) {
    const auto drift = statistics.asymmetry_sum.as<double>();
    const auto tokens = static_cast<double>(statistics.tokens);
    constexpr std::size_t piece = 128;  // columns of U that are transposed at a time
    const std::size_t k = w.cols, task_rows = rows_of_task(w.rows, context);
    Matrix out(w.rows, k);
    context.parallel_for(ceil_div(w.rows, task_rows), [&](std::size_t task, std::size_t) {
        const std::size_t first = task * task_rows, count = std::min(w.rows - first, task_rows);
        std::vector<double> given(count * k), a(count * k), b(count * k), transposed(piece * k);
        for (std::size_t r = 0; r < count; ++r)
            for (std::size_t c = 0; c < k; ++c) given[r * k + c] = static_cast<double>(w(first + r, c));
        subtract_product({a.data(), k, given.data(), k, drift.data(), k, count, k, k});  // -W D
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

}  // namespace fewbit::inline v0::detail
