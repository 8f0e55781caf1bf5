// Products with quantized weights on a CUDA device:  y (M, N) = x (M, K) W^T + bias,  x of f16 or bf16 as it is, sums in f32.
//
//   auto w = cuda::to_device(*pack_mma16(quantized));             // once
//   auto product = cuda::Product::create(*w, Scalar::f16, 8);     // which kernel, for up to 8 rows of x
//   auto workspace = cuda::Workspace::create(*product);           // for one stream at a time
//   product->run({x, Scalar::f16, rows, K, K}, {y, Scalar::f32, rows, N, N}, nullptr, *workspace, stream);
//
// run() only enqueues: it allocates nothing, waits for nothing, and may be captured in a graph. The same bits on every run.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "fewbit/cuda/device.hpp"
#include "fewbit/matmul/kernel.hpp"  // Fallback
#include "fewbit/pack/mma16.hpp"

namespace fewbit::inline v0::cuda {

/// Copies a packed matrix to the device.
[[nodiscard]] FEWBIT_API Result<Mma16Matrix> to_device(const Mma16Matrix& packed);

/// A matrix on the device that somebody else owns. Row r starts at data + r * stride elements.
struct View {
    void* data = nullptr;
    Scalar type = Scalar::f16;
    std::size_t rows = 0, cols = 0, stride = 0;
};

/// What ran.
struct RunReport {
    std::string_view kernel;       ///< "int_grouped/cuda/f16"
    std::size_t passes = 1;        ///< times that the weights were read
    std::size_t weight_bytes = 0;  ///< of one pass
    bool copied_x = false;  ///< rows that are not whole chunks, or not 16-byte aligned, are copied first
};

/// Rows of x that one pass over the weights serves.
inline constexpr std::size_t rows_per_pass = 64;

class Workspace;

/// A chosen kernel with everything that does not change from call to call. Copies share the weights.
class Product {
public:
    /// For x of type f16 or bf16 (nf4: f16) with up to `max_rows` rows. Errors: those of current_device(); another type of x; weights that
    /// are not on the device; no_kernel: a device below sm_80, or more than rows_per_pass rows, for which there is only the
    /// fallback of several passes, unless that is allowed.
    [[nodiscard]] FEWBIT_API static Result<Product> create(const Mma16Matrix& weights, Scalar x,
                                                           std::size_t max_rows,
                                                           Fallback fallback = Fallback::refuse);

    [[nodiscard]] std::string_view kernel() const noexcept {
        if (weights_.format.is_codebook())
            return x_ == Scalar::f16 ? "codebook/cuda/f16" : "codebook/cuda/bf16";
        return x_ == Scalar::f16 ? "int_grouped/cuda/f16" : "int_grouped/cuda/bf16";
    }
    /// Why a faster kernel does not run; empty: this is no fallback.
    [[nodiscard]] const std::string& fallback_reason() const noexcept { return fallback_reason_; }
    [[nodiscard]] const Mma16Matrix& weights() const noexcept { return weights_; }
    [[nodiscard]] std::size_t max_rows() const noexcept { return max_rows_; }
    [[nodiscard]] FEWBIT_API std::size_t workspace_bytes() const noexcept;

    /// Enqueues y = x W^T + bias. x (rows, K), y (rows, N) of f32, f16 or bf16, bias (N) of f32 on the device or null.
    /// Errors: shapes or types that do not fit, a workspace that is too small; what the launch said.
    [[nodiscard]] FEWBIT_API Result<RunReport> run(const View& x, const View& y, const float* bias,
                                                   Workspace& workspace, Stream stream) const;

private:
    Product() = default;
    [[nodiscard]] std::size_t resident(std::size_t rows) const noexcept;

    Mma16Matrix weights_;
    Scalar x_ = Scalar::f16;
    std::size_t max_rows_ = 0;
    /// Of the whole device, for up to 8, 16 and 64 rows.
    [[maybe_unused]] std::size_t resident_blocks_[3] = {1, 1, 1};
    std::string fallback_reason_;
};

/// Memory for the sums that blocks of threads share, and for copies of x. One product at a time may use it.
class Workspace {
public:
    /// Large enough for `product`, and for every other one that needs no more.
    [[nodiscard]] FEWBIT_API static Result<Workspace> create(const Product& product);
    [[nodiscard]] std::size_t size_bytes() const noexcept { return memory_.size_bytes(); }

private:
    friend class Product;
    Tensor memory_;  // counters, which are 0 between products; parts; copies of x
};

}  // namespace fewbit::inline v0::cuda
