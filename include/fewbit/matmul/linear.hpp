// PackedLinear: a Linear made ready to run: kernels chosen, weights packed, input transform and float columns
// around the product:   y = T(x) * W^T  +  x[:, columns] * F^T  +  bias      (formats/linear.hpp)
//
// Layers that read the same x (q, k, v; gate, up) run together: x is transformed and packed once for all of
// them that want it alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/linear.hpp"
#include "fewbit/matmul/kernel.hpp"
#include "fewbit/matmul/matmul.hpp"
#include "fewbit/pack/packed_activations.hpp"
#include "fewbit/pack/packed_matrix.hpp"

namespace fewbit::inline v0 {

class PackedLinear {
public:
    /// Chooses a kernel for `linear` with `activations` (activations_for() has the last word) and packs.
    /// Layout::rows shares the bytes of the weights. `range`: what T(x) spans, for static activations; no
    /// others look at it. Error: the message of select_kernel, a transform that does not fit K, static
    /// activations without a range or with one that is none, no memory.
    [[nodiscard]] static Result<PackedLinear> create(const Linear& linear,
                                                     const ActivationFormat& activations, Fallback fallback,
                                                     ExecutionContext context = {},
                                                     const std::optional<StaticRange>& range = {}) {
        if (auto valid = validate(linear); !valid) return Unexpected{std::move(valid).error()};
        auto main = Product::create(linear.weights, activations_for(linear.weights.format(), activations),
                                    fallback, context);
        if (!main) return Unexpected{std::move(main).error()};
        PackedLinear packed(*std::move(main));
        if (const ActivationFormat& used = packed.kernel().activations();
            used.element == ActivationElement::int8 && used.is_static) {
            if (!range)
                return fail(ErrorKind::bad_input, "a layer of ", linear.n(), " x ", linear.k(), " with ",
                            name(used), " activations needs the range of its inputs");
            if (auto grid = static_grid(*range, used); !grid) return Unexpected{std::move(grid).error()};
            packed.range_ = range;
        }
        packed.transform_ = linear.transform;
        if (linear.transform.hadamard != 0) packed.hadamard_ = *Hadamard::create(linear.transform.hadamard);
        packed.bias_ = linear.bias;
        if (!linear.columns.empty()) {
            auto columns = Product::create(linear.columns.values, exact_activations(), fallback, context);
            if (!columns) return Unexpected{std::move(columns).error().within("float columns")};
            packed.columns_ = *std::move(columns);
            packed.channels_ = linear.columns.channels;
        }
        return packed;
    }

    [[nodiscard]] std::size_t n() const noexcept { return main_.weights.n(); }
    [[nodiscard]] std::size_t k() const noexcept { return main_.weights.k(); }
    [[nodiscard]] const Format& format() const noexcept { return main_.weights.format(); }
    [[nodiscard]] const Kernel& kernel() const noexcept { return main_.kernel; }
    /// Bytes that one product reads, float columns included.
    [[nodiscard]] std::size_t size_bytes() const noexcept {
        return main_.weights.size_bytes() + (columns_ ? columns_->weights.size_bytes() : 0);
    }

    /// What x is multiplied by before anything else; nothing in most layers.
    [[nodiscard]] const std::optional<Hadamard>& hadamard() const noexcept { return hadamard_; }

    /// Whether both want x transformed and packed in the same way.
    [[nodiscard]] bool reads_like(const PackedLinear& other) const noexcept {
        return k() == other.k() && kernel().activations() == other.kernel().activations() &&
               sum_group() == other.sum_group() &&
               kernel().info().code->rows_together == other.kernel().info().code->rows_together &&
               kernel().info().code->elements_together == other.kernel().info().code->elements_together &&
               kernel().info().code->bf16_as_f32 == other.kernel().info().code->bf16_as_f32 &&
               range_ == other.range_ && transform_.hadamard == other.transform_.hadamard &&
               transform_.permutation == other.transform_.permutation &&
               transform_.channel_scales == other.transform_.channel_scales && channels_ == other.channels_;
    }

    /// y (M, N) from x (M, K). The bits of y do not depend on the number of threads. Error: shapes, no
    /// memory.
    [[nodiscard]] Result<RunReport> apply(MatrixView<const float> x, MatrixView<float> y,
                                          ExecutionContext context = {}) const {
        auto input = prepare(x, context);
        if (!input) return Unexpected{std::move(input).error()};
        return apply(*input, x, y, context);
    }

    /// What a product reads: T(x), packed. Refers to x itself where nothing had to be changed.
    struct Input {
        Matrix rotated;      ///< (M, K) x Q, empty without a Hadamard transform
        Matrix transformed;  ///< (M, K) T(x), empty where nothing else is done to it
        PackedActivations packed;
    };

    /// Transforms and packs x (M, K), which must outlive the result.
    [[nodiscard]] Result<Input> prepare(MatrixView<const float> x, ExecutionContext context = {}) const {
        if (x.cols != k())
            return fail(ErrorKind::bad_input, "a layer of ", n(), " x ", k(), " cannot read ", x.rows, " x ",
                        x.cols, " inputs");
        Input input;
        if (hadamard_) {
            input.rotated = rotated(*hadamard_, x);
            x = std::as_const(input.rotated).view();
        }
        // Their codes stand for zero, so what x is there only decides how wide the grid of the others is.
        const bool clears = !channels_.empty() && kernel().activations().element == ActivationElement::int8;
        Matrix cleared;
        if (clears) {
            cleared = with_cleared(x, channels_);
            x = std::as_const(cleared).view();
        }
        if (transform_.reorders_or_scales())
            input.transformed = reordered_and_scaled(transform_, x);
        else if (clears)
            input.transformed = std::move(cleared);
        if (transform_.reorders_or_scales() || clears) x = std::as_const(input.transformed).view();
        auto packed = pack_activations(x, kernel(), main_.weights, context, range_);
        if (!packed) return Unexpected{std::move(packed).error()};
        input.packed = *std::move(packed);
        return input;
    }

    /// y from what a layer with reads_like() prepared; x is the untouched input (M, K), which float columns read.
    [[nodiscard]] Result<RunReport> apply(const Input& input, MatrixView<const float> x, MatrixView<float> y,
                                          ExecutionContext context = {}) const {
        auto product = check(input, y);
        if (!product) return Unexpected{std::move(product).error()};
        if (auto done = detail::run_products({&*product, 1}, context); !done)
            return Unexpected{std::move(done).error()};
        return finish(std::move(product->report), input, x, y, context);
    }

    /// The same in two steps, so that the products of several layers can run in one parallel region.
    [[nodiscard]] Result<detail::CheckedProduct> check(const Input& input, MatrixView<float> y) const {
        return detail::check_product(kernel(), input.packed, main_.weights, y, bias_);
    }
    /// What follows the product: float columns, which read x Q, or the untouched x (M, K).
    [[nodiscard]] Result<RunReport> finish(RunReport report, const Input& input, MatrixView<const float> x,
                                           MatrixView<float> y, ExecutionContext context = {}) const {
        if (!columns_) return report;
        if (hadamard_) x = input.rotated.view();
        Matrix picked(x.rows, channels_.size());
        for (std::size_t m = 0; m < x.rows; ++m)
            for (std::size_t c = 0; c < channels_.size(); ++c) picked(m, c) = x(m, channels_[c]);
        Matrix sums(x.rows, n());
        auto columns =
            matmul(columns_->kernel, std::as_const(picked).view(), columns_->weights, sums, {}, context);
        if (!columns) return columns;
        for (std::size_t m = 0; m < x.rows; ++m)
            for (std::size_t i = 0; i < n(); ++i) y(m, i) += sums(m, i);
        report.weight_bytes += columns->weight_bytes;
        report.activation_bytes += columns->activation_bytes;
        return report;
    }

private:
    struct Product {
        Kernel kernel;
        PackedMatrix weights;

        [[nodiscard]] static Result<Product> create(const QuantizedMatrix& weights,
                                                    const ActivationFormat& activations, Fallback fallback,
                                                    ExecutionContext context) {
            const auto kernel =
                select_kernel({weights.format(), activations, 1, weights.n(), weights.k(), fallback});
            if (!kernel) return unexpected(kernel.error().kind, kernel.error().message);
            auto packed = pack(weights, kernel->layout(), context, activations);
            if (!packed) return Unexpected{std::move(packed).error()};
            return Product{*kernel, *std::move(packed)};
        }
    };

    explicit PackedLinear(Product main) : main_(std::move(main)) {}

    [[nodiscard]] std::size_t sum_group() const noexcept {
        return kernel().activations().element != ActivationElement::int8
                   ? 0
                   : activation_sum_elements(format().group_elements(k()), kernel().activations(), k());
    }

    Product main_;
    std::optional<Product> columns_;
    std::vector<std::uint32_t> channels_;
    InputTransform transform_;
    std::optional<Hadamard> hadamard_;  ///< transform_.hadamard, ready to run
    std::optional<StaticRange> range_;  ///< of T(x), with static activations
    std::vector<float> bias_;
};

/// One of the layers that read the same x.
struct LinearCall {
    const PackedLinear* layer = nullptr;
    MatrixView<float> y;  ///< (M, N)
};

/// y_i = layer_i(x). x (M, K) is prepared once for every run of neighbours that read it alike, and the products
/// of all layers run in one parallel region.
[[nodiscard]] inline Result<void> apply_together(MatrixView<const float> x, std::span<const LinearCall> calls,
                                                 ExecutionContext context = {}) {
    std::vector<PackedLinear::Input> inputs;  // checked products point into it
    std::vector<detail::CheckedProduct> products;
    std::vector<std::size_t> input_of;
    inputs.reserve(calls.size());
    products.reserve(calls.size());
    for (std::size_t i = 0; i < calls.size(); ++i) {
        if (i == 0 || !calls[i].layer->reads_like(*calls[i - 1].layer)) {
            auto prepared = calls[i].layer->prepare(x, context);
            if (!prepared) return Unexpected{std::move(prepared).error()};
            inputs.push_back(*std::move(prepared));
        }
        auto product = calls[i].layer->check(inputs.back(), calls[i].y);
        if (!product) return Unexpected{std::move(product).error()};
        products.push_back(*std::move(product));
        input_of.push_back(inputs.size() - 1);
    }
    if (auto done = detail::run_products(products, context); !done) return done;
    for (std::size_t i = 0; i < calls.size(); ++i)
        if (auto done =
                calls[i].layer->finish(products[i].report, inputs[input_of[i]], x, calls[i].y, context);
            !done)
            return Unexpected{std::move(done).error()};
    return {};
}

}  // namespace fewbit::inline v0
