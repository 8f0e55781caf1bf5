// Products with weights of f16 or bf16 as they are, by cuBLAS: what a model keeps in full (its embedding, its head), and the baseline.
//
//   auto products = cuda::FloatProducts::create(stream);
//   products->run(weights, {x, Scalar::f16, M, K, K}, {y, Scalar::f32, M, N, N});
//
// run() only enqueues, allocates nothing, and may be captured in a graph.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "fewbit/cuda/matmul.hpp"
#include "fewbit/cuda/selection.hpp"

namespace fewbit::inline v0::cuda {

/// cuBLAS with memory of its own, for one stream: cuBLAS then gives the same bits on every run. Copies share it; not for several threads
/// at once.
class FloatProducts {
public:
    /// Errors: those of current_device(); what cuBLAS said; no memory.
    [[nodiscard]] FEWBIT_API static Result<FloatProducts> create(ExecutionContext context);

    /// Which kernel runs is cuBLAS's own choice.
    [[nodiscard]] static std::string_view kernel(Scalar type) noexcept {
        const auto selected = select_kernel(float_format(type), type, 1);
        return selected ? selected->name : std::string_view{};
    }

    /// Enqueues y = x W^T, or y += x W^T with `onto`, summed in f32. Weights (N, K) of f16 or bf16 on the device, x (M, K) of the same
    /// type, y (M, N) of that type or f32. Errors: shapes, types or places that do not fit; what cuBLAS said.
    [[nodiscard]] FEWBIT_API Result<RunReport> run(const Tensor& weights, const View& x, const View& y,
                                                   bool onto = false) const;

private:
    FloatProducts() = default;
    std::shared_ptr<void> handle_;
    Tensor memory_;
};

}  // namespace fewbit::inline v0::cuda
