// PackedActivations: x, quantized once, for all the products that share it (q, k, v; gate, up).
//
//   codes   int8 (M, stride), each row padded with zeros: at least 64 beyond K
//   scales  f32 (M, groups)
//   sums    int32 (M, sum_groups): sums of codes over runs of sum_group_elements, with which kernels subtract
//           zero points: sum_k (u - z) a = sum_k u a - z * sum_k a
//   zeros   int32 (M), only of asymmetric formats: kernels multiply by codes as they are, matmul() subtracts
//           scale * zero * sum_k w[n][k] afterwards
// A grid that several rows share stands in each of them.
// For f32 activations it is only a view of x, which must outlive it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/matmul/contract.hpp"
#include "fewbit/pack/activation_codes.hpp"

namespace fewbit::inline v0 {

class PackedActivations {
public:
    PackedActivations() = default;

    [[nodiscard]] const ActivationFormat& format() const noexcept { return format_; }
    [[nodiscard]] std::size_t m() const noexcept { return view_.m; }
    [[nodiscard]] std::size_t k() const noexcept { return k_; }
    /// Elements per entry of `sums`; a product with weights of group g needs min(g, activation group), see
    /// matmul().
    [[nodiscard]] std::size_t sum_group_elements() const noexcept { return view_.sum_group_elements; }
    [[nodiscard]] const ActivationsView& view() const noexcept { return view_; }
    /// (M) the codes of 0.0; empty unless the format is asymmetric.
    [[nodiscard]] std::span<const std::int32_t> zeros() const noexcept { return zeros_; }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return bytes_; }

    friend Result<PackedActivations> pack_activations(MatrixView<const float>, const ActivationFormat&,
                                                      std::size_t, ExecutionContext,
                                                      const std::optional<StaticRange>&);

private:
    ActivationFormat format_;
    std::size_t k_ = 0;
    std::size_t bytes_ = 0;
    ActivationsView view_;
    std::span<const std::int32_t> zeros_;
    std::shared_ptr<std::byte> memory_;
};

namespace detail {

/// The grid of all of x, with one scan in parallel. Error: no memory.
[[nodiscard]] inline Result<ActivationGrid> tensor_grid(MatrixView<const float> x,
                                                        const ActivationFormat& format,
                                                        ExecutionContext context) {
    const auto bytes = checked_product({x.rows, sizeof(ActivationExtent)});
    const auto memory = bytes ? allocate_host(*bytes) : nullptr;
    if (!memory) return fail(ErrorKind::out_of_memory, "no memory for the ranges of ", x.rows, " rows");
    auto* const extents = reinterpret_cast<ActivationExtent*>(memory.get());
    context.parallel_for(x.rows, [&](std::size_t m, std::size_t) {
        extents[m] = extent_of(x.data + m * x.stride_elements, x.cols, format);
    });
    ActivationExtent all;
    for (std::size_t m = 0; m < x.rows; ++m)
        all = {std::min(all.low, extents[m].low), std::max(all.high, extents[m].high),
               all.finite && extents[m].finite};
    return grid_of(all, format);
}

}  // namespace detail

/// Quantizes x (M, K). `sum_group_elements`: how many codes each entry of sums covers; it must divide the
/// activation group (or cover the row). `range`: of a static format, and only of it. The bytes do not depend
/// on the number of threads. Error: bad format, a range that is missing, not wanted or not one, overflow, no
/// memory.
[[nodiscard]] inline Result<PackedActivations> pack_activations(
    MatrixView<const float> x, const ActivationFormat& format, std::size_t sum_group_elements,
    ExecutionContext context = {}, const std::optional<StaticRange>& range = {}) {
    if (auto valid = validate(format); !valid) return Unexpected{std::move(valid).error()};
    const bool integer = format.element == ActivationElement::int8;
    if ((integer && format.is_static) != range.has_value())
        return fail(
            ErrorKind::bad_input, name(format), " activations ",
            range ? "find their range in x; none can be given" : "need a range that was found beforehand");
    PackedActivations packed;
    packed.format_ = format;
    packed.k_ = x.cols;
    packed.view_.m = x.rows;
    if (!integer) {
        packed.view_.values = x.data;
        packed.view_.stride_elements = x.stride_elements;
        packed.bytes_ = x.rows * x.cols * sizeof(float);
        return packed;
    }
    const std::size_t k = x.cols;
    const std::size_t group = format.group_elements(k), groups = format.groups_per_row(k);
    const std::size_t sum_group = std::clamp<std::size_t>(sum_group_elements, 1, std::max<std::size_t>(k, 1));
    const std::size_t sum_groups = ceil_div(k, sum_group);
    const std::size_t stride = round_up(k, 64) + 64;
    const auto code_bytes = checked_product({x.rows, stride});
    const auto scale_bytes = checked_product({x.rows, round_up(groups, 16), sizeof(float)});
    const auto sum_bytes = checked_product({x.rows, round_up(sum_groups, 16), sizeof(std::int32_t)});
    const std::size_t zero_bytes = format.asymmetric ? x.rows * sizeof(std::int32_t) : 0;  // < sum_bytes
    auto total = code_bytes && scale_bytes && sum_bytes ? checked_add(*code_bytes + *scale_bytes, *sum_bytes)
                                                        : std::nullopt;
    if (total) total = checked_add(*total, zero_bytes);
    packed.memory_ = total ? allocate_host(*total) : nullptr;
    if (!packed.memory_)
        return fail(ErrorKind::out_of_memory, "no memory to quantize activations of ", x.rows, " x ", k);

    Result<ActivationGrid> shared = ActivationGrid{};  // of a tensor
    if (format.granularity == Granularity::tensor)
        shared = range ? static_grid(*range, format) : detail::tensor_grid(x, format, context);
    if (!shared) return Unexpected{std::move(shared).error()};

    auto* const codes = reinterpret_cast<std::int8_t*>(packed.memory_.get());
    auto* const scales = reinterpret_cast<float*>(packed.memory_.get() + *code_bytes);
    auto* const sums = reinterpret_cast<std::int32_t*>(packed.memory_.get() + *code_bytes + *scale_bytes);
    auto* const zeros = reinterpret_cast<std::int32_t*>(packed.memory_.get() + *total - zero_bytes);
    const auto quantize_row = [&](std::size_t m, std::size_t) {
        const float* row = x.data + m * x.stride_elements;
        std::int8_t* out = codes + m * stride;
        for (std::size_t g = 0; g < groups; ++g) {
            const std::size_t begin = g * group, count = std::min(group, k - begin);
            ActivationGrid grid = *shared;
            if (format.granularity != Granularity::tensor)
                grid = detail::grid_of(detail::extent_of(row + begin, count, format), format);
            else if (range && !detail::magnitude_extent(row, k).finite)
                grid = detail::grid_of({0, 0, false}, format);
            detail::activation_codes(row + begin, count, grid, format, out + begin);
            scales[m * groups + g] = grid.scale;
            if (format.asymmetric) zeros[m] = grid.zero;
        }
        if (format.asymmetric && groups == 0) zeros[m] = 0;
        std::memset(out + k, 0, stride - k);
        for (std::size_t s = 0; s < sum_groups; ++s) {
            std::int32_t sum = 0;
            for (std::size_t i = s * sum_group; i < std::min(k, (s + 1) * sum_group); ++i) sum += out[i];
            sums[m * sum_groups + s] = sum;
        }
    };
    if (x.rows == 1)
        quantize_row(0, 0);
    else
        context.parallel_for(x.rows, quantize_row);

    packed.view_.values = codes;
    packed.view_.stride_elements = stride;
    packed.view_.scales = scales;
    packed.view_.group_elements = group;
    packed.view_.groups = groups;
    packed.view_.sums = sums;
    packed.view_.sum_group_elements = sum_group;
    packed.view_.sum_groups = sum_groups;
    if (format.asymmetric) packed.zeros_ = {zeros, x.rows};
    packed.bytes_ = *total;
    return packed;
}

}  // namespace fewbit::inline v0
