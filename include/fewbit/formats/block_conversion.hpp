// Integer formats whose grid a block type of ggml has too: their matrices become blocks without a change in any
// weight.
//
//   int4-g32, int5-g32, int8-g32 (narrow or not)   q4_0, q5_0, q8_0      the same f16 scale, the same code
//   int4-g32-fzero, int5-g32-fzero                 q4_1, q5_1            the same f16 scale and offset
//   int2-g256-narrow, int2-g64-narrow              tq2_0, q2_0           -1, 0, 1: the code minus one
//   iq4-g32, e2m1-g32-se8m0                        iq4_nl, mxfp4         the same scale, the same code
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/formats/quantized_matrix.hpp"

namespace fewbit::inline v0 {

/// The type whose blocks hold any matrix of `format`, K permitting, as it is; nothing where there is none.
[[nodiscard]] inline std::optional<ggml::BlockType> same_grid(const Format& format) noexcept {
    using ggml::BlockType;
    if (format.is_block()) return format.block;
    if (format.is_float() || format.granularity != Granularity::group) return std::nullopt;
    if (format.element == Element::e2m1 && format.group == 32 && format.scale == Scalar::e8m0)
        return BlockType::mxfp4;
    if (format.scale != Scalar::f16) return std::nullopt;
    if (format.element == Element::iq4 && format.group == 32) return BlockType::iq4_nl;
    if (format.is_codebook()) return std::nullopt;
    if (format.offset == Offset::real && format.group == 32)
        return format.bits == 4   ? std::optional(BlockType::q4_1)
               : format.bits == 5 ? std::optional(BlockType::q5_1)
                                  : std::nullopt;
    if (format.offset != Offset::none) return std::nullopt;
    if (format.bits == 2 && format.narrow)
        return format.group == 256  ? std::optional(BlockType::tq2_0)
               : format.group == 64 ? std::optional(BlockType::q2_0)
                                    : std::nullopt;
    if (format.group != 32) return std::nullopt;
    return format.bits == 4   ? std::optional(BlockType::q4_0)
           : format.bits == 5 ? std::optional(BlockType::q5_0)
           : format.bits == 8 ? std::optional(BlockType::q8_0)
                              : std::nullopt;
}

/// The type that comes closest to `format`, for sentences that say that it has no equal.
[[nodiscard]] inline ggml::BlockType nearest_block_type(const Format& format) noexcept {
    using ggml::BlockType;
    if (const auto same = same_grid(format)) return *same;
    if (format.is_codebook())
        return format.bits == 8                  ? BlockType::q8_0
               : format.element == Element::e2m1 ? BlockType::mxfp4
                                                 : BlockType::iq4_nl;
    switch (format.bits) {
        case 2: return BlockType::q2_k;
        case 3: return BlockType::q3_k;
        case 4: return format.offset == Offset::none ? BlockType::q4_0 : BlockType::q4_1;
        case 5: return format.offset == Offset::none ? BlockType::q5_0 : BlockType::q5_1;
        case 6: return BlockType::q6_k;
        default: return BlockType::q8_0;
    }
}

/// Row r of a matrix as blocks of same_grid(). `out`: row_bytes. Precondition: K fills blocks.
inline void convert_row(const QuantizedMatrix& matrix, std::size_t r, std::uint8_t* out) {
    const ggml::BlockType type = *same_grid(matrix.format());
    const ggml::BlockTraits& t = ggml::traits(type);
    const ggml::HalfPlaces places = ggml::half_places(type);
    const auto half = [&](const Tensor& from, std::size_t g, std::size_t place, std::uint8_t* block) {
        std::memcpy(block + place, from.bytes().data() + 2 * (r * matrix.groups_per_row() + g), 2);
    };
    std::vector<std::uint8_t> codes(t.elements);
    for (std::size_t b = 0; b < matrix.k() / t.elements; ++b, out += t.bytes) {
        matrix.codes.unpack(r, b * t.elements, codes);
        if (t.grid == ggml::Grid::integer)
            for (std::uint8_t& code : codes)
                code = static_cast<std::uint8_t>(code - matrix.format().middle_code() + t.zero);
        if (places.scale)
            half(matrix.scales, b, *places.scale, out);
        else  // mxfp4: e8m0, first in the block
            out[0] = static_cast<std::uint8_t>(matrix.scales.bytes()[r * matrix.groups_per_row() + b]);
        if (places.minimum) half(matrix.offsets, b, *places.minimum, out);
        ggml::pack_codes(type, codes.data(), out);
    }
}

/// The same weights in blocks. Errors: a format without its equal among ggml's types (the sentence names the
/// nearest), K no multiple of the block, no memory.
[[nodiscard]] inline Result<QuantizedMatrix> to_blocks(const QuantizedMatrix& matrix) {
    const auto type = same_grid(matrix.format());
    if (!type)
        return fail(ErrorKind::unsupported, "no type of ggml has the grid of ", name(matrix.format()),
                    "; the nearest is ", ggml::name(nearest_block_type(matrix.format())));
    if (matrix.format().is_block()) return matrix;
    auto blocks = QuantizedMatrix::allocate(block_format(*type), matrix.n(), matrix.k());
    if (!blocks) return blocks;
    for (std::size_t r = 0; r < matrix.n(); ++r) convert_row(matrix, r, blocks->mutable_blocks(r));
    return blocks;
}

}  // namespace fewbit::inline v0
