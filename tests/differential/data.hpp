// The data of a problem: weights from codes and scales that are drawn, not quantized, between guard pages; x with what
// is hard to round: outliers, zeros, subnormals, rows of one value.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "differential/arena.hpp"
#include "differential/problem.hpp"
#include "fewbit/formats/quantized_matrix.hpp"

namespace fewbit::testing {
namespace detail {

inline std::uint8_t draw_code(const Format& f, Pattern pattern, std::size_t row, std::size_t k,
                              std::size_t single, Draw& draw) {
    const int low = f.min_code(), high = f.max_code();
    int code = low + static_cast<int>(draw.below(static_cast<std::size_t>(high - low + 1)));
    if (pattern == Pattern::highest) code = high;
    if (pattern == Pattern::lowest) code = low;
    if (pattern == Pattern::alternating) code = k % 2 == 0 ? high : low;
    if (pattern == Pattern::extreme_rows) code = row % 2 == 0 ? high : low;
    if (pattern == Pattern::single) code = k == single ? high : f.middle_code();
    if (const auto values = f.codebook();
        !values.empty() && !std::isfinite(values[static_cast<std::size_t>(code)]))
        code = (code & 0x80) | 0x7B;  // of fp8: infinity and NaN have a test of their own
    return static_cast<std::uint8_t>(code);
}

/// A number of about 2^power, of any sign.
inline float draw_near(int power, Draw& draw) {
    return std::ldexp(draw.uniform(), power + static_cast<int>(draw.below(9)) - 4);
}

inline float draw_scale(const Problem& p, Draw& draw) {
    if (p.format.scale == Scalar::e8m0)  // has no sign and no zero
        return std::ldexp(1.0f, p.w_power + static_cast<int>(draw.below(9)) - 4);
    if (draw.below(8) == 0) return 0.0f;
    if (p.format.scale == Scalar::f16 && p.format.offset != Offset::real && draw.below(32) == 0)
        return 65504.0f;
    return draw_near(p.w_power, draw);
}

inline void fill_floats(const Problem& p, std::span<std::byte> out, Draw& draw) {
    const Scalar type = element_scalar(p.format);
    const std::size_t bytes = size_bytes(type);
    for (std::size_t i = 0; i * bytes < out.size(); ++i)
        store_float(type,
                    p.pattern == Pattern::uniform  ? draw_near(p.w_power, draw)
                    : p.pattern == Pattern::single ? (i % 37 == 0 ? 1.0f : 0.0f)
                                                   : std::ldexp(i % 2 == 0 ? 1.0f : -1.0f, p.w_power),
                    out.data() + i * bytes);
}

/// Codes of any width in rows of whole bytes.
template <class Code>
BitMatrix codes_in(Arena& arena, std::size_t rows, std::size_t cols, int bits, Place place, Code&& code) {
    const std::size_t row_bytes = *BitMatrix::row_bytes_for(cols, bits);
    const auto bytes = arena.place(rows * row_bytes, place);
    std::vector<std::uint8_t> row(cols);
    for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) row[c] = code(r, c);
        fewbit::detail::pack_codes(row.data(), bits, cols,
                                   reinterpret_cast<std::uint8_t*>(bytes.data()) + r * row_bytes);
    }
    return *BitMatrix::from_bytes(rows, cols, bits,
                                  *Tensor::borrow(Scalar::u8, {rows, row_bytes}, bytes, nullptr));
}

/// Numbers of a scalar type; u8 as counts.
template <class Value>
Tensor numbers_in(Arena& arena, Scalar type, std::size_t rows, std::size_t cols, Place place, Value&& value) {
    const std::size_t each = size_bytes(type);
    const auto bytes = arena.place(rows * cols * each, place);
    for (std::size_t i = 0; i < rows * cols; ++i)
        if (type == Scalar::u8)
            bytes[i] = static_cast<std::byte>(static_cast<std::uint8_t>(value(i)));
        else
            store_float(type, value(i), bytes.data() + i * each);
    return *Tensor::borrow(type, {rows, cols}, bytes, nullptr);
}

}  // namespace detail

/// W of a problem, whose parts lie in the arenas.
inline QuantizedMatrix draw_weights(const Problem& p, Arenas& arenas, Draw& draw) {
    const Format& f = p.format;
    const auto place = [&] { return draw.below(2) == 0 ? Place::end : Place::start; };
    if (f.is_block()) {
        const std::size_t row_bytes = ggml::row_bytes(f.block, p.k);
        const auto bytes = arenas.codes.place(p.n * row_bytes, place());
        for (std::size_t r = 0; r < p.n; ++r)
            fill_blocks(
                f.block, p.k, reinterpret_cast<std::uint8_t*>(bytes.data()) + r * row_bytes, draw,
                [&] {
                    return static_cast<std::uint8_t>(p.pattern == Pattern::highest  ? 0xFF
                                                     : p.pattern == Pattern::lowest ? 0
                                                                                    : draw.below(256));
                },
                [&] { return draw.below(8) == 0 ? 0.0f : detail::draw_near(p.w_power, draw); });
        if (f.block == ggml::BlockType::nvfp4)  // scales of e4m3: 0x7F is NaN
            for (std::byte& byte : bytes)
                if ((byte & std::byte{0x7F}) == std::byte{0x7F}) byte = std::byte{0x7E};
        return *QuantizedMatrix::from_blocks(f, p.n, p.k,
                                             *Tensor::borrow(Scalar::u8, {p.n, row_bytes}, bytes, nullptr));
    }
    if (f.is_float()) {
        const std::size_t row_bytes = p.k * size_bytes(element_scalar(f));
        const auto bytes = arenas.codes.place(p.n * row_bytes, place());
        detail::fill_floats(p, bytes, draw);
        auto codes = *BitMatrix::from_bytes(p.n, p.k, f.bits,
                                            *Tensor::borrow(Scalar::u8, {p.n, row_bytes}, bytes, nullptr));
        return *QuantizedMatrix::assemble(f, p.n, p.k, std::move(codes), {}, {}, {});
    }
    const bool empty = f.scales(p.n, p.k) == 0, tensor = f.granularity == Granularity::tensor;
    const std::size_t rows = empty    ? 0
                             : tensor ? 1
                                      : p.n,
                      cols = empty    ? 0
                             : tensor ? 1
                                      : f.groups_per_row(p.k);
    const std::size_t single = draw.below(p.k + 1);
    BitMatrix codes = detail::codes_in(
        arenas.codes, p.n, p.k, f.bits, place(),
        [&](std::size_t r, std::size_t k) { return detail::draw_code(f, p.pattern, r, k, single, draw); });
    Tensor scales, offsets, row_scales;
    BitMatrix zeros;
    if (f.double_quantized()) {
        row_scales = detail::numbers_in(arenas.row_scales, Scalar::e8m0, rows, empty ? 0 : 1, place(),
                                        [&](std::size_t) { return std::ldexp(1.0f, p.w_power - 4); });
        const std::size_t counts = draw.below(2) == 0 ? 256 : 2;
        scales = detail::numbers_in(arenas.scales, Scalar::u8, rows, cols, place(), [&](std::size_t) {
            return static_cast<float>(draw.below(counts) * (counts == 2 ? 255 : 1));
        });
    } else {
        scales = detail::numbers_in(arenas.scales, f.scale, rows, cols, place(),
                                    [&](std::size_t) { return detail::draw_scale(p, draw); });
    }
    if (f.offset == Offset::real)
        offsets = detail::numbers_in(arenas.offsets, f.scale, rows, cols, place(),
                                     [&](std::size_t) { return detail::draw_near(p.w_power + 3, draw); });
    if (f.offset == Offset::integer) {
        const Pattern pattern = draw.below(2) == 0 ? Pattern::uniform : static_cast<Pattern>(draw.below(5));
        zeros = detail::codes_in(
            arenas.zeros, rows, cols, f.bits, place(),
            [&](std::size_t r, std::size_t g) { return detail::draw_code(f, pattern, r, g, 0, draw); });
    }
    return *QuantizedMatrix::assemble(f, p.n, p.k, std::move(codes), std::move(scales), std::move(zeros),
                                      std::move(offsets), std::move(row_scales));
}

/// A matrix of floats in an arena; what lies between its rows is poison.
inline MatrixView<float> matrix_in(Arena& arena, std::size_t rows, std::size_t cols, std::size_t gap,
                                   Place place, std::size_t offset) {
    const std::size_t elements = rows == 0 ? 0 : (rows - 1) * (cols + gap) + cols;
    const auto bytes = arena.place(elements * sizeof(float), place, (32 + offset) * sizeof(float));
    return {reinterpret_cast<float*>(bytes.data()), rows, cols, cols + gap};
}

/// Rows of x, each of a kind of its own.
inline void draw_x(MatrixView<float> x, const Problem& p, Draw& draw) {
    const float size = std::ldexp(1.0f, p.x_power);
    // Zero points are at the ends of the codes where all of x is above or below zero.
    const float shift = p.activations.asymmetric && draw.below(2) == 0 ? 4.0f * size * draw.uniform() : 0.0f;
    for (std::size_t m = 0; m < x.rows; ++m) {
        const std::size_t kind = draw.below(10);
        const std::size_t outlier = draw.below(x.cols + 1);
        for (std::size_t k = 0; k < x.cols; ++k) {
            float value = size * draw.uniform();
            if (kind == 0) value = 0.0f;
            if (kind == 1) value = size;
            if (kind == 2) value = k % 2 == 0 ? size : -size;
            if (kind == 3) value = std::ldexp(value, -static_cast<int>(draw.below(30)));
            if (kind == 4) value = std::ldexp(draw.uniform(), -140);  // subnormal
            if (kind == 5 && k == outlier) value *= 1024.0f;
            if (kind == 6 && k != outlier) value = 0.0f;
            x(m, k) = value + (kind == 4 ? 0.0f : shift);
        }
    }
}

}  // namespace fewbit::testing
