// Hessians for methods that calibrate: X^T X of what a layer reads, summed into TensorStatistics over batches.
//
//   auto collector = HessianCollector::create(context);
//   TensorStatistics statistics;
//   for (batch) collector->add(x, statistics);            // x (tokens, K)
//   quantize_gptq(w, statistics, format);
//
// Products of up to 512 tokens are f32, on the library's own kernels; their sum is f64.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/matmul/float_product.hpp"

namespace fewbit::inline v0::pipeline {

class HessianCollector {
public:
    /// Generic kernels may run: they are slower, not less exact. Error: no memory.
    [[nodiscard]] FEWBIT_API static Result<HessianCollector> create(ExecutionContext context = {});

    /// Adds a batch to everything that `statistics` holds, hessian_sum included, which copies of `statistics` share.
    /// Equal for any number of threads.
    /// Errors: those of TensorStatistics::add, no memory; sums that are no longer finite.
    [[nodiscard]] FEWBIT_API Result<void> add(MatrixView<const float> x, TensorStatistics& statistics,
                                              std::string_view tensor = {});
    /// The same, and (x_float - x)^T x to asymmetry_sum: x_float (tokens, K) is what the layer reads in the float model.
    [[nodiscard]] FEWBIT_API Result<void> add(MatrixView<const float> x, MatrixView<const float> x_float,
                                              TensorStatistics& statistics, std::string_view tensor = {});

    /// sum over rows of (w - w^)_n H (w - w^)_n^T, over that of w: how far the layer's outputs were moved on the
    /// tokens of the statistics (relative, squared); 0 without a Hessian. `difference` is w - w^. Both (N, K).
    [[nodiscard]] FEWBIT_API double output_error(MatrixView<const float> w,
                                                 MatrixView<const float> difference,
                                                 const TensorStatistics& statistics);

private:
    HessianCollector(FloatProduct product, ExecutionContext context)
        : product_(std::move(product)), context_(context) {}

    /// sum (K, K) += a^T b for a, b (tokens, K); of a symmetric one the upper triangle is computed and mirrored.
    [[nodiscard]] Result<void> add_product(MatrixView<const float> a, MatrixView<const float> b,
                                           bool symmetric, Tensor& sum);

    FloatProduct product_;
    ExecutionContext context_;
    std::vector<float> a_, b_, block_;
};

}  // namespace fewbit::inline v0::pipeline
