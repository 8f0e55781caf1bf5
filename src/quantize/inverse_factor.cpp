#include "src/quantize/inverse_factor.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "fewbit/core/checked.hpp"
#include "src/quantize/subtract_product.hpp"

namespace fewbit::inline v0::detail {
namespace {

constexpr std::size_t block = 128;  // columns that are eliminated together
constexpr std::size_t task_rows = 128, task_columns = 96;

/// Rows [first, last) of L from those of H, columns [first, last): the diagonal block.
[[nodiscard]] bool factor_diagonal(double* a, std::size_t k, std::size_t first, std::size_t last) {
    for (std::size_t j = first; j < last; ++j) {
        const double pivot = a[j * k + j];
        if (!(pivot > 0) || !std::isfinite(pivot)) return false;
        const double root = std::sqrt(pivot);
        a[j * k + j] = root;
        for (std::size_t i = j + 1; i < last; ++i) a[i * k + j] /= root;
        for (std::size_t i = j + 1; i < last; ++i)
            for (std::size_t c = j + 1; c <= i; ++c) a[i * k + c] -= a[i * k + j] * a[c * k + j];
    }
    return true;
}

/// Lower triangular L with H = L L^T, in place of the lower triangle of H.
[[nodiscard]] bool factor(double* a, std::size_t k, ExecutionContext context) {
    std::vector<double> diagonal(block * block), panel(block * k);
    for (std::size_t first = 0; first < k; first += block) {
        const std::size_t last = std::min(k, first + block), columns = last - first, below = k - last;
        if (!factor_diagonal(a, k, first, last)) return false;
        if (below == 0) break;
        // diagonal: L11 transposed. panel: L21 transposed, the second operand of what follows.
        for (std::size_t j = 0; j < columns; ++j)
            for (std::size_t i = j; i < columns; ++i)
                diagonal[j * block + i] = a[(first + i) * k + first + j];
        const std::size_t tasks = ceil_div(below, task_rows);
        context.parallel_for(tasks, [&](std::size_t task, std::size_t) {
            const std::size_t begin = last + task * task_rows, end = std::min(k, begin + task_rows);
            for (std::size_t i = begin; i < end; ++i) {
                double* const row = a + i * k + first;
                for (std::size_t j = 0; j < columns; ++j) {
                    row[j] /= diagonal[j * block + j];
                    for (std::size_t c = j + 1; c < columns; ++c) row[c] -= row[j] * diagonal[j * block + c];
                    panel[j * below + (i - last)] = row[j];
                }
            }
        });
        // The lower triangle, and a little of what lies above the diagonal, which nobody reads.
        context.parallel_for(tasks, [&](std::size_t task, std::size_t) {
            const std::size_t begin = last + task * task_rows, end = std::min(k, begin + task_rows);
            subtract_product({a + begin * k + last, k, a + begin * k + first, k, panel.data(), below,
                              end - begin, end - last, columns});
        });
    }
    return true;
}

/// L^-1 in place of L; what is above the diagonal has to be zero.
void invert(double* a, std::size_t k, ExecutionContext context) {
    std::vector<double> rows(block * k);
    for (std::size_t first = 0; first < k; first += block) {
        const std::size_t last = std::min(k, first + block), count = last - first;
        for (std::size_t i = 0; i < count; ++i) std::copy_n(a + (first + i) * k, last, rows.data() + i * k);
        // L11 X = -L10 L00^-1 left of the diagonal block, L11 X = 1 in it.
        const auto solve = [&](std::size_t begin, std::size_t end) {
            for (std::size_t j = 0; j < count; ++j) {
                double* const solved = a + (first + j) * k;
                const double pivot = rows[j * k + first + j];
                for (std::size_t c = begin; c < end; ++c) solved[c] /= pivot;
                for (std::size_t i = j + 1; i < count; ++i) {
                    double* const row = a + (first + i) * k;
                    const double factor = rows[i * k + first + j];
                    for (std::size_t c = begin; c < end; ++c) row[c] -= factor * solved[c];
                }
            }
        };
        context.parallel_for(ceil_div(first, task_columns) + 1, [&](std::size_t task, std::size_t) {
            const std::size_t begin = std::min(first, task * task_columns),
                              end = std::min(first, begin + task_columns);
            if (begin == end) {  // the last task: the diagonal block
                for (std::size_t i = 0; i < count; ++i)
                    for (std::size_t c = first; c < last; ++c) a[(first + i) * k + c] = i + first == c;
                return solve(first, last);
            }
            for (std::size_t i = 0; i < count; ++i)
                std::fill(a + (first + i) * k + begin, a + (first + i) * k + end, 0.0);
            // Rows of the inverse above `begin` are zero in these columns.
            subtract_product({a + first * k + begin, k, rows.data() + begin, k, a + begin * k + begin, k,
                              count, end - begin, first - begin});
            solve(begin, end);
        });
    }
}

}  // namespace

bool invert_to_factor(std::span<double> h, std::size_t k, ExecutionContext context) {
    std::reverse(h.begin(), h.end());  // row and column i become k - 1 - i, the upper triangle the lower one
    double* const a = h.data();
    if (!factor(a, k, context)) return false;
    for (std::size_t i = 0; i < k; ++i) std::fill(a + i * k + i + 1, a + (i + 1) * k, 0.0);
    invert(a, k, context);
    for (std::size_t i = 0; i < k; ++i)
        for (std::size_t j = 0; j <= i; ++j)
            if (!std::isfinite(a[i * k + j])) return false;
    std::reverse(h.begin(), h.end());
    return true;
}

}  // namespace fewbit::inline v0::detail
