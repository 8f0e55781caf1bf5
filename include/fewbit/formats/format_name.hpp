// Names of formats, both ways: ggml's own ("q4_k"), or
//
//   <element>[-g<n>|-channel|-tensor][-asym|-fzero][-narrow][-s<f32|f16|bf16|e8m0>][-dq]
//
// with the elements int2..int8, nf4, e2m1 (also fp4), iq4, fp8-e4m3, fp8-e5m2, f32, f16, bf16: "int4-g128",
// "int8-channel-narrow", "int3-g64-asym-sbf16", "nf4-g64-dq". mxfp8 is fp8-e4m3-g32-se8m0. Defaults: per channel;
// scales f16 for groups and f32 for channel and tensor; symmetric, all 2^b codes. Options stand in any order.
#pragma once

#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "fewbit/formats/format.hpp"

namespace fewbit::inline v0 {

[[nodiscard]] inline Scalar default_scale(Granularity granularity) noexcept {
    return granularity == Granularity::group ? Scalar::f16 : Scalar::f32;
}

/// "int4", "nf4", "fp8-e4m3": the first part of a name.
[[nodiscard]] inline std::string element_name(const Format& format) {
    switch (format.element) {
        case Element::integer: return text("int", format.bits);
        case Element::block: return std::string(ggml::name(format.block));
        case Element::nf4: return "nf4";
        case Element::e2m1: return "e2m1";
        case Element::iq4: return "iq4";
        case Element::fp8_e4m3: return "fp8-e4m3";
        case Element::fp8_e5m2: return "fp8-e5m2";
        default: return std::string(name(element_scalar(format)));
    }
}

/// OCP's MXFP8: fp8-e4m3-g32-se8m0.
[[nodiscard]] inline Format mxfp8_format() noexcept {
    Format format = codebook_format(Element::fp8_e4m3);
    format.group = 32;
    format.scale = Scalar::e8m0;
    return format;
}

/// The name that parse_format reads back to an equal format; defaults are left out.
[[nodiscard]] inline std::string name(const Format& format) {
    std::string out = element_name(format);
    if (format.is_float() || format.is_block()) return out;
    if (format == mxfp8_format()) return "mxfp8";
    switch (format.granularity) {
        case Granularity::group: out += text("-g", format.group); break;
        case Granularity::channel: out += "-channel"; break;
        case Granularity::tensor: out += "-tensor"; break;
    }
    if (format.offset == Offset::integer) out += "-asym";
    if (format.offset == Offset::real) out += "-fzero";
    if (format.narrow) out += "-narrow";
    if (format.double_quantized()) return out + "-dq";
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

/// The type of scales that an option says; nothing for other words.
[[nodiscard]] inline std::optional<Scalar> parse_scale(std::string_view word) {
    if (word == "dq") return Scalar::u8;
    for (const Scalar scalar : {Scalar::f32, Scalar::f16, Scalar::bf16, Scalar::e8m0})
        if (word.starts_with('s') && word.substr(1) == name(scalar)) return scalar;
    return std::nullopt;
}

/// The element that a name starts with, cut off from `rest`; nothing where it is unknown.
[[nodiscard]] inline std::optional<Format> parse_element(std::string_view& rest) {
    for (const Element element :
         {Element::nf4, Element::e2m1, Element::iq4, Element::fp8_e4m3, Element::fp8_e5m2}) {
        const Format format = codebook_format(element);
        const std::string known = element_name(format);
        if (rest != known && !rest.starts_with(known + "-")) continue;
        rest.remove_prefix(known.size() + (rest.size() > known.size()));
        return format;
    }
    const std::string_view word = next_word(rest);
    if (word == "fp4") return codebook_format(Element::e2m1);
    for (const Scalar scalar : {Scalar::f32, Scalar::f16, Scalar::bf16})
        if (word == name(scalar)) return float_format(scalar);
    Format format;
    if (word.size() == 4 && word.starts_with("int") && parse_number(word.substr(3), format.bits))
        return format;
    return std::nullopt;
}

}  // namespace detail

/// Reads a format name (the grammar stands at the head of this file). Error: a sentence that quotes the word.
[[nodiscard]] inline Result<Format> parse_format(std::string_view whole) {
    const auto bad = [whole](const auto&... why) {
        return fail(ErrorKind::bad_input, "format '", whole, "': ", why...);
    };
    if (const auto block = ggml::parse_block_type(whole)) return block_format(*block);
    if (whole == "mxfp8") return mxfp8_format();
    std::string_view rest = whole;
    const bool dangling = whole.ends_with('-');
    const auto element = detail::parse_element(rest);
    if (!element)
        return bad(
            "'", whole.substr(0, whole.find('-')),
            "' is not an element; known are int2 to int8, nf4, e2m1, iq4, fp8-e4m3, fp8-e5m2, f32, f16, bf16 "
            "and ggml's types, such as q4_0 and q4_k");
    if (element->is_float()) {
        if (!rest.empty() || dangling)
            return bad(element_name(*element), " takes no options, but '", rest, "' follows");
        return *element;
    }
    Format format = *element;
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
        } else if (const auto scale = detail::parse_scale(word)) {
            given = &scale_given;
            format.scale = *scale;
        } else {
            return bad("'", word,
                       "' is not an option; known are g<n>, channel, tensor, asym, fzero, narrow, sf32, "
                       "sf16, sbf16, se8m0 and dq");
        }
        if (*given) return bad("'", word, "' says a second time what an earlier option said");
        *given = true;
    }
    if (dangling) return bad("it ends in '-'");
    if (!scale_given) format.scale = default_scale(format.granularity);
    if (auto valid = validate(format); !valid) return bad(valid.error().message);
    return format;
}

}  // namespace fewbit::inline v0
