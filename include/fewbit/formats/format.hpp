// Format: what the codes of a weight matrix mean. It names no machine, no layout and no file type.
//
// An integer code u of b bits is stored unsigned, 0 <= u < 2^b, and stands for
//
//   symmetric   w = scale * (u - 2^(b-1))     the signed code is u - 2^(b-1); `narrow` never uses u = 0
//   integer     w = scale * (u - zero)        zero: an integer code per group (0.0 is exact)
//   real        w = scale * u + offset        offset: a number of the scale's type per group
//
// with one scale (and zero or offset) per tensor, per channel (row of W) or per group of consecutive weights
// along K; the last group of a row may be short. Float elements (f32, f16, bf16) are their own values. Blocks
// are those of ggml's types (ggml/types.hpp), whose rows need a multiple of the block.
//
// Names: ggml's own ("q4_k"), or <element>[-g<n>|-channel|-tensor][-asym|-fzero][-narrow][-s<f32|f16|bf16>], elements int2..int8,
// f32, f16, bf16: "int4-g128", "int8-channel-narrow", "int3-g64-asym-sbf16". Defaults: per channel; scales
// f16 for groups and f32 for channel and tensor; symmetric, all 2^b codes.
#pragma once

#include <array>
#include <charconv>
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
#include "fewbit/formats/ggml/types.hpp"

namespace fewbit::inline v0 {

/// What one code stands for. (Codebooks join here.)
enum class Element : std::uint8_t { integer, f32, f16, bf16, block };
/// How many weights share a scale.
enum class Granularity : std::uint8_t { tensor, channel, group };
/// Where zero lies on the grid.
enum class Offset : std::uint8_t { none, integer, real };

inline constexpr std::size_t min_group_elements = 8;
inline constexpr int min_bits = 2;
inline constexpr int max_bits = 8;

struct Format {
    Element element = Element::integer;
    int bits = 4;  ///< per code: 2..8 for integers, 1..8 in blocks, 32 or 16 for float elements
    Granularity granularity = Granularity::group;
    std::size_t group = 128;  ///< elements along K that share a scale; read only for Granularity::group
    Offset offset = Offset::none;
    bool narrow = false;         ///< 2^b - 1 codes, symmetric around zero; only with Offset::none
    Scalar scale = Scalar::f16;  ///< stored type of scales and real offsets; f32 for blocks, as they are read
    ggml::BlockType block = ggml::BlockType::q4_0;  ///< read only for Element::block (block_format)

    [[nodiscard]] bool is_block() const noexcept { return element == Element::block; }
    [[nodiscard]] bool is_float() const noexcept { return element != Element::integer && !is_block(); }
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
    /// The stored code of 0.0 on a symmetric grid.
    [[nodiscard]] int middle_code() const noexcept {
        return is_block() ? ggml::traits(block).zero : 1 << (bits - 1);
    }
    /// The values of codes before scaling; empty where they are integers.
    [[nodiscard]] std::span<const float> codebook() const noexcept {
        return is_block() ? ggml::codebook(block) : std::span<const float>{};
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
    if (format.bits < min_bits || format.bits > max_bits)
        return fail(ErrorKind::unsupported, "codes of ", format.bits,
                    " bits are not supported; integer formats have ", min_bits, " to ", max_bits, " bits");
    if (format.granularity == Granularity::group && format.group < min_group_elements)
        return fail(ErrorKind::unsupported, "a group of ", format.group,
                    " weights is too small; groups have at least ", min_group_elements);
    if (format.narrow && format.offset != Offset::none)
        return fail(ErrorKind::bad_input,
                    "a narrow grid is symmetric; it cannot have a zero point or an offset");
    if (format.scale != Scalar::f32 && format.scale != Scalar::f16 && format.scale != Scalar::bf16)
        return fail(ErrorKind::unsupported, "scales of type ", name(format.scale),
                    " are not supported; scales are f32, f16 or bf16");
    return {};
}

/// Of what works on uniform grids alone (fake quantization): floats, and integers outside of blocks.
[[nodiscard]] inline Result<void> validate_uniform(const Format& format) {
    if (format.is_block())
        return fail(ErrorKind::unsupported, "formats of ggml's blocks (", ggml::name(format.block),
                    ") have no fake quantization; integer formats such as int4-g32 have");
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

[[nodiscard]] inline Scalar default_scale(Granularity granularity) noexcept {
    return granularity == Granularity::group ? Scalar::f16 : Scalar::f32;
}

/// The name that parse_format reads back to an equal format; defaults are left out.
[[nodiscard]] inline std::string name(const Format& format) {
    if (format.is_float()) return std::string(name(element_scalar(format)));
    if (format.is_block()) return std::string(ggml::name(format.block));
    std::string out = text("int", format.bits);
    switch (format.granularity) {
        case Granularity::group: out += text("-g", format.group); break;
        case Granularity::channel: out += "-channel"; break;
        case Granularity::tensor: out += "-tensor"; break;
    }
    if (format.offset == Offset::integer) out += "-asym";
    if (format.offset == Offset::real) out += "-fzero";
    if (format.narrow) out += "-narrow";
    if (format.scale != default_scale(format.granularity)) out += text("-s", name(format.scale));
    return out;
}

namespace detail {

/// Cuts "head-tail" at the first '-'.
[[nodiscard]] inline std::string_view next_word(std::string_view& rest) {
    const std::size_t dash = rest.find('-');
    const std::string_view word = rest.substr(0, dash);
    rest = dash == std::string_view::npos ? std::string_view{} : rest.substr(dash + 1);
    return word;
}

/// All of `digits` as a number; false for anything else (signs, blanks, overflow).
template <class T>
[[nodiscard]] bool parse_number(std::string_view digits, T& value) {
    if (digits.empty() || digits[0] < '0' || digits[0] > '9') return false;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc{} && end == digits.data() + digits.size();
}

}  // namespace detail

/// Reads a format name (the grammar stands at the head of this file). Error: a sentence that quotes the word.
[[nodiscard]] inline Result<Format> parse_format(std::string_view whole) {
    const auto bad = [whole](const auto&... why) {
        return fail(ErrorKind::bad_input, "format '", whole, "': ", why...);
    };
    if (const auto block = ggml::parse_block_type(whole)) return block_format(*block);
    std::string_view rest = whole;
    const bool dangling = whole.ends_with('-');
    const std::string_view element = detail::next_word(rest);

    if (element == "f32" || element == "f16" || element == "bf16") {
        if (!rest.empty() || dangling) return bad(element, " takes no options, but '", rest, "' follows");
        return float_format(element == "f32" ? Scalar::f32 : element == "f16" ? Scalar::f16 : Scalar::bf16);
    }
    Format format;
    if (!element.starts_with("int") || !detail::parse_number(element.substr(3), format.bits) ||
        element.size() != 4)
        return bad("'", element,
                   "' is not an element; known are int2 to int8, f32, f16, bf16 and ggml's types, such as "
                   "q4_0 and q4_k");
    format.granularity = Granularity::channel;

    bool granularity_given = false, offset_given = false, narrow_given = false, scale_given = false;
    while (!rest.empty()) {
        const std::string_view word = detail::next_word(rest);
        bool* given = nullptr;
        if (word == "channel" || word == "tensor" ||
            (word.size() > 1 && word[0] == 'g' && word[1] >= '0' && word[1] <= '9')) {
            given = &granularity_given;
            if (word == "channel")
                format.granularity = Granularity::channel;
            else if (word == "tensor")
                format.granularity = Granularity::tensor;
            else {
                format.granularity = Granularity::group;
                if (!detail::parse_number(word.substr(1), format.group))
                    return bad("'", word, "' is not a group size");
            }
        } else if (word == "asym" || word == "fzero") {
            given = &offset_given;
            format.offset = word == "asym" ? Offset::integer : Offset::real;
        } else if (word == "narrow") {
            given = &narrow_given;
            format.narrow = true;
        } else if (word == "sf32" || word == "sf16" || word == "sbf16") {
            given = &scale_given;
            format.scale = word == "sf32" ? Scalar::f32 : word == "sf16" ? Scalar::f16 : Scalar::bf16;
        } else {
            return bad("'", word,
                       "' is not an option; known are g<n>, channel, tensor, asym, fzero, narrow, sf32, sf16 "
                       "and sbf16");
        }
        if (*given) return bad("'", word, "' says a second time what an earlier option said");
        *given = true;
    }
    if (dangling) return bad("it ends in '-'");
    if (!scale_given) format.scale = default_scale(format.granularity);
    if (auto valid = validate(format); !valid) return bad(valid.error().message);
    return format;
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
    return codes + scales * (scale_bits + offset_bits);
}

/// Effective bits per weight of an (n, k) matrix; 0 for an empty one.
[[nodiscard]] inline double bits_per_weight(const Format& format, std::size_t n, std::size_t k) noexcept {
    return n == 0 || k == 0 ? 0.0
                            : total_bits(format, n, k) / (static_cast<double>(n) * static_cast<double>(k));
}

}  // namespace fewbit::inline v0
