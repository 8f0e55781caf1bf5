// The cases of the contract test: formats, activation formats, shapes, and matrices of random codes and
// extreme parameters. Codes are drawn, not quantized: a kernel must be right on every matrix that a file can
// hold.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "support/all_formats.hpp"
#include "support/guarded.hpp"

namespace fewbit::testing {

/// SplitMix64: the same numbers everywhere.
class Draw {
public:
    explicit Draw(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
    float uniform() {
        return static_cast<float>(static_cast<double>(next() >> 11) * 0x1p-52 - 1.0);
    }  // [-1, 1)
    template <class T>
    const T& pick(const std::vector<T>& from) {
        return from[below(from.size())];
    }

private:
    std::uint64_t state_;
};

inline std::vector<Format> contract_formats() {
    std::vector<Format> all;
    for (int bits = min_bits; bits <= max_bits; ++bits)
        for (const std::size_t group : {0, 1, 8, 12, 20, 32, 40, 64, 128})  // 0: tensor, 1: channel
            for (const Offset offset : {Offset::none, Offset::integer, Offset::real})
                for (const Scalar scale : {Scalar::f32, Scalar::f16, Scalar::bf16}) {
                    Format f;
                    f.bits = bits;
                    f.granularity = group == 0   ? Granularity::tensor
                                    : group == 1 ? Granularity::channel
                                                 : Granularity::group;
                    f.group = group < 8 ? 128 : group;
                    f.offset = offset;
                    f.scale = scale;
                    all.push_back(f);
                    if (offset == Offset::none) {
                        f.narrow = true;
                        all.push_back(f);
                    }
                }
    for (const Scalar type : {Scalar::f32, Scalar::f16, Scalar::bf16}) all.push_back(float_format(type));
    for (const ggml::BlockTraits& block : ggml::block_types) all.push_back(block_format(block.type));
    for (const Format& format : codebook_and_dq_formats({8, 12, 32, 64, 128})) all.push_back(format);
    return all;
}

inline std::vector<ActivationFormat> contract_activations() {
    return {exact_activations(),        bf16_activations(),          int8_row_activations(),
            int8_group_activations(8),  int8_group_activations(12),  int8_group_activations(32),
            int8_group_activations(64), int8_group_activations(128), int8_group_activations(256)};
}

/// Any other activation format: bits, what shares a grid, zero points, static ranges.
inline ActivationFormat draw_activation_format(Draw& draw) {
    static const std::vector<std::size_t> groups{8, 12, 32, 128};
    ActivationFormat format = int8_row_activations();
    format.bits = draw.below(3) == 0 ? 8 : 2 + static_cast<int>(draw.below(7));
    const std::size_t kind = draw.below(8);
    if (kind == 0) {
        format.granularity = Granularity::group;
        format.group = draw.pick(groups);
    } else {
        format.granularity = kind < 4 ? Granularity::channel : Granularity::tensor;
        format.asymmetric = draw.below(3) != 0;
        format.is_static = kind >= 6;
    }
    return format;
}

struct Shape {
    std::size_t m, n, k;
};

/// Zeros, ones, primes, tails of every tile, a short last group.
inline Shape draw_shape(Draw& draw) {
    static const std::vector<std::size_t> ms{0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 17, 31, 33};
    static const std::vector<std::size_t> ns{0, 1, 2, 3, 7, 8, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 65};
    static const std::vector<std::size_t> ks{0,   1,   2,   3,   4,   5,   7,   8,   9,   12,  15,   16,
                                             17,  31,  32,  33,  40,  63,  64,  65,  96,  127, 128,  129,
                                             172, 255, 256, 257, 288, 300, 352, 511, 513, 777, 2049, 2304};
    return {draw.pick(ms), draw.pick(ns), draw.pick(ks)};
}

/// Writes a row of blocks: bytes that byte() draws, scales of about size(), which draws an f32.
template <class Byte, class Size>
inline void fill_blocks(ggml::BlockType type, std::size_t k, std::uint8_t* out, Draw& draw, Byte&& byte,
                        Size&& size) {
    const ggml::BlockTraits& t = ggml::traits(type);
    const ggml::HalfPlaces places = ggml::half_places(type);
    for (std::size_t b = 0; b < k / t.elements; ++b, out += t.bytes) {
        for (std::size_t i = 0; i < t.bytes; ++i) out[i] = byte();
        const float scale = size();
        if (places.scale) store_float(Scalar::f16, scale, reinterpret_cast<std::byte*>(out + *places.scale));
        if (places.minimum)
            store_float(Scalar::f16, scale * 8.0f * draw.uniform(),
                        reinterpret_cast<std::byte*>(out + *places.minimum));
        if (type == ggml::BlockType::q8_k) store_float(Scalar::f32, scale, reinterpret_cast<std::byte*>(out));
        if (type == ggml::BlockType::mxfp4)
            store_float(Scalar::e8m0, scale == 0 ? 1.0f : scale,  // rounded down to a power of two
                        reinterpret_cast<std::byte*>(out));
    }
}

/// Any bytes of a row of blocks whose scales are finite numbers of about the size of those below.
inline void draw_blocks(ggml::BlockType type, std::size_t k, std::uint8_t* out, Draw& draw) {
    fill_blocks(
        type, k, out, draw, [&] { return static_cast<std::uint8_t>(draw.below(256)); },
        [&] {
            return (draw.below(8) == 0 ? 0.0f : std::ldexp(1.0f, static_cast<int>(draw.below(9)) - 4)) *
                   draw.uniform();
        });
}

/// A matrix of the format whose parts lie between guard pages. `spread` makes scales differ by powers of two.
inline QuantizedMatrix draw_matrix(const Format& format, std::size_t n, std::size_t k, Draw& draw) {
    auto made = QuantizedMatrix::allocate(format, n, k);
    QuantizedMatrix& q = *made;
    const bool at_start = draw.below(2) == 0;
    const auto guarded = [&](const Tensor& source) {
        Guarded memory(source.size_bytes(), at_start);
        if (!source.bytes().empty()) std::memcpy(memory.data(), source.bytes().data(), source.size_bytes());
        return *Tensor::borrow(source.type(), source.shape(), {memory.data(), memory.size()}, memory.owner());
    };
    if (format.is_block()) {
        for (std::size_t r = 0; r < n; ++r) draw_blocks(format.block, k, q.mutable_blocks(r), draw);
        return *QuantizedMatrix::from_blocks(format, n, k, guarded(q.blocks));
    }
    if (format.is_float()) {
        const Scalar type = element_scalar(format);
        for (std::size_t r = 0; r < n; ++r)
            for (std::size_t c = 0; c < k; ++c)
                store_float(type, draw.uniform() * (draw.below(50) == 0 ? 100.0f : 1.0f),
                            reinterpret_cast<std::byte*>(q.codes.mutable_row(r)) + c * size_bytes(type));
    } else {
        const bool extremes = draw.below(4) == 0;
        std::vector<std::uint8_t> row(k);
        const auto code = [&](bool extreme) {
            const int span = format.max_code() - format.min_code() + 1;
            if (extreme)
                return static_cast<std::uint8_t>(draw.below(2) == 0 ? format.min_code() : format.max_code());
            return static_cast<std::uint8_t>(format.min_code() +
                                             static_cast<int>(draw.below(static_cast<std::size_t>(span))));
        };
        const auto finite = [&](std::uint8_t drawn) {  // of fp8: infinity and NaN have a test of their own
            const auto values = format.codebook();
            return values.empty() || std::isfinite(values[drawn]) ? drawn : std::uint8_t{0x7B};
        };
        for (std::size_t r = 0; r < n; ++r) {
            const bool extreme = extremes && draw.below(2) == 0;
            for (auto& value : row) value = finite(code(extreme));
            q.codes.pack_row(r, row);
        }
        std::vector<std::uint8_t> zeros(q.scale_cols());
        for (std::size_t r = 0; r < q.scale_rows(); ++r) {
            const float power = std::ldexp(1.0f, static_cast<int>(draw.below(9)) - 12);
            if (format.double_quantized()) q.set_row_scale(r, power);
            for (std::size_t g = 0; g < q.scale_cols(); ++g) {
                const float size =
                    draw.below(8) == 0 ? 0.0f : std::ldexp(1.0f, static_cast<int>(draw.below(9)) - 4);
                q.set_scale(r, g,
                            format.double_quantized() ? power * static_cast<float>(draw.below(256))
                            : format.scale == Scalar::e8m0
                                ? std::ldexp(1.0f, static_cast<int>(draw.below(9)) - 4)
                                : size * draw.uniform());
                if (format.offset == Offset::real) q.set_offset(r, g, size * 8.0f * draw.uniform());
                zeros[g] =
                    static_cast<std::uint8_t>(draw.below(static_cast<std::size_t>(format.max_code()) + 1));
            }
            if (format.offset == Offset::integer) q.zeros.pack_row(r, zeros);
        }
    }
    BitMatrix codes = *BitMatrix::from_bytes(n, k, format.bits, guarded(q.codes.bytes()));
    BitMatrix zeros;
    if (format.offset == Offset::integer && !format.is_float())
        zeros = *BitMatrix::from_bytes(q.scale_rows(), q.scale_cols(), format.bits, guarded(q.zeros.bytes()));
    const bool parameters = !format.is_float();
    return *QuantizedMatrix::assemble(
        format, n, k, codes, parameters ? guarded(q.scales) : q.scales, zeros,
        format.offset == Offset::real && parameters ? guarded(q.offsets) : q.offsets,
        format.double_quantized() ? guarded(q.row_scales) : q.row_scales);
}

/// x between guard pages, rows `padding` elements apart; the elements between rows are NaN.
struct GuardedMatrix {
    Guarded memory;
    MatrixView<float> view;

    GuardedMatrix(std::size_t rows, std::size_t cols, std::size_t padding, bool at_start)
        : memory((rows == 0 ? 0 : (rows - 1) * (cols + padding) + cols) * sizeof(float), at_start),
          view(memory.as<float>(), rows, cols, cols + padding) {
        for (std::size_t i = 0; i < memory.size() / sizeof(float); ++i)
            view.data[i] = std::numeric_limits<float>::quiet_NaN();
    }
};

inline void draw_activations(MatrixView<float> x, Draw& draw) {
    for (std::size_t m = 0; m < x.rows; ++m) {
        const float size = std::ldexp(1.0f, static_cast<int>(draw.below(13)) - 6);
        const std::size_t kind = draw.below(8);
        for (std::size_t k = 0; k < x.cols; ++k)
            x(m, k) = kind == 0   ? 0.0f
                      : kind == 1 ? (draw.below(2) == 0 ? size : -size)
                                  : size * draw.uniform();
    }
}

/// A static range for x: half to one and a half times what x spans, on each side.
inline StaticRange draw_range(MatrixView<const float> x, Draw& draw) {
    StaticRange range;
    for (std::size_t m = 0; m < x.rows; ++m)
        for (const float value : x.row(m)) range = {std::min(range.min, value), std::max(range.max, value)};
    return {range.min * (1.0f + 0.5f * draw.uniform()), range.max * (1.0f + 0.5f * draw.uniform())};
}

}  // namespace fewbit::testing
