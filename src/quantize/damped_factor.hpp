// The factor that gptq and its relatives run on, made from statistics: H = X^T X / tokens + damping, in an order of columns,
// U upper triangular with H^-1 = U^T U; and weights moved to what their inputs have lost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"

namespace fewbit::inline v0::detail {

/// What was added to the diagonal, and how it went.
struct Damping {
    double share = 0;  ///< of the mean diagonal
    std::string note;  ///< where the wanted share did not do
};

class DampedFactor {
public:
    /// Precondition: a Hessian of order.size() channels, tokens. `statistics` and `order` have to live as long.
    DampedFactor(const TensorStatistics& statistics, std::span<const std::uint32_t> order);

    /// Fills factor(); nothing: no damping of the ladder (gptq.hpp) was enough.
    [[nodiscard]] std::optional<Damping> run(double damping, ExecutionContext context);

    /// U (K, K), in the order.
    [[nodiscard]] std::span<const double> factor() const noexcept { return factor_; }
    /// Channels that were always zero.
    [[nodiscard]] std::size_t dead() const noexcept { return dead_; }

private:
    [[nodiscard]] double diagonal(std::size_t i) const noexcept { return sum_[i * k_ + i] / tokens_; }
    [[nodiscard]] bool attempt(double added, ExecutionContext context);

    std::span<const double> sum_;
    std::span<const std::uint32_t> order_;
    std::size_t k_;
    double tokens_, mean_ = 0, largest_ = 0;
    std::size_t dead_ = 0;
    std::vector<double> factor_;
};

/// Rows of a task: enough to use what is packed for them often, but work for every thread. (Bits do not depend on it.)
[[nodiscard]] std::size_t rows_of_task(std::size_t n, ExecutionContext context);

/// W + share W D H^-1, D the asymmetry sum of the statistics (which have one): what the weights would have to be to
/// undo what their inputs have lost (gptq.hpp). `factor` and `order` are those of a DampedFactor.
[[nodiscard]] Matrix moved_target(MatrixView<const float> w, const TensorStatistics& statistics, double share,
                                  std::span<const double> factor, std::span<const std::uint32_t> order,
                                  ExecutionContext context);

}  // namespace fewbit::inline v0::detail
