// matmul: y = x * W^T + bias with a chosen kernel, and a report of what ran.
//
//   auto kernel = select_kernel({.weights = q.format(), .activations = int8_group_activations(32),
//                                .m = M, .n = N, .k = K});
//   auto packed = pack(q, kernel->layout());
//   auto report = matmul(*kernel, x, *packed, y);
//
// Asymmetric activations x = s (q - z): kernels see q, and y -= s z sum_k w[n][k] follows in double, rounded
// once. (Pack the weights with pack(q, layout, context, activations), which keeps those sums.)
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/matmul/kernel.hpp"
#include "fewbit/matmul/split.hpp"
#include "fewbit/pack/packed_activations.hpp"
#include "fewbit/pack/packed_matrix.hpp"

namespace fewbit::inline v0 {

/// What a product was computed with.
struct RunReport {
    std::string_view kernel;  ///< the one that ran: perhaps not the one chosen, which may hand a product on
    Isa isa = Isa::generic;
    ActivationFormat activations;
    bool is_fallback = false;
    std::size_t weight_bytes = 0;      ///< read once per product
    std::size_t activation_bytes = 0;  ///< as the kernel reads them
};

/// Quantizes and arranges x (M, K) for products of `kernel` with `w` and with every matrix of the same format
/// and K. `range`: of static activations.
[[nodiscard]] inline Result<PackedActivations> pack_activations(
    MatrixView<const float> x, const Kernel& kernel, const PackedMatrix& w, ExecutionContext context = {},
    const std::optional<StaticRange>& range = {}) {
    const std::size_t sum_group =
        activation_sum_elements(w.format().group_elements(w.k()), kernel.activations(), w.k());
    const KernelCode& code = *kernel.info().code;
    return pack_activations(
        x, kernel.activations(),
        {sum_group, code.rows_together, code.quantize, code.elements_together, code.bf16_as_f32}, context,
        range);
}

namespace detail {

/// y[m][n] -= scale[m] * zero[m] * row_sum[n] in a part of y. Every element is changed once, by itself.
inline void subtract_zero_points(const PackedActivations& x, std::span<const double> row_sums,
                                 const OutputView& y, const Rectangle& part) noexcept {
    for (std::size_t m = part.m_begin; m < part.m_end; ++m) {
        if (x.zeros()[m] == 0) continue;
        const double factor = static_cast<double>(x.view().scales[m]) * x.zeros()[m];
        float* row = y.values + m * y.stride_elements;
        for (std::size_t n = part.n_begin; n < part.n_end; ++n)
            row[n] = static_cast<float>(static_cast<double>(row[n]) - factor * row_sums[n]);
    }
}

/// A product whose operands were found to fit together. What it points to must outlive it.
struct CheckedProduct {
    const KernelCode* code = nullptr;  ///< null: there is nothing to compute, or it is computed already
    KernelCall call;
    const PackedActivations* x = nullptr;
    std::span<const double> row_sums;  ///< of asymmetric activations
    Split split;                       ///< among the tasks of a region
    RunReport report;
};

/// The line of the catalogue that computes a call for the one of `info`.
[[nodiscard]] inline const KernelInfo& runs_as(const KernelInfo& info, const KernelCall& call) noexcept {
    const KernelCode* const other = info.code->hands_to == nullptr || call.x.m == 0 || call.w.k == 0
                                        ? nullptr
                                        : info.code->hands_to(call);
    if (other == nullptr) return info;
    for (const KernelInfo& line : kernel_catalog())
        if (line.code == other) return line;
    return info;
}

/// Error: what matmul() refuses.
[[nodiscard]] inline Result<CheckedProduct> check_product(const Kernel& kernel, const PackedActivations& x,
                                                          const PackedMatrix& w, MatrixView<float> y,
                                                          std::span<const float> bias) {
    if (w.layout() != kernel.layout())
        return fail(ErrorKind::bad_input, "kernel ", kernel.name(), " reads layout ", name(kernel.layout()),
                    ", but the weights are packed as ", name(w.layout()));
    if (x.k() != w.k() || y.rows != x.m() || y.cols != w.n())
        return fail(ErrorKind::bad_input, "shapes do not fit: x is ", x.m(), " x ", x.k(), ", W is ", w.n(),
                    " x ", w.k(), ", y is ", y.rows, " x ", y.cols);
    if (!bias.empty() && bias.size() != w.n())
        return fail(ErrorKind::bad_input, "the bias has ", bias.size(), " elements for ", w.n(),
                    " output channels");
    if (!(x.format() == kernel.activations()))
        return fail(ErrorKind::bad_input, "kernel ", kernel.name(), " was chosen for ",
                    name(kernel.activations()), " activations, but x is packed as ", name(x.format()));

    if (x.format().element == ActivationElement::bf16 &&
        x.view().bf16_as_f32 != kernel.info().code->bf16_as_f32)
        return fail(ErrorKind::bad_input, "kernel ", kernel.name(), " reads bf16 in ",
                    kernel.info().code->bf16_as_f32 ? 4 : 2, " bytes, but x is packed in ",
                    x.view().bf16_as_f32 ? 4 : 2);
    if (x.view().rows_together != kernel.info().code->rows_together ||
        (x.format().element == ActivationElement::int8 &&
         x.view().elements_together != kernel.info().code->elements_together))
        return fail(ErrorKind::bad_input, "kernel ", kernel.name(), " reads ",
                    kernel.info().code->rows_together, " rows of x together, ",
                    kernel.info().code->elements_together, " elements of each, but x is packed for ",
                    x.view().rows_together, " and ", x.view().elements_together);

    CheckedProduct product;
    product.call = {w.view(), x.view(), {y.data, y.stride_elements, bias.empty() ? nullptr : bias.data()}};
    const MatmulQuery query{w.format(), x.format(), x.m(), w.n(), w.k(), Fallback::allow};
    if (auto why = refusal(kernel.info(), query); !why.empty())
        return fail(ErrorKind::unsupported, "kernel ", kernel.name(), " cannot multiply ", name(w.format()),
                    " of ", w.n(), " x ", w.k(), ": ", why);
    const std::size_t needed_sums =
        activation_sum_elements(w.format().group_elements(w.k()), x.format(), w.k());
    if (x.format().element == ActivationElement::int8 && x.sum_group_elements() != needed_sums)
        return fail(ErrorKind::bad_input, "x was packed with sums over ", x.sum_group_elements(),
                    " elements; weights of ", name(w.format()), " need ", needed_sums);

    if (!x.zeros().empty() && w.row_sums().size() != w.n())
        return fail(ErrorKind::bad_input, "the weights were packed without row sums; pack them for ",
                    name(x.format()), " activations");
    product.x = &x;
    if (!x.zeros().empty()) product.row_sums = w.row_sums();
    const KernelInfo& ran = runs_as(kernel.info(), product.call);
    product.report = {ran.name,
                      ran.isa,
                      x.format(),
                      kernel.is_fallback(),
                      w.size_bytes() + product.row_sums.size_bytes(),
                      x.size_bytes()};
    if (y.rows == 0 || y.cols == 0) return product;
    if (w.k() != 0) {
        product.code = kernel.info().code;
        return product;
    }
    for (std::size_t m = 0; m < y.rows; ++m)
        for (std::size_t n = 0; n < y.cols; ++n) y(m, n) = bias.empty() ? 0.0f : bias[n];
    return product;
}

/// All of them in one parallel region. Error: no memory.
[[nodiscard]] inline Result<void> run_products(std::span<CheckedProduct> products, ExecutionContext context) {
    const auto work_of = [](const CheckedProduct& p) {
        return p.code == nullptr ? 0.0
                                 : static_cast<double>(p.call.x.m) * static_cast<double>(p.call.w.n) *
                                       static_cast<double>(p.call.w.k);
    };
    double work = 0;
    for (const CheckedProduct& product : products) work += work_of(product);
    const auto wanted = static_cast<double>(tasks_wanted(context.workers()));
    std::size_t tasks = 0, lane_bytes = 0;
    for (CheckedProduct& product : products) {
        product.split = {0, 0};
        if (product.code == nullptr) continue;
        // Each takes its share of the tasks, so that a small product beside large ones is not cut to pieces.
        const auto share = static_cast<std::size_t>(std::ceil(wanted * work_of(product) / work));
        product.split = split_product(product.call.x.m, product.call.w.n, *product.code, share);
        tasks += product.split.tasks();
        lane_bytes = std::max(lane_bytes, lane_scratch_bytes(*product.code, product.call));
    }
    const std::size_t scratch_bytes = context.workers() * lane_bytes;
    const auto scratch = scratch_bytes == 0 ? nullptr : allocate_host(scratch_bytes);
    if (scratch_bytes != 0 && !scratch)
        return fail(ErrorKind::out_of_memory, "no memory for ", scratch_bytes,
                    " bytes of scratch space of kernels");
    const KeepAwake awake(context);  // who waits for the last task is not woken up for it
    context.parallel_for(tasks, [&](std::size_t task, std::size_t lane) {
        const CheckedProduct* p = products.data();
        for (; task >= p->split.tasks(); ++p) task -= p->split.tasks();
        const Rectangle part = p->split.part(p->call.x.m, p->call.w.n, *p->code, task);
        p->code->run(p->call, part, scratch != nullptr ? scratch.get() + lane * lane_bytes : nullptr);
        if (!p->row_sums.empty()) subtract_zero_points(*p->x, p->row_sums, p->call.y, part);
    });
    return {};
}

}  // namespace detail

/// y (M, N) = x * W^T + bias. The bits of y do not depend on the number of threads. Error: shapes that do not
/// fit, a layout or activation format that the kernel does not read, no memory.
[[nodiscard]] inline Result<RunReport> matmul(const Kernel& kernel, const PackedActivations& x,
                                              const PackedMatrix& w, MatrixView<float> y,
                                              std::span<const float> bias = {},
                                              ExecutionContext context = {}) {
    auto product = detail::check_product(kernel, x, w, y, bias);
    if (!product) return Unexpected{std::move(product).error()};
    if (auto done = detail::run_products({&*product, 1}, context); !done)
        return Unexpected{std::move(done).error()};
    return product->report;
}

/// The same from float x (M, K), packed for this one product.
[[nodiscard]] inline Result<RunReport> matmul(const Kernel& kernel, MatrixView<const float> x,
                                              const PackedMatrix& w, MatrixView<float> y,
                                              std::span<const float> bias = {}, ExecutionContext context = {},
                                              const std::optional<StaticRange>& range = {}) {
    auto packed = pack_activations(x, kernel, w, context, range);
    if (!packed) return Unexpected{std::move(packed).error()};
    return matmul(kernel, *packed, w, y, bias, context);
}

}  // namespace fewbit::inline v0
