// Format: what the codes of a weight matrix mean. It names no machine, no layout and no file type.
//
// An integer code u of b bits is stored unsigned, 0 <= u < 2^b, and stands for
//
//   symmetric   w = scale * (u - 2^(b-1))     the signed code is u - 2^(b-1); `narrow` never uses u = 0
//   integer     w = scale * (u - zero)        zero: an integer code per group (0.0 is exact)
//   real        w = scale * u + offset        offset: a number of the scale's type per group
//   codebook    w = scale * table[u]          nf4, e2m1, iq4, fp8 (codebooks.hpp)
//
// with one scale (and zero or offset) per tensor, per channel (row of W) or per group of consecutive weights
// along K; the last group of a row may be short. Doubly quantized scales are integers of 8 bits times a power of
// two per row. Float elements (f32, f16, bf16) are their own values. Blocks are those of ggml's types
// (ggml/types.hpp), whose rows need a multiple of the block. Names: format_name.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/scalar_type.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/formats/codebooks.hpp"
#include "fewbit/formats/ggml/types.hpp"

namespace fewbit::inline v0 {

/// What one code stands for. From nf4 on: codebooks.
enum class Element : std::uint8_t { integer, f32, f16, bf16, block, nf4, e2m1, iq4, fp8_e4m3, fp8_e5m2 };
/// How many weights share a scale.
enum class Granularity : std::uint8_t { tensor, channel, group };
/// Where zero lies on the grid.
enum class Offset : std::uint8_t { none, integer, real };

inline constexpr std::size_t min_group_elements = 8;
inline constexpr int min_bits = 2;
inline constexpr int max_bits = 8;

struct Format {
    Element element = Element::integer;
    int bits = 4;  ///< per code: 2..8 for integers, 1..8 in blocks, 4 or 8 in codebooks, 32 or 16 for floats
    Granularity granularity = Granularity::group;
    std::size_t group = 128;  ///< elements along K that share a scale; read only for Granularity::group
    Offset offset = Offset::none;
    bool narrow = false;  ///< 2^b - 1 codes, symmetric around zero; only with Offset::none
    /// Stored type of scales and real offsets; f32 for blocks, as they are read. u8: doubly quantized.
    Scalar scale = Scalar::f16;
    ggml::BlockType block = ggml::BlockType::q4_0;  ///< read only for Element::block (block_format)

    [[nodiscard]] bool is_block() const noexcept { return element == Element::block; }
    [[nodiscard]] bool is_float() const noexcept {
        return element == Element::f32 || element == Element::f16 || element == Element::bf16;
    }
    [[nodiscard]] bool is_codebook() const noexcept { return element >= Element::nf4; }
    /// Scales are counts of a power of two that each row stores besides (e8m0).
    [[nodiscard]] bool double_quantized() const noexcept { return scale == Scalar::u8; }
    /// Elements of a row of k that share a scale: the group, or the whole row.
    [[nodiscard]] std::size_t group_elements(std::size_t k) const noexcept {
        return granularity == Granularity::group ? group : (k == 0 ? 1 : k);
    }
    [[nodiscard]] std::size_t groups_per_row(std::size_t k) const noexcept {
        return ceil_div(k, group_elements(k));
    }
    /// Scales of an (n, k) matrix.
    [[nodiscard]] std::size_t scales(std::size_t n, std::size_t k) const noexcept {
        if (is_float() || n == 0 || k == 0) return 0;
        return granularity == Granularity::tensor ? 1 : n * groups_per_row(k);
    }
    /// The smallest and largest stored code.
    [[nodiscard]] int min_code() const noexcept { return narrow ? 1 : 0; }
    [[nodiscard]] int max_code() const noexcept { return (1 << bits) - 1; }
    /// The stored code of 0.0 on a symmetric grid or in a codebook; of iq4, which has no 0, that of 1.
    [[nodiscard]] int middle_code() const noexcept {
        if (is_block()) return ggml::traits(block).zero;
        if (is_codebook()) return element == Element::nf4 ? 7 : element == Element::iq4 ? 8 : 0;
        return 1 << (bits - 1);
    }
    /// The values of codes before scaling; empty where they are integers.
    [[nodiscard]] std::span<const float> codebook() const noexcept {
        switch (element) {
            case Element::block: return ggml::codebook(block);
            case Element::nf4: return codebooks::nf4;
            case Element::e2m1: return codebooks::e2m1;
            case Element::iq4: return codebooks::iq4;
            case Element::fp8_e4m3: return codebooks::fp8_e4m3;
            case Element::fp8_e5m2: return codebooks::fp8_e5m2;
            default: return {};
        }
    }
    /// The codebook as products with integer activations read it; null where the format is no codebook of 4 bits.
    [[nodiscard]] const codebooks::IntegerTable* integer_codebook() const noexcept {
        switch (element) {
            case Element::nf4: return &codebooks::nf4_levels;
            case Element::e2m1: return &codebooks::e2m1_levels;
            case Element::iq4: return &codebooks::iq4_levels;
            default: return nullptr;
        }
    }

    friend bool operator==(const Format& a, const Format& b) noexcept {
        if (a.element != b.element) return false;
        if (a.is_block()) return a.block == b.block;
        if (a.is_float()) return true;  // nothing else has a meaning
        return a.bits == b.bits && a.granularity == b.granularity &&
               (a.granularity != Granularity::group || a.group == b.group) && a.offset == b.offset &&
               a.narrow == b.narrow && a.scale == b.scale;
    }
};

/// A float format: the weights themselves.
[[nodiscard]] inline Format float_format(Scalar type) noexcept {
    Format format;
    format.element = type == Scalar::f16 ? Element::f16 : type == Scalar::bf16 ? Element::bf16 : Element::f32;
    format.bits = type == Scalar::f16 || type == Scalar::bf16 ? 16 : 32;
    format.granularity = Granularity::tensor;
    return format;
}

/// A block type of ggml. Group, bits and offset are the type's own.
[[nodiscard]] inline Format block_format(ggml::BlockType type) noexcept {
    const ggml::BlockTraits& traits = ggml::traits(type);
    Format format;
    format.element = Element::block;
    format.block = type;
    format.bits = traits.bits;
    format.group = traits.group;
    format.offset = traits.grid == ggml::Grid::real ? Offset::real : Offset::none;
    format.scale = Scalar::f32;
    return format;
}

/// A codebook with f16 scales per group of 128; members may be changed.
[[nodiscard]] inline Format codebook_format(Element element) noexcept {
    Format format;
    format.element = element;
    format.bits = element == Element::fp8_e4m3 || element == Element::fp8_e5m2 ? 8 : 4;
    return format;
}

/// The scalar type of a float element; f32 for integer formats.
[[nodiscard]] inline Scalar element_scalar(const Format& format) noexcept {
    return format.element == Element::f16    ? Scalar::f16
           : format.element == Element::bf16 ? Scalar::bf16
                                             : Scalar::f32;
}

/// Says which member of a hand-made Format is out of range.
[[nodiscard]] inline Result<void> validate(const Format& format) {
    if (format.is_float()) return {};
    if (format.is_block()) {
        const Format whole = block_format(format.block);
        if (format.bits != whole.bits || format.granularity != whole.granularity ||
            format.group != whole.group || format.offset != whole.offset || format.narrow ||
            format.scale != whole.scale)
            return fail(ErrorKind::bad_input, "the members of a format of blocks of ",
                        ggml::name(format.block), " are not the type's own; block_format() makes it");
        return {};
    }
    if (format.is_codebook()) {
        if (format.bits != codebook_format(format.element).bits || format.offset != Offset::none ||
            format.narrow)
            return fail(ErrorKind::bad_input, "a codebook has its own bits (",
                        codebook_format(format.element).bits, ") and no zero point, offset or narrow grid");
    } else if (format.bits < min_bits || format.bits > max_bits)
        return fail(ErrorKind::unsupported, "codes of ", format.bits,
                    " bits are not supported; integer formats have ", min_bits, " to ", max_bits, " bits");
    if (format.granularity == Granularity::group && format.group < min_group_elements)
        return fail(ErrorKind::unsupported, "a group of ", format.group,
                    " weights is too small; groups have at least ", min_group_elements);
    if (format.narrow && format.offset != Offset::none)
        return fail(ErrorKind::bad_input,
                    "a narrow grid is symmetric; it cannot have a zero point or an offset");
    if (format.double_quantized()) {
        if (format.granularity != Granularity::group || format.offset == Offset::real)
            return fail(ErrorKind::bad_input,
                        "double quantization is of scales of groups; formats with one scale per ",
                        "row or tensor, or with real offsets, have none");
        return {};
    }
    if (format.scale == Scalar::e8m0) {
        if (!format.is_codebook() || format.element == Element::iq4)  // e8m0 has no 0, so the codes need one
            return fail(ErrorKind::unsupported,
                        "scales of type e8m0 are of nf4, e2m1 and fp8, not of integers or iq4");
        return {};
    }
    if (format.scale != Scalar::f32 && format.scale != Scalar::f16 && format.scale != Scalar::bf16)
        return fail(ErrorKind::unsupported, "scales of type ", name(format.scale),
                    " are not supported; scales are f32, f16, bf16 or e8m0");
    return {};
}

/// Of what works on uniform grids alone (fake quantization): floats, and integers outside of blocks.
[[nodiscard]] inline Result<void> validate_uniform(const Format& format) {
    if (format.is_block())
        return fail(ErrorKind::unsupported, "formats of ggml's blocks (", ggml::name(format.block),
                    ") have no fake quantization; integer formats such as int4-g32 have");
    if (format.is_codebook())
        return fail(ErrorKind::unsupported,
                    "codebooks have no fake quantization; integer formats such as int4-g32 have");
    if (format.double_quantized())
        return fail(ErrorKind::unsupported,
                    "doubly quantized scales have no fake quantization; scales of f32, f16 and ",
                    "bf16 have");
    return validate(format);
}

/// Says why a row of k weights cannot be stored in a format.
[[nodiscard]] inline Result<void> validate_columns(const Format& format, std::size_t k) {
    if (!format.is_block()) return {};
    const std::size_t block = ggml::traits(format.block).elements;
    if (k > std::numeric_limits<std::size_t>::max() / 2)
        return fail(ErrorKind::bad_input, "K = ", k, ": the bytes of a row overflow");
    if (k % block == 0) return {};
    return fail(ErrorKind::unsupported, "K = ", k, ": ", ggml::name(format.block), " is stored in blocks of ",
                block, " weights and needs a multiple of ", block);
}

/// Bits of everything that an (n, k) matrix of this format stores (codes, scales, zeros or offsets), without
/// the padding of rows to whole bytes. Divided by n * k: the effective bits per weight.
[[nodiscard]] inline double total_bits(const Format& format, std::size_t n, std::size_t k) noexcept {
    if (format.is_block())
        return 8.0 * static_cast<double>(n) * static_cast<double>(ggml::row_bytes(format.block, k));
    const double codes = static_cast<double>(n) * static_cast<double>(k) * format.bits;
    const auto scales = static_cast<double>(format.scales(n, k));
    const double scale_bits = 8.0 * static_cast<double>(size_bytes(format.scale));
    const double offset_bits = format.offset == Offset::integer ? format.bits
                               : format.offset == Offset::real  ? scale_bits
                                                                : 0.0;
    const double row_bits = format.double_quantized() && k != 0 ? 8.0 * static_cast<double>(n) : 0.0;
    return codes + scales * (scale_bits + offset_bits) + row_bits;
}

/// Effective bits per weight of an (n, k) matrix; 0 for an empty one.
[[nodiscard]] inline double bits_per_weight(const Format& format, std::size_t n, std::size_t k) noexcept {
    return n == 0 || k == 0 ? 0.0
                            : total_bits(format, n, k) / (static_cast<double>(n) * static_cast<double>(k));
}

}  // namespace fewbit::inline v0

#include "fewbit/formats/format_name.hpp"
