// Layouts: the orders of bytes that kernels want. Many storage formats, few layouts.
//
// rows    the canonical order of QuantizedMatrix itself; packing copies nothing.
//
// tile16  codes in tiles of 16 output channels, one stream per tile:
//           tile  = group | group | ...                       groups along K
//           group = 16 scales | 16 zeros or offsets (if any) | steps
//           step of 4 bits   64 bytes, c < 16, j < 4: byte (c, j) = w[c][8s + j] low nibble, w[c][8s + 4 + j] high
//           step of 8 bits   64 bytes: byte (c, j) = w[c][4s + j]; of 7 bits too
//           step of planes   16 of K: codes of 2, 3, 5, 6 bits; drawn in pack/tile16_codes.hpp
//         Where groups have integer scales under those of a super-block, as ggml's K-quants do, they stay so:
//           tile  = super | super | ...
//           super = 16 scales | 16 minima, negative (if any), of f16 | groups, whose 16 scales and offsets are i8
//         Scales keep their stored type (doubly quantized ones become bf16, which holds them); integer zeros are
//         nibbles (two channels a byte, low nibble first) or, of more than 4 bits, bytes. 64 bytes hold 16 channels x
//         4 of K, 32 bytes 8, 16 bytes 4: one order for all register widths. Per-tensor parameters stay outside the
//         stream. Missing channels have scale 0, missing k at the end of a row has field 0. Groups are multiples of
//         8, or the whole row; those that cut a step of planes have whole fields. ggml's blocks become integer codes
//         or codebooks (tile16_format).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "fewbit/core/checked.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0 {

[[nodiscard]] constexpr std::string_view name(Layout layout) noexcept {
    return layout == Layout::tile16 ? "tile16" : "rows";
}

/// Channels of a tile of Layout::tile16.
inline constexpr std::size_t tile16_channels = 16;

/// The format whose codes tile16 holds for a matrix of `format`: itself, or one with the same values. Doubly
/// quantized scales become bf16 (8 bits times a power of two), and ggml's blocks become integers or a codebook;
/// f32 holds what their scales of two levels multiply to.
[[nodiscard]] inline Format tile16_format(const Format& format) noexcept {
    Format twin = format;
    if (format.double_quantized()) twin.scale = Scalar::bf16;
    if (!format.is_block()) return twin;
    const ggml::BlockTraits& t = ggml::traits(format.block);
    const bool one_level = t.group == t.elements && ggml::half_places(format.block).scale;
    twin = Format{};
    switch (format.block) {
        case ggml::BlockType::iq4_nl:
        case ggml::BlockType::iq4_xs: twin = codebook_format(Element::iq4); break;
        case ggml::BlockType::mxfp4:
        case ggml::BlockType::nvfp4: twin = codebook_format(Element::e2m1); break;
        default: twin.bits = t.bits == 1 ? 2 : t.bits;
    }
    twin.group = t.group;
    twin.offset = format.offset;
    twin.scale = one_level                                ? Scalar::f16
                 : format.block == ggml::BlockType::mxfp4 ? Scalar::e8m0
                 : format.block == ggml::BlockType::nvfp4 ? Scalar::f16
                                                          : Scalar::f32;
    return twin;
}

/// The code of 0 in tile16 where integers have no zero points stored. Precondition: tile16 holds integers.
[[nodiscard]] inline int tile16_middle(const Format& format) noexcept {
    if (format.is_block() && format.codebook().empty()) return format.middle_code();
    return tile16_format(format).middle_code();
}

/// Elements of K in a step of planes.
inline constexpr std::size_t tile16_plane_elements = 16;

/// Bits that a code of `bits` takes: planes where groups are whole steps, else the next field.
[[nodiscard]] constexpr int tile16_field_bits(int bits, std::size_t group, std::size_t k) noexcept {
    const bool planes = bits % 4 != 0 && bits < 7 && (group >= k || group % tile16_plane_elements == 0);
    return planes ? bits : bits <= 4 ? 4 : 8;
}

/// Byte counts of tile16 for one format and K.
struct Tile16Shape {
    std::size_t groups = 0;           ///< per row
    std::size_t group_elements = 0;   ///< of a full group
    std::size_t parameter_bytes = 0;  ///< scales, zeros or offsets of a group
    int field_bits = 0;               ///< of a code
    std::size_t step_elements = 0;    ///< of K
    std::size_t step_bytes = 0;
    std::size_t group_bytes = 0;   ///< of a full group
    std::size_t super_groups = 0;  ///< of a super-block; 0: scales of one level
    std::size_t super_parameter_bytes = 0;
    std::size_t super_bytes = 0;
    std::size_t tile_bytes = 0;

    Tile16Shape(const Format& given, std::size_t k)
        : Tile16Shape(tile16_format(given), k,
                      given.is_block() && ggml::has_two_levels(given.block)
                          ? ggml::traits(given.block).elements / ggml::traits(given.block).group
                          : 0) {}

private:
    Tile16Shape(const Format& format, std::size_t k, std::size_t groups_of_super)
        : groups(format.groups_per_row(k)),
          group_elements(format.group_elements(k)),
          field_bits(tile16_field_bits(format.bits, group_elements, k)),
          step_elements(field_bits == 4   ? 8
                        : field_bits == 8 ? 4
                                          : tile16_plane_elements),
          step_bytes(tile16_channels * step_elements * static_cast<std::size_t>(field_bits) / 8) {
        if (format.granularity != Granularity::tensor) {
            parameter_bytes =
                tile16_channels * (groups_of_super == 0 ? size_bytes(format.scale) : size_bytes(Scalar::i8));
            if (format.offset == Offset::real) parameter_bytes *= 2;
            if (format.offset == Offset::integer)
                parameter_bytes += format.bits <= 4 ? tile16_channels / 2 : tile16_channels;
        }
        group_bytes = parameter_bytes + ceil_div(group_elements, step_elements) * step_bytes;
        if (groups_of_super != 0) {
            super_groups = groups_of_super;
            super_parameter_bytes = parameter_bytes * size_bytes(Scalar::f16);
            super_bytes = super_parameter_bytes + super_groups * group_bytes;
            tile_bytes = groups / super_groups * super_bytes;
        } else if (groups != 0) {
            const std::size_t last = k - (groups - 1) * group_elements;
            tile_bytes =
                (groups - 1) * group_bytes + parameter_bytes + ceil_div(last, step_elements) * step_bytes;
        }
    }
};

/// Why a layout cannot hold a format, or serve activations of this kind; empty when it can.
[[nodiscard]] inline std::string layout_refuses(Layout layout, const Format& format,
                                                const ActivationFormat& activations, std::size_t k) {
    if (layout == Layout::rows) return {};
    const std::size_t group = format.group_elements(k);
    if (format.is_float()) return text("layout tile16 holds codes, not ", name(format));
    if (group < k && group % 8 != 0)
        return text("layout tile16 needs groups of a multiple of 8, not ", group);
    if (activations.element != ActivationElement::int8) return {};
    const std::size_t x_group = activations.group_elements(k);
    if (x_group < k && x_group % 8 != 0)
        return text("layout tile16 needs activation groups of a multiple of 8, not ", x_group);
    const int bits = tile16_format(format).bits, field_bits = tile16_field_bits(bits, group, k);
    if (field_bits % 4 != 0 && x_group < k && x_group % tile16_plane_elements != 0)
        return text("layout tile16 holds codes of ", bits, " bits in planes of ", tile16_plane_elements,
                    " and needs activation groups of a multiple of that, not ", x_group);
    const std::size_t small = group < x_group ? group : x_group;
    const std::size_t large = group < x_group ? x_group : group;
    if (large < k && large % small != 0)
        return text("weight groups of ", group, " and activation groups of ", x_group, " do not nest");
    if (small > max_int32_products && k > max_int32_products)
        return text("int32 sums are proven for ", max_int32_products, " products under one scale, not for ",
                    small < k ? small : k, "; smaller groups of weights or activations avoid it");
    return {};
}

}  // namespace fewbit::inline v0
