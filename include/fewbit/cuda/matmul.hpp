// Products with quantized weights on a CUDA device:  y (M, N) = x (M, K) W^T + bias,  x of f16 or bf16 as it is, sums in f32.
//
//   auto w = cuda::to_device(*pack_mma16(quantized));             // once
//   auto product = cuda::Product::create(*w, Scalar::f16, 8);     // for up to 8 rows of x
//   auto workspace = cuda::Workspace::create(*product);           // for one stream at a time
//   product->run({x, Scalar::f16, rows, K, K}, {y, Scalar::f32, rows, N, N}, nullptr, *workspace, stream);
//
// run() only enqueues: it allocates nothing, waits for nothing, and may be captured in a graph. The same bits on every run.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "fewbit/cuda/device.hpp"
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
    std::string_view kernel;  ///< "int_grouped/cuda/decode-f16"
    std::size_t weight_bytes = 0;
    bool copied_x =
        false;  ///< rows that are not whole chunks, or not 16-byte aligned, are copied first; for wgmma all are
};

/// What a product needs beside its operands.
struct WorkspaceSize {
    std::size_t counters = 0;  ///< of 4 bytes, 0 between products
    std::size_t bytes = 0;     ///< for copies of x and sums that blocks of threads share
};

class Workspace;

/// A chosen kernel with everything that does not change from call to call. Copies share the weights.
class Product {
public:
    /// For x of type f16 or bf16 (nf4: f16) with up to `max_rows` rows. Errors: those of current_device(); another type of x;
    /// weights that are not on the device; no_kernel: a device below sm_80; unsupported: more rows or channels
    /// than the kernels can count.
    [[nodiscard]] FEWBIT_API static Result<Product> create(const Mma16Matrix& weights, Scalar x,
                                                           std::size_t max_rows);

    /// What runs for so many rows: "int_grouped/cuda/decode-f16" to 16, "batch" to 64, then "prompt", or "wgmma" on sm_90a.
    [[nodiscard]] FEWBIT_API std::string_view kernel(std::size_t rows) const noexcept;
    [[nodiscard]] const Mma16Matrix& weights() const noexcept { return weights_; }
    [[nodiscard]] std::size_t max_rows() const noexcept { return max_rows_; }
    [[nodiscard]] FEWBIT_API WorkspaceSize workspace_size() const noexcept;

    /// Enqueues y = x W^T + bias. x (rows, K), y (rows, N) of f32, f16 or bf16, bias (N) of f32 on the device or null.
    /// Errors: shapes or types that do not fit, a workspace that is too small; what the launch said.
    [[nodiscard]] FEWBIT_API Result<RunReport> run(const View& x, const View& y, const float* bias,
                                                   Workspace& workspace, ExecutionContext context) const;

private:
    struct Needs {
        std::size_t counters = 0, x_bytes = 0, part_bytes = 0;
    };
    Product() = default;
    [[nodiscard]] Needs needs() const noexcept;
    [[nodiscard]] Result<void> pad(const View& x, void* to, ExecutionContext context) const;
    [[nodiscard]] Result<void> arrange(const View& x, void* to, ExecutionContext context) const;

    Mma16Matrix weights_;
    Scalar x_ = Scalar::f16;
    std::size_t max_rows_ = 0;
    bool wgmma_ = false;  // for more than 64 rows
    /// Of the whole device, for up to 8, 16, 64 and more rows.
    [[maybe_unused]] std::size_t resident_blocks_[4] = {1, 1, 1, 1};
};

/// Memory for the sums that blocks of threads share, and for copies of x. One product at a time may use it.
class Workspace {
public:
    /// For every product that needs no more. Errors: those of current_device(); no memory.
    [[nodiscard]] FEWBIT_API static Result<Workspace> create(const WorkspaceSize& size);
    /// Large enough for each of `products`, which are all Products or all W8A8Products.
    template <class AnyProduct>
    [[nodiscard]] static Result<Workspace> create(std::span<const AnyProduct> products) {
        WorkspaceSize most;
        for (const AnyProduct& product : products) {
            const WorkspaceSize size = product.workspace_size();
            most.counters = size.counters > most.counters ? size.counters : most.counters;
            most.bytes = size.bytes > most.bytes ? size.bytes : most.bytes;
        }
        return create(most);
    }
    template <class AnyProduct>
    [[nodiscard]] static Result<Workspace> create(const AnyProduct& product) {
        return create(product.workspace_size());
    }
    [[nodiscard]] WorkspaceSize size() const noexcept { return {counters_.elements(), memory_.size_bytes()}; }

private:
    friend class Product;
    friend class W8A8Product;
    Tensor counters_;  // 0 between products, so nothing else may ever stand there
    Tensor memory_;    // a copy of x, parts
};

}  // namespace fewbit::inline v0::cuda
