// W8A8 on a CUDA device:  y (M, N) = x (M, K) W^T + bias  with rows of x rounded to 8 bits and channels of W in 8 bits: int8, or
// fp8 where the hardware has it (sm_89 and later). Made for many rows: tensor cores are what limits it.
//
//   auto w = cuda::to_device(*pack_mma16(quantized));        // int8-channel or -tensor, zero points and offsets too; fp8-e4m3-channel
//   auto product = cuda::W8A8Product::create(*w, max_rows);
//   auto workspace = cuda::Workspace::create(*product);
//   auto rows = cuda::RoundedRows::create(max_rows, K);      // as PackedActivations: one for all products that read x
//   rows->quantize({x, Scalar::f16, M, K, K}, stream);
//   product->run(*rows, {y, Scalar::f16, M, N, N}, nullptr, *workspace, stream);
//
// Both calls only enqueue, and may be captured in a graph. The same bits on every run; of int8, whose sums are exact, on every GPU.
#pragma once

#include <cstddef>
#include <string_view>

#include "fewbit/cuda/matmul.hpp"

namespace fewbit::inline v0::cuda {

/// Rows of x with a scale each: int8, max |x| / 127, the same codes as int8-row on the CPU (formats/activation_format.hpp); or
/// fp8-e4m3, max |x| / 448, each number to the nearest, ties to even.
class RoundedRows {
public:
    /// Longest rows: their sums of products of int8 fit 32 bits.
    static constexpr std::size_t max_k = 65536;

    /// Memory for up to `max_rows` rows as `type`, i8 or fp8_e4m3. Errors: those of current_device(); another type; longer rows than
    /// max_k; no memory.
    [[nodiscard]] FEWBIT_API static Result<RoundedRows> create(std::size_t max_rows, std::size_t k,
                                                               Scalar type = Scalar::i8);

    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t k() const noexcept { return k_; }
    [[nodiscard]] Scalar type() const noexcept { return type_; }

    /// Enqueues the rounding of x (rows, K) of f32, f16 or bf16. A row with NaN or infinity becomes NaN. Errors: another
    /// shape or type; what the launch said.
    [[nodiscard]] FEWBIT_API Result<void> quantize(const View& x, ExecutionContext context);

private:
    friend class W8A8Product;
    Tensor codes_;   // u8, as kernels/int_grouped/cuda/w8a8.hpp draws them
    Tensor scales_;  // f32 (max_rows)
    Tensor sums_;    // i32 (max_rows), of int8
    [[maybe_unused]] std::size_t max_rows_ = 0;
    std::size_t rows_ = 0, k_ = 0;
    Scalar type_ = Scalar::i8;
};

/// Weights with their kernel. Copies share the weights.
class W8A8Product {
public:
    /// For up to `max_rows` rows. Errors: those of current_device(); weights that are not on the device; no_kernel: what
    /// select_kernel refuses, a device below sm_80, of fp8 below sm_89; unsupported: longer rows than RoundedRows::max_k, more
    /// rows or channels than the kernels can count.
    [[nodiscard]] FEWBIT_API static Result<W8A8Product> create(const Mma16Matrix& weights,
                                                               std::size_t max_rows);

    /// "int_grouped/cuda/prompt-int8" or "codebook/cuda/prompt-fp8"; on sm_90a "wgmma" for "prompt".
    [[nodiscard]] FEWBIT_API std::string_view kernel() const noexcept;
    [[nodiscard]] const Mma16Matrix& weights() const noexcept { return weights_; }
    /// What rows of x have to be: i8 or fp8_e4m3.
    [[nodiscard]] Scalar activations() const noexcept {
        return weights_.format.is_codebook() ? Scalar::fp8_e4m3 : Scalar::i8;
    }
    [[nodiscard]] std::size_t max_rows() const noexcept { return max_rows_; }
    [[nodiscard]] WorkspaceSize workspace_size() const noexcept { return workspace_; }

    /// Enqueues y = x W^T + bias. y (x.rows(), N) of f32, f16 or bf16, bias (N) of f32 on the device or null. Errors: shapes
    /// or types that do not fit, a workspace that is too small; what the launch said.
    [[nodiscard]] FEWBIT_API Result<RunReport> run(const RoundedRows& x, const View& y, const float* bias,
                                                   Workspace& workspace, ExecutionContext context) const;

private:
    W8A8Product() = default;
    Mma16Matrix weights_;
    std::size_t max_rows_ = 0;
    [[maybe_unused]] bool wgmma_ = false;
    [[maybe_unused]] std::size_t resident_blocks_ = 1;
    WorkspaceSize workspace_;
};

}  // namespace fewbit::inline v0::cuda
