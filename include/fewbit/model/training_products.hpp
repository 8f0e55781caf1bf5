// TrainingProducts: the matrix products of training. In float they run on the library's own `dense` kernels;
// in double, which only tests use, on plain loops.
#pragma once

#include <cstddef>
#include <utility>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/matmul/float_product.hpp"

namespace fewbit::inline v0::model {

template <class T>
class TrainingProducts;

template <>
class TrainingProducts<float> {
public:
    /// Errors: those of FloatProduct::create.
    [[nodiscard]] static Result<TrainingProducts> create(Fallback fallback, ExecutionContext context) {
        auto product = FloatProduct::create(fallback, context);
        if (!product) return Unexpected{std::move(product).error()};
        return TrainingProducts(*std::move(product), context);
    }

    [[nodiscard]] ExecutionContext context() const noexcept { return context_; }
    [[nodiscard]] const Kernel& kernel() const noexcept { return product_.kernel(); }

    /// y (M, N) = x (M, K) * w (N, K)^T on all lanes; on_lane: on the lane that calls.
    void operator()(MatrixView<const float> x, MatrixView<const float> w, MatrixView<float> y) const {
        product_(x, w, y);
    }
    void on_lane(std::size_t lane, MatrixView<const float> x, MatrixView<const float> w,
                 MatrixView<float> y) const {
        product_.on_lane(lane, x, w, y);
    }

private:
    TrainingProducts(FloatProduct product, ExecutionContext context)
        : product_(std::move(product)), context_(context) {}

    FloatProduct product_;
    ExecutionContext context_;
};

template <>
class TrainingProducts<double> {
public:
    [[nodiscard]] static Result<TrainingProducts> create(Fallback, ExecutionContext context) {
        TrainingProducts products;
        products.context_ = context;
        return products;
    }

    [[nodiscard]] ExecutionContext context() const noexcept { return context_; }

    void operator()(MatrixView<const double> x, MatrixView<const double> w, MatrixView<double> y) const {
        for (std::size_t m = 0; m < y.rows; ++m)
            for (std::size_t n = 0; n < y.cols; ++n) {
                double sum = 0;
                for (std::size_t k = 0; k < x.cols; ++k) sum += x(m, k) * w(n, k);
                y(m, n) = sum;
            }
    }
    void on_lane(std::size_t, MatrixView<const double> x, MatrixView<const double> w,
                 MatrixView<double> y) const {
        (*this)(x, w, y);
    }

private:
    ExecutionContext context_;
};

}  // namespace fewbit::inline v0::model
