// PackedActivations: x, quantized and arranged once, for all the products that share it (q, k, v; gate, up).
// matmul/contract.hpp draws how kernels want its rows: one by one, or four together.
//
//   codes   int8, rows padded with zeros: at least 64 beyond K
//   scales  f32, one for each group of a row
//   sums    int32: sums of codes over runs of sum_group_elements, with which kernels subtract zero points:
//           sum_k (u - z) a = sum_k u a - z * sum_k a
//   zeros   int32 (M), only of asymmetric formats: kernels multiply by codes as they are, matmul() subtracts
//           scale * zero * sum_k w[n][k] afterwards
// A grid that several rows share stands in each of them.
// f32 and bf16: the numbers alone, rounded to bf16 (and kept as f32 for kernels that want it so). Rows of f32 for kernels
// that take them one by one are only a view of x, which must outlive it; so may a single row be.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <span>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/matmul/contract.hpp"
#include "fewbit/pack/activation_codes.hpp"
#include "fewbit/pack/float_tiles.hpp"

namespace fewbit::inline v0 {

/// Elements of a run of K whose codes are summed for products with weights in groups of `weight_group`: the smaller of
/// the two groups, or a part of it.
[[nodiscard]] inline std::size_t activation_sum_elements(std::size_t weight_group,
                                                         const ActivationFormat& activations,
                                                         std::size_t k) noexcept {
    const std::size_t group = std::min(weight_group, activations.group_elements(k));
    if (group >= k) return std::min<std::size_t>(std::max<std::size_t>(k, 1), max_sum_elements);
    return group <= max_sum_elements ? group : std::gcd(group, max_sum_elements);
}

/// What a kernel wants to read, beside the activation format.
struct ActivationArrangement {
    std::size_t sum_group_elements = 1;  ///< codes that each sum covers: activation_sum_elements()
    std::size_t rows_together = 1;       ///< KernelCode::rows_together
    void (*quantize)(const ActivationTile&) noexcept = nullptr;  ///< KernelCode::quantize
    std::size_t elements_together = 4;                           ///< KernelCode::elements_together
    bool bf16_as_f32 = false;                                    ///< KernelCode::bf16_as_f32
};

class PackedActivations {
public:
    PackedActivations() = default;

    [[nodiscard]] const ActivationFormat& format() const noexcept { return format_; }
    [[nodiscard]] std::size_t m() const noexcept { return view_.m; }
    [[nodiscard]] std::size_t k() const noexcept { return k_; }
    /// Elements per entry of `sums`; a product needs activation_sum_elements() of its weights.
    [[nodiscard]] std::size_t sum_group_elements() const noexcept { return view_.sum_group_elements; }
    [[nodiscard]] const ActivationsView& view() const noexcept { return view_; }
    /// (M) the codes of 0.0; empty unless the format is asymmetric.
    [[nodiscard]] std::span<const std::int32_t> zeros() const noexcept { return zeros_; }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return bytes_; }

    /// Single numbers of int8 activations, wherever they stand; k counts up to the padded end.
    [[nodiscard]] int code(std::size_t m, std::size_t k) const noexcept {
        const detail::TileRow row(m, view_.m, view_.rows_together, view_.elements_together);
        return static_cast<const std::int8_t*>(view_.values)[row.first * view_.stride_elements + row.code(k)];
    }
    [[nodiscard]] float scale(std::size_t m, std::size_t group) const noexcept {
        const detail::TileRow row(m, view_.m, view_.rows_together, view_.elements_together);
        return view_.scales[row.first * view_.groups + row.number(group)];
    }
    [[nodiscard]] std::int32_t sum(std::size_t m, std::size_t run) const noexcept {
        const detail::TileRow row(m, view_.m, view_.rows_together, view_.elements_together);
        return view_.sums[row.first * view_.sum_groups + row.number(run)];
    }

    friend Result<PackedActivations> pack_float_activations(MatrixView<const float>, const ActivationFormat&,
                                                            const ActivationArrangement&, ExecutionContext);
    friend Result<PackedActivations> pack_activations(MatrixView<const float>, const ActivationFormat&,
                                                      const ActivationArrangement&, ExecutionContext,
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

/// Row `lane` of a tile, in portable code. `shared`: the grid where rows have none of their own. Returns the zero.
inline int quantize_row(const ActivationTile& tile, std::size_t lane, const ActivationFormat& format,
                        const ActivationGrid& shared) noexcept {
    const TileRow row(lane, tile.rows, tile.rows, tile.elements_together);
    const float* const x = tile.x + lane * tile.x_stride_elements;
    int zero = 0;
    for (std::size_t g = 0, begin = 0; begin < tile.k; ++g, begin += tile.group_elements) {
        const std::size_t end = std::min(begin + tile.group_elements, tile.k);
        ActivationGrid grid = shared;
        if (format.granularity != Granularity::tensor)
            grid = grid_of(extent_of(x + begin, end - begin, format), format);
        else if (format.is_static && !magnitude_extent(x, tile.k).finite)
            grid = grid_of({0, 0, false}, format);
        std::int8_t codes[256];
        for (std::size_t i = begin; i < end; i += sizeof codes) {
            const std::size_t count = std::min(sizeof codes, end - i);
            activation_codes(x + i, count, grid, format, codes);
            for (std::size_t j = 0; j < count; ++j) tile.codes[row.code(i + j)] = codes[j];
        }
        tile.scales[row.number(g)] = grid.scale;
        zero = grid.zero;
    }
    for (std::size_t i = tile.k; i < tile.stride_elements; ++i) tile.codes[row.code(i)] = 0;
    for (std::size_t s = 0, begin = 0; begin < tile.k; ++s, begin += tile.sum_group_elements) {
        std::int32_t sum = 0;
        for (std::size_t i = begin; i < std::min(tile.k, begin + tile.sum_group_elements); ++i)
            sum += tile.codes[row.code(i)];
        tile.sums[row.number(s)] = sum;
    }
    return zero;
}

}  // namespace detail

/// pack_activations() of f32 and bf16.
[[nodiscard]] inline Result<PackedActivations> pack_float_activations(MatrixView<const float> x,
                                                                      const ActivationFormat& format,
                                                                      const ActivationArrangement& wanted,
                                                                      ExecutionContext context) {
    using detail::FloatWord;
    const FloatWord word = format.element != ActivationElement::bf16 ? FloatWord::f32
                           : wanted.bf16_as_f32                      ? FloatWord::bf16_as_f32
                                                                     : FloatWord::two_bf16;
    const std::size_t element_bytes = word == FloatWord::two_bf16 ? 2 : sizeof(float);
    const std::size_t rows_together = wanted.rows_together;
    PackedActivations packed;
    packed.format_ = format;
    packed.k_ = x.cols;
    ActivationsView& view = packed.view_;
    view.m = x.rows;
    view.rows_together = rows_together;
    view.bf16_as_f32 = word == FloatWord::bf16_as_f32;
    const bool fits = rows_together == 1 || (x.rows <= 1 && x.cols % detail::float_tile_elements == 0);
    if (word == FloatWord::f32 && fits) {
        view.values = x.data;
        view.stride_elements = x.stride_elements;
        packed.bytes_ = x.rows * x.cols * sizeof(float);
        return packed;
    }
    view.stride_elements = round_up(x.cols, rows_together == 1 ? 4 : detail::float_tile_elements);
    const auto bytes = checked_product({x.rows, view.stride_elements, element_bytes});
    packed.memory_ = bytes ? allocate_host(*bytes) : nullptr;
    if (!packed.memory_)
        return fail(ErrorKind::out_of_memory, "no memory to arrange activations of ", x.rows, " x ", x.cols);
    std::byte* const memory = packed.memory_.get();
    const auto arrange_tile = [&](std::size_t index, std::size_t) {
        const std::size_t first = index * rows_together, rows = std::min(rows_together, x.rows - first);
        const float* const from = x.data + first * x.stride_elements;
        std::byte* const to = memory + first * view.stride_elements * element_bytes;
        if (rows_together == 1 && word == FloatWord::two_bf16) return detail::round_row(from, x.cols, to);
        if (rows_together == 1) return detail::widen_row(from, x.cols, to);
        detail::arrange_rows(word, from, x.stride_elements, rows, x.cols, to);
    };
    const std::size_t tiles = ceil_div(x.rows, rows_together);
    if (tiles == 1)
        arrange_tile(0, 0);
    else
        context.parallel_for(tiles, arrange_tile);
    view.values = memory;
    packed.bytes_ = *bytes;
    return packed;
}

/// Quantizes x (M, K) and arranges it. `range`: of a static format, and only of it. The bytes do not depend
/// on the number of threads, nor the codes on the arrangement. Error: bad format, a range that is missing, not
/// wanted or not one, overflow, no memory.
[[nodiscard]] inline Result<PackedActivations> pack_activations(
    MatrixView<const float> x, const ActivationFormat& format, const ActivationArrangement& wanted = {},
    ExecutionContext context = {}, const std::optional<StaticRange>& range = {}) {
    if (auto valid = validate(format); !valid) return Unexpected{std::move(valid).error()};
    const bool integer = format.element == ActivationElement::int8;
    if ((integer && format.is_static) != range.has_value())
        return fail(
            ErrorKind::bad_input, name(format), " activations ",
            range ? "find their range in x; none can be given" : "need a range that was found beforehand");
    if (!integer) return pack_float_activations(x, format, wanted, context);
    PackedActivations packed;
    packed.format_ = format;
    packed.k_ = x.cols;
    ActivationsView& view = packed.view_;
    view.m = x.rows;
    const std::size_t k = x.cols;
    view.stride_elements = round_up(k, 64) + 64;
    view.rows_together = wanted.rows_together;
    view.elements_together = wanted.elements_together;
    view.group_elements = format.group_elements(k);
    view.groups = format.groups_per_row(k);
    view.sum_group_elements =
        std::clamp<std::size_t>(wanted.sum_group_elements, 1, std::max<std::size_t>(k, 1));
    view.sum_groups = ceil_div(k, view.sum_group_elements);

    constexpr std::size_t room = 16;  // numbers behind those of the last tile
    const auto code_bytes = checked_product({x.rows, view.stride_elements});
    const auto scale_bytes = checked_product({x.rows, round_up(view.groups, 16), sizeof(float)});
    const auto sum_bytes = checked_product({x.rows, round_up(view.sum_groups, 16), sizeof(std::int32_t)});
    const std::size_t zero_bytes = format.asymmetric ? x.rows * sizeof(std::int32_t) : 0;  // < sum_bytes
    auto total = code_bytes && scale_bytes && sum_bytes ? checked_add(*code_bytes + *scale_bytes, *sum_bytes)
                                                        : std::nullopt;
    if (total) total = checked_add(*total, zero_bytes + 2 * room * sizeof(float));
    packed.memory_ = total ? allocate_host(*total) : nullptr;
    if (!packed.memory_)
        return fail(ErrorKind::out_of_memory, "no memory to quantize activations of ", x.rows, " x ", k);

    Result<ActivationGrid> shared = ActivationGrid{};  // of a tensor
    if (format.granularity == Granularity::tensor)
        shared = range ? static_grid(*range, format) : detail::tensor_grid(x, format, context);
    if (!shared) return Unexpected{std::move(shared).error()};

    std::byte* at = packed.memory_.get();
    auto* const codes = reinterpret_cast<std::int8_t*>(at);
    auto* const scales = reinterpret_cast<float*>(at += *code_bytes);
    auto* const sums = reinterpret_cast<std::int32_t*>(at += *scale_bytes + room * sizeof(float));
    auto* const zeros = reinterpret_cast<std::int32_t*>(at += *sum_bytes + room * sizeof(float));
    const auto in_runs = [&](std::size_t group) {
        return group >= k || group % wanted.elements_together == 0;
    };
    const bool tuned = wanted.quantize != nullptr && !format.asymmetric && k > 0 &&
                       format.granularity != Granularity::tensor && in_runs(view.group_elements) &&
                       in_runs(view.sum_group_elements);
    const auto quantize_tile = [&](std::size_t index, std::size_t) {
        const std::size_t first = index * view.rows_together;
        const ActivationTile tile{.x = x.data + first * x.stride_elements,
                                  .x_stride_elements = x.stride_elements,
                                  .rows = std::min(view.rows_together, x.rows - first),
                                  .elements_together = view.elements_together,
                                  .k = k,
                                  .group_elements = view.group_elements,
                                  .sum_group_elements = view.sum_group_elements,
                                  .largest_code = format.max_code(),
                                  .stride_elements = view.stride_elements,
                                  .codes = codes + first * view.stride_elements,
                                  .scales = scales + first * view.groups,
                                  .sums = sums + first * view.sum_groups};
        if (tuned) return wanted.quantize(tile);
        for (std::size_t lane = 0; lane < tile.rows; ++lane) {
            const int zero = detail::quantize_row(tile, lane, format, *shared);
            if (format.asymmetric) zeros[first + lane] = zero;
        }
    };
    const std::size_t tiles = ceil_div(x.rows, view.rows_together);
    if (tiles == 1)
        quantize_tile(0, 0);
    else
        context.parallel_for(tiles, quantize_tile);

    view.values = codes;
    view.scales = scales;
    view.sums = sums;
    if (format.asymmetric) packed.zeros_ = {zeros, x.rows};
    packed.bytes_ = *total;
    return packed;
}

/// The same, row by row, with sums over `sum_group_elements`.
[[nodiscard]] inline Result<PackedActivations> pack_activations(
    MatrixView<const float> x, const ActivationFormat& format, std::size_t sum_group_elements,
    ExecutionContext context = {}, const std::optional<StaticRange>& range = {}) {
    return pack_activations(x, format, ActivationArrangement{.sum_group_elements = sum_group_elements},
                            context, range);
}

}  // namespace fewbit::inline v0
