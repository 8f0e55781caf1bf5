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
#include "fewbit/pack/tile16_codes.hpp"

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

/// Writes one channel of a tile of a matrix of blocks; missing channels are cleared beforehand. Groups divide
/// blocks and blocks K, so that all groups are full.
inline void pack_tile16_channel(const QuantizedMatrix& source, const Tile16Shape& shape, std::size_t row,
                                std::size_t c, std::uint8_t* out) {
    const Format twin = tile16_format(source.format());
    const ggml::BlockTraits& t = ggml::traits(source.format().block);
    const std::size_t scale_bytes = size_bytes(twin.scale);
    const bool signs = t.type == ggml::BlockType::q1_0;  // codes 0 and 1: -1 and 1, which are 1 and 3 of int2
    // mxfp4 and nvfp4 have scales of half the size for tables of twice.
    const float ratio = twin.is_codebook() ? source.format().codebook()[7] / twin.codebook()[7] : 1.0f;
    const std::size_t groups = t.elements / t.group;
    const ggml::HalfPlaces halves = ggml::half_places(t.type);
    const bool stored_halves = twin.scale == Scalar::f16 && ratio == 1.0f;  // as they are in the block
    const auto* block = reinterpret_cast<const std::uint8_t*>(source.blocks.bytes().data()) +
                        row * ggml::row_bytes(t.type, source.k());
    std::uint8_t codes[ggml::max_block_elements + tile16_plane_elements] = {};
    for (std::size_t b = 0; b < source.k() / t.elements; ++b, block += t.bytes) {
        ggml::unpack_codes(t.type, block, codes);
        if (signs)
            for (std::uint8_t& code : std::span(codes, t.elements))
                code = static_cast<std::uint8_t>(2 * code + 1);
        if (shape.super_groups != 0) {
            std::memcpy(out + 2 * c, block + *halves.scale, 2);
            if (halves.minimum) {
                std::uint8_t* const minimum = out + 2 * (tile16_channels + c);
                std::memcpy(minimum, block + *halves.minimum, 2);
                minimum[1] ^= 0x80;  // its sign
            }
            out += shape.super_parameter_bytes;
        }
        for (std::size_t g = 0; g < groups; ++g, out += shape.group_bytes) {
            auto* const scale = reinterpret_cast<std::byte*>(out + c * scale_bytes);
            auto* const offset = reinterpret_cast<std::byte*>(out + (tile16_channels + c) * scale_bytes);
            if (shape.super_groups != 0) {
                const auto factors = ggml::group_factors(t.type, block, g);
                out[c] = static_cast<std::uint8_t>(factors.scale);
                if (halves.minimum) out[tile16_channels + c] = static_cast<std::uint8_t>(factors.minimum);
            } else if (stored_halves) {
                std::memcpy(scale, block + *halves.scale, scale_bytes);
                if (twin.offset == Offset::real) std::memcpy(offset, block + *halves.minimum, scale_bytes);
            } else {
                const auto parameters = ggml::group_parameters(t.type, block, g);
                store_float(twin.scale, ratio * parameters.scale, scale);
                if (twin.offset == Offset::real) store_float(twin.scale, parameters.offset, offset);
            }
            write_tile16_codes(codes + g * t.group, t.group, shape, c, out + shape.parameter_bytes);
        }
    }
}

/// Writes tile `tile` of layout tile16 (drawn in layout.hpp).
inline void pack_tile16(const QuantizedMatrix& source, const Tile16Shape& shape, std::size_t tile,
                        std::uint8_t* out) noexcept {
    const Format& format = source.format();
    const std::size_t first = tile * tile16_channels;
    const std::size_t channels = std::min(tile16_channels, source.n() - first);
    if (format.is_block()) {
        std::memset(out, 0, shape.tile_bytes);
        for (std::size_t c = 0; c < channels; ++c) pack_tile16_channel(source, shape, first + c, c, out);
        return;
    }
    const Format twin = tile16_format(format);
    const std::size_t scale_bytes = size_bytes(twin.scale);
    const bool inline_parameters = format.granularity != Granularity::tensor;

    for (std::size_t g = 0; g < shape.groups; ++g) {
        std::memset(out, 0, shape.parameter_bytes);
        if (inline_parameters) {
            std::uint8_t* second = out + tile16_channels * scale_bytes;
            for (std::size_t c = 0; c < channels; ++c) {
                const std::size_t index = ((first + c) * shape.groups + g) * scale_bytes;
                if (format.double_quantized())
                    store_float(twin.scale, source.scale(first + c, g),
                                reinterpret_cast<std::byte*>(out + c * scale_bytes));
                else
                    std::memcpy(out + c * scale_bytes, source.scales.bytes().data() + index, scale_bytes);
                if (format.offset == Offset::real)
                    std::memcpy(second + c * scale_bytes, source.offsets.bytes().data() + index, scale_bytes);
                if (format.offset == Offset::integer) {
                    const unsigned zero = source.zeros.code(first + c, g);
                    if (format.bits <= 4)
                        second[c / 2] = static_cast<std::uint8_t>(second[c / 2] | zero << (4 * (c % 2)));
                    else
                        second[c] = static_cast<std::uint8_t>(zero);
                }
            }
            out += shape.parameter_bytes;
        }
        const std::size_t k_begin = g * shape.group_elements;
        const std::size_t count = std::min(shape.group_elements, source.k() - k_begin);
        const std::size_t steps = ceil_div(count, shape.step_elements);
        // Some steps at a time, all channels: what is written stays in the nearest cache.
        constexpr std::size_t block = 256;
        if (channels < tile16_channels) std::memset(out, 0, steps * shape.step_bytes);
        for (std::size_t done = 0; done < count; done += block) {
            const std::size_t part = std::min(block, count - done);
            for (std::size_t c = 0; c < channels; ++c) {
                std::uint8_t* const to = out + done / shape.step_elements * shape.step_bytes;
                std::size_t written = 0;
                if (format.bits == 4 && (k_begin + done) % 2 == 0) {
                    written = part / 8 * 8;
                    write_tile16_nibbles(source.codes.row(first + c) + (k_begin + done) / 2, part / 8, c, to);
                }
                if (written == part) continue;
                std::uint8_t codes[block + tile16_plane_elements];
                source.codes.unpack(first + c, k_begin + done + written, {codes, part - written});
                std::memset(codes + (part - written), 0, tile16_plane_elements);
                write_tile16_codes(codes, part - written, shape, c,
                                   to + written / shape.step_elements * shape.step_bytes);
            }
        }
        out += steps * shape.step_bytes;
    }
}

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
