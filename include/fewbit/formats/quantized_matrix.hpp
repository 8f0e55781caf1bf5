// QuantizedMatrix: codes and parameters of a weight matrix W (N, K) in one canonical order, with their
// format. Methods make it, files hold it, pack() arranges it for a kernel. Copies share the bytes.
//
//   codes    BitMatrix (N, K)            float elements: the raw little-endian bits, 16 or 32 per code
//   scales   Tensor (N, G), (N, 1) or (1, 1) of format.scale       G = ceil(K / group)
//   zeros    BitMatrix of the scales' shape, format.bits per code   Offset::integer only
//   offsets  Tensor of the scales' shape and type                   Offset::real only
//   row_scales  Tensor e8m0 (N, 1)                                  doubly quantized scales only, which are
//               u8 then: scale of group g of row r = scales[r][g] * row_scales[r]
//
// Formats of blocks keep ggml's bytes instead, which may lie in a mapped file:
//
//   blocks   Tensor u8 (N, bytes of a row)
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "fewbit/core/scalar.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/bit_matrix.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/formats/ggml/blocks.hpp"

namespace fewbit::inline v0 {

class QuantizedMatrix {
public:
    QuantizedMatrix() = default;

    /// Zeroed codes and parameters. Error: invalid format, overflow, no memory.
    [[nodiscard]] static Result<QuantizedMatrix> allocate(const Format& format, std::size_t n,
                                                          std::size_t k) {
        if (auto valid = validate(format); !valid) return Unexpected{std::move(valid).error()};
        const auto zeroed = [](Result<Tensor> tensor) {
            if (tensor)
                for (std::byte& byte : tensor->mutable_bytes()) byte = std::byte{0};
            return tensor;
        };
        if (format.is_block()) {
            if (auto fits = validate_columns(format, k); !fits) return Unexpected{std::move(fits).error()};
            auto blocks = zeroed(Tensor::allocate(Scalar::u8, {n, ggml::row_bytes(format.block, k)}));
            if (!blocks) return Unexpected{std::move(blocks).error()};
            return from_blocks(format, n, k, *std::move(blocks));
        }
        auto codes = BitMatrix::allocate(n, k, format.bits);
        if (!codes) return Unexpected{std::move(codes).error()};
        QuantizedMatrix matrix(format, n, k, *std::move(codes));
        if (format.is_float()) return matrix;
        auto scales = zeroed(Tensor::allocate(format.scale, {matrix.scale_rows(), matrix.scale_cols()}));
        if (!scales) return Unexpected{std::move(scales).error()};
        matrix.scales = *std::move(scales);
        if (format.offset == Offset::integer) {
            auto zeros = BitMatrix::allocate(matrix.scale_rows(), matrix.scale_cols(), format.bits);
            if (!zeros) return Unexpected{std::move(zeros).error()};
            matrix.zeros = *std::move(zeros);
        }
        if (format.offset == Offset::real) {
            auto offsets = zeroed(Tensor::allocate(format.scale, {matrix.scale_rows(), matrix.scale_cols()}));
            if (!offsets) return Unexpected{std::move(offsets).error()};
            matrix.offsets = *std::move(offsets);
        }
        if (format.double_quantized()) {
            auto rows =
                zeroed(Tensor::allocate(Scalar::e8m0, {matrix.scale_rows(), matrix.row_scale_cols()}));
            if (!rows) return Unexpected{std::move(rows).error()};
            matrix.row_scales = *std::move(rows);
        }
        return matrix;
    }

    /// Assembles a matrix from parts that were read from a file. Error: a part whose shape or type does not
    /// fit.
    [[nodiscard]] static Result<QuantizedMatrix> assemble(const Format& format, std::size_t n, std::size_t k,
                                                          BitMatrix codes, Tensor scales, BitMatrix zeros,
                                                          Tensor offsets, Tensor row_scales = {}) {
        if (auto valid = validate(format); !valid) return Unexpected{std::move(valid).error()};
        if (format.is_block())
            return fail(ErrorKind::bad_input, "a matrix of ", name(format),
                        " is made of blocks, not of codes and scales");
        QuantizedMatrix matrix(format, n, k, std::move(codes));
        const auto wrong = [&](const char* what) {
            return fail(ErrorKind::bad_input, "the ", what, " of a ", n, " x ", k, " matrix of ",
                        name(format), " have the wrong shape or type");
        };
        if (matrix.codes.rows() != n || matrix.codes.cols() != k || matrix.codes.bits() != format.bits)
            return wrong("codes");
        const Tensor::Shape parameters{matrix.scale_rows(), matrix.scale_cols()};
        if (!format.is_float() && (scales.type() != format.scale || scales.shape() != parameters))
            return wrong("scales");
        if (format.offset == Offset::integer &&
            (zeros.rows() != parameters[0] || zeros.cols() != parameters[1] || zeros.bits() != format.bits))
            return wrong("zero points");
        if (format.offset == Offset::real &&
            (offsets.type() != format.scale || offsets.shape() != parameters))
            return wrong("offsets");
        if (format.double_quantized() &&
            (row_scales.type() != Scalar::e8m0 ||
             row_scales.shape() != Tensor::Shape{parameters[0], matrix.row_scale_cols()}))
            return wrong("scales of rows");
        matrix.row_scales = std::move(row_scales);
        matrix.scales = std::move(scales);
        matrix.zeros = std::move(zeros);
        matrix.offsets = std::move(offsets);
        return matrix;
    }

    /// A matrix of ggml's blocks, whose bytes may lie in a mapped file. `blocks`: u8 (n, bytes of a row).
    /// Error: not a format of blocks, K no multiple of the block, another shape or type.
    [[nodiscard]] static Result<QuantizedMatrix> from_blocks(const Format& format, std::size_t n,
                                                             std::size_t k, Tensor blocks) {
        if (auto valid = validate(format); !valid) return Unexpected{std::move(valid).error()};
        if (!format.is_block())
            return fail(ErrorKind::bad_input, "a matrix of ", name(format), " is not made of blocks");
        if (auto fits = validate_columns(format, k); !fits) return Unexpected{std::move(fits).error()};
        if (blocks.type() != Scalar::u8 ||
            blocks.shape() != Tensor::Shape{n, ggml::row_bytes(format.block, k)})
            return fail(ErrorKind::bad_input, "the blocks of a ", n, " x ", k, " matrix of ", name(format),
                        " have the wrong shape or type");
        QuantizedMatrix matrix(format, n, k, {});
        matrix.blocks = std::move(blocks);
        return matrix;
    }

    [[nodiscard]] const Format& format() const noexcept { return format_; }
    [[nodiscard]] std::size_t n() const noexcept { return n_; }
    [[nodiscard]] std::size_t k() const noexcept { return k_; }
    [[nodiscard]] std::size_t group_elements() const noexcept { return format_.group_elements(k_); }
    [[nodiscard]] std::size_t groups_per_row() const noexcept { return format_.groups_per_row(k_); }

    /// Shape of the parameters: (1, 1) per tensor, else (N, groups); (0, 0) for float elements and empty
    /// matrices.
    [[nodiscard]] std::size_t scale_rows() const noexcept {
        return format_.scales(n_, k_) == 0 ? 0 : format_.granularity == Granularity::tensor ? 1 : n_;
    }
    [[nodiscard]] std::size_t scale_cols() const noexcept {
        return format_.scales(n_, k_) == 0                  ? 0
               : format_.granularity == Granularity::tensor ? 1
                                                            : groups_per_row();
    }

    /// Columns of row_scales: 1, or 0 where there are no scales.
    [[nodiscard]] std::size_t row_scale_cols() const noexcept { return scale_rows() == 0 ? 0 : 1; }

    /// Scale of group g of row r as f32.
    [[nodiscard]] float scale(std::size_t r, std::size_t g) const noexcept {
        if (format_.is_block()) return block_parameters(r, g).scale;
        if (!format_.double_quantized()) return parameter(scales, r, g);
        return static_cast<float>(scales.as<std::uint8_t>()[parameter_index(r, g)]) * row_scale(r);
    }
    /// The power of two that the scales of row r are counts of; doubly quantized scales only.
    [[nodiscard]] float row_scale(std::size_t r) const noexcept {
        return load_float(Scalar::e8m0, row_scales.bytes().data() + r);
    }
    /// Real offset of group g of row r; 0 where the format has none.
    [[nodiscard]] float offset(std::size_t r, std::size_t g) const noexcept {
        if (format_.is_block()) return block_parameters(r, g).offset;
        return format_.offset == Offset::real ? parameter(offsets, r, g) : 0.0f;
    }
    /// The code of 0.0 in group g of row r: stored, or the middle of a symmetric grid or codebook; 0 with a real
    /// offset.
    [[nodiscard]] int zero(std::size_t r, std::size_t g) const noexcept {
        if (format_.offset == Offset::none) return format_.middle_code();
        if (format_.offset == Offset::real) return 0;
        return format_.granularity == Granularity::tensor ? zeros.code(0, 0) : zeros.code(r, g);
    }
    /// Codes [first, first + out.size()) of row r.
    void unpack(std::size_t r, std::size_t first, std::span<std::uint8_t> out) const noexcept {
        if (!format_.is_block()) return codes.unpack(r, first, out);
        std::uint8_t values[ggml::max_block_elements];
        for_each_block(
            r, first, out.size(),
            [&](const std::uint8_t* block, std::size_t begin, std::size_t count, std::size_t done) {
                ggml::unpack_codes(format_.block, block, values);
                std::copy_n(values + begin, count, out.data() + done);
            });
    }
    /// What a code of group g of row r stands for before scaling: code - zero, or the value in the codebook.
    [[nodiscard]] float level(std::size_t r, std::size_t g, std::uint8_t code) const noexcept {
        const auto values = format_.codebook();
        return values.empty() ? static_cast<float>(code - zero(r, g)) : values[code];
    }
    /// Bytes of row r of a format of blocks; null where they may not be written.
    [[nodiscard]] std::uint8_t* mutable_blocks(std::size_t r) noexcept {
        const auto bytes = blocks.mutable_bytes();
        return bytes.empty()
                   ? nullptr
                   : reinterpret_cast<std::uint8_t*>(bytes.data()) + r * ggml::row_bytes(format_.block, k_);
    }
    /// Of doubly quantized scales the row's comes first, and `value` is a multiple of it.
    void set_scale(std::size_t r, std::size_t g, float value) noexcept {
        if (!format_.double_quantized()) return set_parameter(scales, r, g, value);
        const float count = value / row_scale(r);
        scales.as_mutable<std::uint8_t>()[parameter_index(r, g)] = static_cast<std::uint8_t>(count);
    }
    void set_row_scale(std::size_t r, float power_of_two) noexcept {
        store_float(Scalar::e8m0, power_of_two, row_scales.mutable_bytes().data() + r);
    }
    void set_offset(std::size_t r, std::size_t g, float value) noexcept {
        set_parameter(offsets, r, g, value);
    }

    /// Values [first, first + out.size()) of row r, as f32: scale * (code - zero) or scale * codebook[code], one
    /// rounding; with a real offset scale * code rounded, then + offset rounded.
    void dequantize(std::size_t r, std::size_t first, std::span<float> out) const noexcept {
        if (format_.is_float()) {
            const Scalar type = element_scalar(format_);
            const std::size_t element_bytes = fewbit::size_bytes(type);
            load_floats(type, reinterpret_cast<const std::byte*>(codes.row(r)) + first * element_bytes,
                        out.size(), out.data());
            return;
        }
        if (format_.is_block()) {
            const std::size_t elements = ggml::traits(format_.block).elements;
            float values[ggml::max_block_elements];
            for_each_block(
                r, first, out.size(),
                [&](const std::uint8_t* block, std::size_t begin, std::size_t count, std::size_t done) {
                    if (count == elements)
                        return ggml::dequantize_block(format_.block, block, out.data() + done);
                    ggml::dequantize_block(format_.block, block, values);
                    std::copy_n(values + begin, count, out.data() + done);
                });
            return;
        }
        std::uint8_t block[256];
        const std::span<const float> values = format_.codebook();
        const std::size_t group = group_elements();
        for (std::size_t i = 0; i < out.size();) {
            const std::size_t g = (first + i) / group;
            const std::size_t count = std::min({out.size() - i, (g + 1) * group - first - i, sizeof block});
            const float s = scale(r, g), o = offset(r, g);
            const int z = zero(r, g);
            codes.unpack(r, first + i, {block, count});
            for (std::size_t j = 0; j < count && !values.empty(); ++j)
                out[i + j] =
                    static_cast<float>(static_cast<double>(s) * static_cast<double>(values[block[j]]));
            if (values.empty()) write_integers({block, count}, s, z, o, out.data() + i);
            i += count;
        }
    }

    /// Bytes in memory, the padding of rows included.
    [[nodiscard]] std::size_t size_bytes() const noexcept {
        return codes.bytes().size_bytes() + scales.size_bytes() + zeros.bytes().size_bytes() +
               offsets.size_bytes() + row_scales.size_bytes() + blocks.size_bytes();
    }

    BitMatrix codes;
    Tensor scales;
    BitMatrix zeros;
    Tensor offsets;
    Tensor row_scales;
    Tensor blocks;

private:
    QuantizedMatrix(const Format& format, std::size_t n, std::size_t k, BitMatrix codes_)
        : codes(std::move(codes_)), format_(format), n_(n), k_(k) {}

    [[nodiscard]] const std::uint8_t* block_at(std::size_t r, std::size_t b) const noexcept {
        return reinterpret_cast<const std::uint8_t*>(blocks.bytes().data()) +
               r * ggml::row_bytes(format_.block, k_) + b * ggml::traits(format_.block).bytes;
    }
    /// Runs body(block, first element in it, elements, elements before) over a run of row r.
    template <class Body>
    void for_each_block(std::size_t r, std::size_t first, std::size_t size, Body&& body) const noexcept {
        const std::size_t elements = ggml::traits(format_.block).elements;
        for (std::size_t done = 0; done < size;) {
            const std::size_t begin = (first + done) % elements;
            const std::size_t count = std::min(elements - begin, size - done);
            body(block_at(r, (first + done) / elements), begin, count, done);
            done += count;
        }
    }
    [[nodiscard]] ggml::GroupParameters block_parameters(std::size_t r, std::size_t g) const noexcept {
        const ggml::BlockTraits& t = ggml::traits(format_.block);
        const std::size_t groups = t.elements / t.group;
        return ggml::group_parameters(format_.block, block_at(r, g / groups), g % groups);
    }
    /// scale * (code - zero) rounded, then + offset rounded.
    void write_integers(std::span<const std::uint8_t> run, float scale, int zero, float offset,
                        float* out) const noexcept {
        const bool has_offset = format_.offset == Offset::real;
        if (format_.scale == Scalar::f16 || format_.scale == Scalar::bf16) {  // products are exact
            for (std::size_t i = 0; i < run.size(); ++i) out[i] = scale * static_cast<float>(run[i] - zero);
            if (!has_offset) return;
            for (std::size_t i = 0; i < run.size(); ++i) out[i] += offset;
            return;
        }
        // Exact in double, then rounded once: a product of floats could be fused with the sum by compilers that may
        // (users of the headers choose their own flags).
        for (std::size_t i = 0; i < run.size(); ++i) {
            const auto product = static_cast<float>(static_cast<double>(scale) * (run[i] - zero));
            out[i] = has_offset ? product + offset : product;
        }
    }
    [[nodiscard]] std::size_t parameter_index(std::size_t r, std::size_t g) const noexcept {
        return format_.granularity == Granularity::tensor ? 0 : r * groups_per_row() + g;
    }
    [[nodiscard]] float parameter(const Tensor& tensor, std::size_t r, std::size_t g) const noexcept {
        return load_float(format_.scale,
                          tensor.bytes().data() + parameter_index(r, g) * fewbit::size_bytes(format_.scale));
    }
    void set_parameter(Tensor& tensor, std::size_t r, std::size_t g, float value) noexcept {
        store_float(
            format_.scale, value,
            tensor.mutable_bytes().data() + parameter_index(r, g) * fewbit::size_bytes(format_.scale));
    }

    Format format_;
    std::size_t n_ = 0;
    std::size_t k_ = 0;
};

/// A float matrix as a QuantizedMatrix of a float format (f32: the same bits; f16, bf16: rounded).
[[nodiscard]] inline Result<QuantizedMatrix> float_matrix(MatrixView<const float> w,
                                                          Scalar type = Scalar::f32) {
    auto matrix = QuantizedMatrix::allocate(float_format(type), w.rows, w.cols);
    if (!matrix) return matrix;
    for (std::size_t r = 0; r < w.rows; ++r) {
        auto* out = reinterpret_cast<std::byte*>(matrix->codes.mutable_row(r));
        for (std::size_t c = 0; c < w.cols; ++c) store_float(type, w(r, c), out + c * size_bytes(type));
    }
    return matrix;
}

}  // namespace fewbit::inline v0
