// Rounding with error feedback: columns in an order, each column's error passed on to those that follow (gptq.hpp). The
// factor U and the weights are in that order; codes are stored where their columns belong.
//
//            done      block         still to come
//   W  |............|..s..|.....|....................|     s: columns that are rounded one by one, each error
//                    e e e                                 passed on at once within s; to the rest of the block
//                     -> U[s, block) -> U[block, rest)     after s; to the rest of the row after the block
//
// Every weight loses e_0 u_0, e_1 u_1, ... in the order of the columns, each difference rounded by itself, however s
// and blocks are cut: they decide about speed, not about bits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "src/quantize/feedback_grids.hpp"
#include "src/quantize/subtract_product.hpp"

namespace fewbit::inline v0::detail {

struct FeedbackPlan {
    std::span<const double> factor;        ///< U (K, K), in the order of rounding
    std::span<const std::uint32_t> order;  ///< (K): column that is rounded i-th
    /// Units are fitted when their turn comes: they are runs of `order`, a short one the last.
    bool refit = false;
    FeedbackFit fit;
};

class Cuts {
public:
    static constexpr std::size_t block_columns = 128, step_columns = 16;

    /// `unit`: columns that have to be known together when the first of them is rounded; k: no such thing.
    Cuts(std::size_t k, std::size_t unit) : k_(k), unit_(unit) {}

    [[nodiscard]] std::size_t block_end(std::size_t begin) const noexcept {
        if (unit_ >= block_columns) {  // a piece of one unit
            const std::size_t unit_end = std::min(k_, (begin / unit_ + 1) * unit_);
            return std::min(unit_end, begin + block_columns);
        }
        return std::min(k_, begin + block_columns / unit_ * unit_);  // whole units
    }
    [[nodiscard]] std::size_t step_end(std::size_t begin, std::size_t block_end) const noexcept {
        const std::size_t unit_end = (begin / unit_ + 1) * unit_;
        return std::min({unit_end, block_end, begin + step_columns});
    }

private:
    std::size_t k_, unit_;
};

/// Rows [first, last) of w (N, K). Returns why it failed, or nothing. `targets` (rows, K) holds the weights in the order
/// of rounding and is used up.
template <class Grids>
[[nodiscard]] std::string round_rows(const FeedbackPlan& plan, QuantizedMatrix& out, std::size_t first,
                                     std::size_t last, std::vector<double>& targets) {
    const std::size_t k = out.k(), rows = last - first, unit = plan.refit ? Grids::unit(out) : k;
    const Cuts cuts(k, unit);
    Grids grids(out, plan.fit, first, last);
    std::vector<double> errors(rows * Cuts::block_columns);
    std::vector<std::uint8_t> codes(rows * k);
    std::vector<float> now(unit);
    const double* const u = plan.factor.data();
    for (std::size_t block = 0; block < k;) {
        const std::size_t block_end = cuts.block_end(block);
        for (std::size_t step = block; step < block_end;) {
            const std::size_t step_end = cuts.step_end(step, block_end);
            if (plan.refit && step % unit == 0) {
                const std::size_t g = plan.order[step] / unit, count = std::min(unit, k - g * unit);
                for (std::size_t r = 0; r < rows; ++r) {
                    for (std::size_t i = step; i < step + count; ++i)
                        now[plan.order[i] - g * unit] = static_cast<float>(targets[r * k + i]);
                    if (auto why = grids.fit(first + r, g, {now.data(), count}); !why.empty()) return why;
                }
            }
            for (std::size_t i = step; i < step_end; ++i) {
                const double* const row_of_u = u + i * k;
                for (std::size_t r = 0; r < rows; ++r) {
                    double* const w = targets.data() + r * k;
                    const Rounded rounded = grids.round(first + r, plan.order[i], w[i]);
                    codes[r * k + plan.order[i]] = rounded.code;
                    const double error = (w[i] - rounded.value) / row_of_u[i];
                    errors[r * Cuts::block_columns + i - block] = error;
                    for (std::size_t c = i + 1; c < step_end; ++c) w[c] -= error * row_of_u[c];
                }
            }
            subtract_product({targets.data() + step_end, k, errors.data() + step - block, Cuts::block_columns,
                              u + step * k + step_end, k, rows, block_end - step_end, step_end - step});
            step = step_end;
        }
        subtract_product({targets.data() + block_end, k, errors.data(), Cuts::block_columns,
                          u + block * k + block_end, k, rows, k - block_end, block_end - block});
        block = block_end;
    }
    for (std::size_t r = 0; r < rows; ++r) grids.store(first + r, {codes.data() + r * k, k});
    return {};
}

}  // namespace fewbit::inline v0::detail
