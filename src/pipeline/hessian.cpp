// Definitions of pipeline/hessian.hpp.
#include "fewbit/pipeline/hessian.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

namespace fewbit::inline v0::pipeline {
namespace {

constexpr std::size_t most_tokens = 512;  // of a product in f32
constexpr std::size_t block_rows = 256;   // of a sum that are computed together

[[nodiscard]] MatrixView<const float> transposed(MatrixView<const float> x, std::vector<float>& memory) {
    memory.resize(x.rows * x.cols);
    for (std::size_t r = 0; r < x.rows; ++r)
        for (std::size_t c = 0; c < x.cols; ++c) memory[c * x.rows + r] = x(r, c);
    return {memory.data(), x.cols, x.rows};
}

/// A sum that can be added to: a new one, or a copy of one that lies in a mapped file.
[[nodiscard]] Result<void> ready(Tensor& sum, std::size_t k) {
    if (!sum.mutable_bytes().empty()) return {};
    auto fresh = Tensor::allocate(Scalar::f64, {k, k});
    if (!fresh) return Unexpected{std::move(fresh).error()};
    const auto values = fresh->as_mutable<double>();
    const auto before = std::as_const(sum).as<double>();
    std::fill(std::copy(before.begin(), before.end(), values.begin()), values.end(), 0.0);
    sum = *std::move(fresh);
    return {};
}

}  // namespace

Result<HessianCollector> HessianCollector::create(ExecutionContext context) {
    auto product = FloatProduct::create(Fallback::allow, context);
    if (!product) return Unexpected{std::move(product).error()};
    return HessianCollector(*std::move(product), context);
}

Result<void> HessianCollector::add_product(MatrixView<const float> a, MatrixView<const float> b,
                                           bool symmetric, Tensor& sum) {
    const std::size_t k = a.cols;
    if (auto done = ready(sum, k); !done) return done;
    const auto total = sum.as_mutable<double>();
    for (std::size_t first = 0; first < a.rows; first += most_tokens) {
        const std::size_t tokens = std::min(most_tokens, a.rows - first);
        const auto left = transposed(a.rows_from(first, tokens), a_);
        const auto right = symmetric ? left : transposed(b.rows_from(first, tokens), b_);
        for (std::size_t row = 0; row < k; row += block_rows) {
            const std::size_t rows = std::min(block_rows, k - row), begin = symmetric ? row : 0;
            block_.resize(rows * (k - begin));
            const MatrixView<float> block(block_.data(), rows, k - begin);
            product_(left.rows_from(row, rows), right.rows_from(begin, k - begin), block);
            context_.parallel_for(rows, [&](std::size_t r, std::size_t) {
                for (std::size_t c = 0; c < block.cols; ++c)
                    total[(row + r) * k + begin + c] += static_cast<double>(block(r, c));
            });
        }
    }
    if (symmetric)
        context_.parallel_for(k, [&](std::size_t r, std::size_t) {
            for (std::size_t c = 0; c < r; ++c) total[r * k + c] = total[c * k + r];
        });
    return {};
}

Result<void> HessianCollector::add(MatrixView<const float> x, TensorStatistics& statistics,
                                   std::string_view tensor) {
    if (auto added = statistics.add(x, tensor); !added) return added;
    if (x.rows == 0 || x.cols == 0) return {};
    if (auto done = add_product(x, x, true, statistics.hessian_sum); !done) return done;
    for (const double value : std::as_const(statistics.hessian_sum).as<double>())
        if (!std::isfinite(value))
            return fail(ErrorKind::bad_input, tensor.empty() ? "" : text("tensor '", tensor, "': "),
                        "products of inputs are larger than f32 can hold");
    return {};
}

Result<void> HessianCollector::add(MatrixView<const float> x, MatrixView<const float> x_float,
                                   TensorStatistics& statistics, std::string_view tensor) {
    if (x_float.rows != x.rows || x_float.cols != x.cols)
        return fail(ErrorKind::bad_input, "inputs of ", x_float.rows, " x ", x_float.cols,
                    " of the float model do not belong to inputs of ", x.rows, " x ", x.cols);
    if (auto added = add(x, statistics, tensor); !added) return added;
    Matrix difference(x.rows, x.cols);
    for (std::size_t r = 0; r < x.rows; ++r)
        for (std::size_t c = 0; c < x.cols; ++c) difference(r, c) = x_float(r, c) - x(r, c);
    return add_product(std::as_const(difference).view(), x, false, statistics.asymmetry_sum);
}

double HessianCollector::output_error(MatrixView<const float> w, MatrixView<const float> difference,
                                      const TensorStatistics& statistics) {
    const std::size_t k = w.cols;
    if (w.rows == 0 || k == 0 || statistics.hessian_sum.elements() == 0) return 0;
    a_.resize(k * k);
    const auto sum = statistics.hessian_sum.as<double>();
    for (std::size_t i = 0; i < sum.size(); ++i)
        a_[i] = static_cast<float>(sum[i] / static_cast<double>(statistics.tokens));
    const MatrixView<const float> h(a_.data(), k, k);
    const auto energy = [&](MatrixView<const float> rows) {
        double total = 0;
        for (std::size_t row = 0; row < rows.rows; row += block_rows) {
            const std::size_t count = std::min(block_rows, rows.rows - row);
            block_.resize(count * k);
            const MatrixView<float> product(block_.data(), count, k);
            product_(rows.rows_from(row, count), h, product);
            for (std::size_t r = 0; r < count; ++r)
                for (std::size_t c = 0; c < k; ++c)
                    total += static_cast<double>(product(r, c)) * static_cast<double>(rows(row + r, c));
        }
        return std::max(total, 0.0);
    };
    const double given = energy(w), lost = energy(difference);
    return given > 0 ? lost / given : 0;
}

}  // namespace fewbit::inline v0::pipeline
