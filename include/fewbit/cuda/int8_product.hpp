// W8A8 on a CUDA device:  y (M, N) = x (M, K) W^T + bias  with rows of x rounded to int8 and channels of W in int8. Made for many
// rows: integer tensor cores are what limits it.
//
//   auto w = cuda::to_device(*pack_mma16(quantized));        // int8-channel or int8-tensor, zero points and offsets too
//   auto product = cuda::Int8Product::create(*w);
//   auto rows = cuda::Int8Rows::create(max_rows, K);         // as PackedActivations: one for all products that read x
//   rows->quantize({x, Scalar::f16, M, K, K}, stream);
//   product->run(*rows, {y, Scalar::f16, M, N, N}, nullptr, stream);
//
// Both calls only enqueue, and may be captured in a graph. Sums are exact, so the same bits on every run and every GPU.
#pragma once

#include <cstddef>
#include <string_view>

#include "fewbit/cuda/matmul.hpp"

namespace fewbit::inline v0::cuda {

/// Rows of x as int8-row (formats/activation_format.hpp), the same codes as on the CPU.
class Int8Rows {
public:
    /// Longest rows: their sums of products fit 32 bits.
    static constexpr std::size_t max_k = 65536;

    /// Memory for up to `max_rows` rows. Errors: those of current_device(); longer rows than max_k; no memory.
    [[nodiscard]] FEWBIT_API static Result<Int8Rows> create(std::size_t max_rows, std::size_t k);

    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t k() const noexcept { return k_; }

    /// Enqueues the rounding of x (rows, K) of f32, f16 or bf16. A row with NaN or infinity becomes NaN. Errors: another
    /// shape or type; what the launch said.
    [[nodiscard]] FEWBIT_API Result<void> quantize(const View& x, Stream stream);

private:
    friend class Int8Product;
    Tensor codes_;   // i8 (max_rows, K padded to 32)
    Tensor scales_;  // f32 (max_rows)
    Tensor sums_;    // i32 (max_rows)
    std::size_t rows_ = 0, k_ = 0;
};

/// Weights with their kernel. Copies share the weights.
class Int8Product {
public:
    /// Errors: those of current_device(); weights that are not on the device; no_kernel: codes that are not of 8 bits with a
    /// scale per channel or tensor, a device below sm_80; longer rows than Int8Rows::max_k.
    [[nodiscard]] FEWBIT_API static Result<Int8Product> create(const Mma16Matrix& weights);

    [[nodiscard]] std::string_view kernel() const noexcept { return "int_grouped/cuda/int8"; }
    [[nodiscard]] const Mma16Matrix& weights() const noexcept { return weights_; }

    /// Enqueues y = x W^T + bias. y (x.rows(), N) of f32, f16 or bf16, bias (N) of f32 on the device or null. Errors: shapes
    /// or types that do not fit; what the launch said.
    [[nodiscard]] FEWBIT_API Result<RunReport> run(const Int8Rows& x, const View& y, const float* bias,
                                                   Stream stream) const;

private:
    Int8Product() = default;
    Mma16Matrix weights_;
};

}  // namespace fewbit::inline v0::cuda
