// PackedMatrix: a QuantizedMatrix in the layout that a kernel wants. It remembers which, and kernels refuse
// another. Layout::rows shares the matrix's bytes; tile16 makes new ones, after which the source may go.
// For asymmetric activations it also holds sum_k w[n][k], by which matmul() corrects for their zero points.
#pragma once

#include <cstring>
#include <span>
#include <utility>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/large_pages.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/matmul/contract.hpp"
#include "fewbit/pack/tile16.hpp"

namespace fewbit::inline v0 {

class PackedMatrix {
public:
    PackedMatrix() = default;

    [[nodiscard]] const Format& format() const noexcept { return format_; }
    [[nodiscard]] std::size_t n() const noexcept { return n_; }
    [[nodiscard]] std::size_t k() const noexcept { return k_; }
    [[nodiscard]] Layout layout() const noexcept { return layout_; }
    /// Bytes that one product reads, row sums aside.
    [[nodiscard]] std::size_t size_bytes() const noexcept {
        return source_.size_bytes() + stream_.size_bytes();
    }
    /// (N) sums of the dequantized weights of each row; empty unless pack() was asked for them.
    [[nodiscard]] std::span<const double> row_sums() const noexcept { return row_sums_.as<double>(); }

    /// As kernels see it; valid while this object lives.
    [[nodiscard]] WeightsView view() const noexcept;

    friend Result<PackedMatrix> pack(const QuantizedMatrix&, Layout, ExecutionContext,
                                     const ActivationFormat&);

private:
    Format format_;
    std::size_t n_ = 0;
    std::size_t k_ = 0;
    Layout layout_ = Layout::rows;
    QuantizedMatrix source_;  // rows: all of it; tile16: only per-tensor parameters
    Tensor stream_;           // tile16
    Tensor row_sums_;         // f64 (N)
};

inline WeightsView PackedMatrix::view() const noexcept {
    WeightsView w;
    w.n = n_;
    w.k = k_;
    w.group_elements = format_.group_elements(k_);
    w.groups = format_.groups_per_row(k_);
    const Format stored = layout_ == Layout::tile16 ? tile16_format(format_) : format_;
    w.bits = stored.bits;
    if (stored.is_codebook()) {
        w.kind = stored.element == Element::fp8_e4m3   ? Codes::fp8_e4m3
                 : stored.element == Element::fp8_e5m2 ? Codes::fp8_e5m2
                                                       : Codes::table;
        w.table = stored.codebook().data();
        if (const auto* integers = stored.integer_codebook()) {
            w.levels = integers->levels.data();
            w.unit = integers->unit;
        }
    }
    w.scale = format_.is_float() ? element_scalar(format_) : stored.scale;
    w.middle_code = format_.is_float() || stored.is_codebook() ? 0
                    : layout_ == Layout::tile16                ? tile16_middle(format_)
                                                               : format_.middle_code();
    w.has_zeros = format_.offset == Offset::integer && !format_.is_float();
    w.has_offsets = format_.offset == Offset::real && !format_.is_float();
    w.per_tensor = format_.granularity == Granularity::tensor;

    const auto at = [](const Tensor& tensor) {
        return reinterpret_cast<const std::uint8_t*>(tensor.bytes().data());
    };
    if (layout_ == Layout::tile16) {
        w.codes = at(stream_);
        const Tile16Shape shape(format_, k_);
        w.codes_stride_bytes = shape.tile_bytes;
        w.field_bits = shape.field_bits;
        w.super_groups = shape.super_groups;
        if (shape.super_groups != 0) w.scale = Scalar::f16;
    } else if (format_.is_block()) {
        w.codes = at(source_.blocks);
        w.codes_stride_bytes = ggml::row_bytes(format_.block, k_);
        w.block_type = static_cast<int>(format_.block);
        return w;
    } else {
        w.codes = at(source_.codes.bytes());
        w.codes_stride_bytes = source_.codes.row_bytes();
    }
    if (layout_ == Layout::rows || w.per_tensor) {
        const std::size_t stride = w.per_tensor ? 0 : w.groups * fewbit::size_bytes(format_.scale);
        w.scales = at(source_.scales);
        w.scales_stride_bytes = stride;
        w.offsets = at(source_.offsets);
        w.offsets_stride_bytes = stride;
        w.zeros = at(source_.zeros.bytes());
        w.zeros_stride_bytes = w.per_tensor ? 0 : source_.zeros.row_bytes();
        if (format_.double_quantized() && layout_ == Layout::rows) w.row_scales = at(source_.row_scales);
    }
    return w;
}

namespace detail {

/// sum_k w[row][k], as products with integer activations read w. Levels of a group are summed exactly, so that
/// only the scales round: 2^-53 per group.
[[nodiscard]] inline double row_sum(const QuantizedMatrix& w, std::size_t row) noexcept {
    double sum = 0;
    std::uint8_t codes[256];
    const std::size_t group = w.group_elements();
    const std::span<const float> values = w.format().codebook();
    const codebooks::IntegerTable* const integers = w.format().integer_codebook();
    for (std::size_t begin = 0; begin < w.k(); begin += group) {
        const std::size_t g = begin / group, end = std::min(begin + group, w.k());
        double levels = 0;  // of integers: exact
        for (std::size_t i = begin; i < end; i += sizeof codes) {
            const std::size_t count = std::min(sizeof codes, end - i);
            w.unpack(row, i, {codes, count});
            if (integers != nullptr)
                for (std::size_t j = 0; j < count; ++j) levels += integers->levels[codes[j]];
            else if (values.empty())
                for (std::size_t j = 0; j < count; ++j) levels += codes[j];
            else
                for (std::size_t j = 0; j < count; ++j) levels += static_cast<double>(values[codes[j]]);
        }
        const auto elements = static_cast<double>(end - begin);
        if (values.empty()) levels -= elements * w.zero(row, g);
        if (integers != nullptr) levels *= static_cast<double>(integers->unit);
        sum +=
            static_cast<double>(w.scale(row, g)) * levels + static_cast<double>(w.offset(row, g)) * elements;
    }
    return sum;
}

}  // namespace detail

/// Arranges a matrix for kernels that want `layout`. `activations`: what it will be multiplied with; where
/// they are asymmetric, row sums are kept too. Peak memory: the packed bytes. Error: the layout cannot hold
/// the format, or no memory.
[[nodiscard]] inline Result<PackedMatrix> pack(const QuantizedMatrix& matrix, Layout layout,
                                               ExecutionContext context = {},
                                               const ActivationFormat& activations = {}) {
    PackedMatrix packed;
    packed.format_ = matrix.format();
    packed.n_ = matrix.n();
    packed.k_ = matrix.k();
    packed.layout_ = layout;
    if (activations.asymmetric && activations.element == ActivationElement::int8 &&
        !matrix.format().is_float()) {
        auto sums = Tensor::allocate(Scalar::f64, {matrix.n()});
        if (!sums) return Unexpected{std::move(sums).error().within("row sums")};
        double* const values = sums->as_mutable<double>().data();
        context.parallel_for(
            matrix.n(), [&](std::size_t row, std::size_t) { values[row] = detail::row_sum(matrix, row); });
        packed.row_sums_ = *std::move(sums);
    }
    if (layout == Layout::rows) {
        packed.source_ = matrix;
        return packed;
    }
    if (auto why = layout_refuses(layout, matrix.format(), {}, matrix.k()); !why.empty())
        return fail(ErrorKind::unsupported, "cannot pack a ", matrix.n(), " x ", matrix.k(),
                    " matrix: ", why);
    if (matrix.format().granularity == Granularity::tensor) {
        packed.source_.scales = matrix.scales;
        packed.source_.zeros = matrix.zeros;
        packed.source_.offsets = matrix.offsets;
    }
    const Tile16Shape shape(matrix.format(), matrix.k());
    const std::size_t tiles = ceil_div(matrix.n(), tile16_channels);
    const auto size = checked_product({tiles, shape.tile_bytes});
    auto memory = size ? allocate_large(*size) : nullptr;
    if (!memory)
        return fail(ErrorKind::out_of_memory, "no memory to pack a ", matrix.n(), " x ", matrix.k(),
                    " matrix of ", name(matrix.format()));
    auto* const bytes = reinterpret_cast<std::uint8_t*>(memory.get());
    context.parallel_for(tiles, [&](std::size_t tile, std::size_t) {
        detail::pack_tile16(matrix, shape, tile, bytes + tile * shape.tile_bytes);
    });
    packed.stream_ = *Tensor::borrow(Scalar::u8, {tiles, shape.tile_bytes}, {memory.get(), *size}, memory);
    return packed;
}

}  // namespace fewbit::inline v0
