// FloatProduct: y = x * w^T of float views, with nothing quantized and nothing packed beforehand: what
// training and statistics are made of. The kernel is the strongest one of the `dense` family.
//
//   auto product = FloatProduct::create(Fallback::refuse, context);
//   (*product)(x, w, y);                     all lanes of the context
//   product->on_lane(lane, x, w, y);         inside a region, on the lane that calls
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/matmul/kernel.hpp"
#include "fewbit/matmul/split.hpp"

namespace fewbit::inline v0 {

class FloatProduct {
public:
    /// Errors: the message of select_kernel, no memory for the kernel's scratch space.
    [[nodiscard]] static Result<FloatProduct> create(Fallback fallback, ExecutionContext context = {}) {
        auto kernel = select_kernel({float_format(Scalar::f32), exact_activations(), 16, 16, 16, fallback});
        if (!kernel) return unexpected(kernel.error().kind, kernel.error().message);
        const std::size_t lane_bytes = round_up(kernel->info().code->scratch_bytes, buffer_alignment_bytes);
        auto scratch = allocate_host(context.workers() * lane_bytes);
        if (!scratch)
            return fail(ErrorKind::out_of_memory, "no memory for ", context.workers() * lane_bytes,
                        " bytes of scratch space of kernel ", kernel->name());
        return FloatProduct(*std::move(kernel), std::move(scratch), lane_bytes, context);
    }

    [[nodiscard]] const Kernel& kernel() const noexcept { return kernel_; }

    /// y (M, N) = x (M, K) * w (N, K)^T; K = 0 gives zeros. Precondition: the shapes fit, y overlaps neither.
    /// The bits of y do not depend on the number of threads. One call at a time.
    void operator()(MatrixView<const float> x, MatrixView<const float> w, MatrixView<float> y) const {
        if (is_empty(x, y)) return;
        detail::run_split(*kernel_.info().code, call_of(x, w, y), scratch_.get(), context_);
    }

    /// The same on the calling thread, which runs lane `lane` of a region of the context.
    void on_lane(std::size_t lane, MatrixView<const float> x, MatrixView<const float> w,
                 MatrixView<float> y) const {
        if (is_empty(x, y)) return;
        kernel_.info().code->run(call_of(x, w, y), {0, y.rows, 0, y.cols},
                                 scratch_.get() + lane * lane_bytes_);
    }

private:
    FloatProduct(Kernel kernel, std::shared_ptr<std::byte> scratch, std::size_t lane_bytes,
                 ExecutionContext context)
        : kernel_(std::move(kernel)),
          scratch_(std::move(scratch)),
          lane_bytes_(lane_bytes),
          context_(context) {}

    [[nodiscard]] static bool is_empty(MatrixView<const float> x, MatrixView<float> y) noexcept {
        if (x.cols == 0)
            for (std::size_t m = 0; m < y.rows; ++m)
                for (std::size_t n = 0; n < y.cols; ++n) y(m, n) = 0;
        return x.cols == 0 || y.rows == 0 || y.cols == 0;
    }

    [[nodiscard]] static KernelCall call_of(MatrixView<const float> x, MatrixView<const float> w,
                                            MatrixView<float> y) noexcept {
        KernelCall call;
        call.w.n = w.rows;
        call.w.k = w.cols;
        call.w.group_elements = w.cols;
        call.w.groups = 1;
        call.w.bits = 32;
        call.w.scale = Scalar::f32;
        call.w.codes = reinterpret_cast<const std::uint8_t*>(w.data);
        call.w.codes_stride_bytes = w.stride_elements * sizeof(float);
        call.x.m = x.rows;
        call.x.values = x.data;
        call.x.stride_elements = x.stride_elements;
        call.y = {y.data, y.stride_elements, nullptr};
        return call;
    }

    Kernel kernel_;
    std::shared_ptr<std::byte> scratch_;
    std::size_t lane_bytes_ = 0;
    ExecutionContext context_;
};

}  // namespace fewbit::inline v0
