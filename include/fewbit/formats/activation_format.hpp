// ActivationFormat: how x (M, K) enters a product. A plain struct in every query, never a hidden default.
//
// Names: f32 ("exact") | bf16 | int<b>-<row|g<n>|tensor>[-asym][-static], b from 2 to 8: "int8-row", "int4-g32".
// bf16: each element of x is rounded to the nearest bf16, ties to even.
// int: x is read as scale * (code - zero) with one grid for a row, n elements along K or all of x. Codes are int8
// whatever b is (kernels read nothing else): fewer bits only narrow their range. With P = 2^(b-1) - 1:
//   symmetric  codes -P .. P, zero 0, scale = max|x| / P in f32
//   asym       codes -P-1 .. P, but -127 .. 127 for b = 8; the range [low, high] = [min(x, 0), max(x, 0)],
//              scale = (high - low) / (codes - 1), zero = first code + round(-low / scale), clamped to the
//              codes: 0.0 is exact (arXiv 1712.05877, section 3). Of rows and tensors, not of groups.
//   code = clamp(round(x / scale) + zero): an f32 quotient, ties to even. An underflowing scale is 0: x is 0.
// -128 is left out because kernels negate codes: vpsignb leaves it -128, and vpmaddubsw then saturates.
// dynamic: the range is that of the x at hand; NaN or infinity in it makes all that shares its grid NaN.
// -static: of tensors; the layer has a StaticRange. Values outside are clipped; a row that holds NaN or
// infinity is NaN.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

#include "fewbit/formats/format.hpp"

namespace fewbit::inline v0 {

enum class ActivationElement : std::uint8_t { f32, int8, bf16 };

[[nodiscard]] constexpr std::string_view name(ActivationElement element) noexcept {
    return element == ActivationElement::f32 ? "f32" : element == ActivationElement::bf16 ? "bf16" : "int8";
}

struct ActivationFormat {
    ActivationElement element = ActivationElement::f32;
    Granularity granularity = Granularity::channel;  ///< int8: `channel` is a row of x, `group` or `tensor`
    std::size_t group = 32;                          ///< elements along K; read only for Granularity::group
    int bits = 8;                                    ///< 2..8: how many codes are used; int8 stores them all
    bool asymmetric = false;
    bool is_static = false;  ///< the range is the layer's, given beforehand; only with Granularity::tensor

    /// Elements of a row of k that share a scale.
    [[nodiscard]] std::size_t group_elements(std::size_t k) const noexcept {
        return element == ActivationElement::int8 && granularity == Granularity::group ? group
                                                                                       : (k == 0 ? 1 : k);
    }
    [[nodiscard]] std::size_t groups_per_row(std::size_t k) const noexcept {
        return ceil_div(k, group_elements(k));
    }
    /// The smallest and the largest code of int8.
    [[nodiscard]] int min_code() const noexcept { return -max_code() - (asymmetric && bits < 8 ? 1 : 0); }
    [[nodiscard]] int max_code() const noexcept { return (1 << (bits - 1)) - 1; }

    friend bool operator==(const ActivationFormat& a, const ActivationFormat& b) noexcept {
        if (a.element != b.element) return false;
        if (a.element != ActivationElement::int8) return true;
        return a.granularity == b.granularity &&
               (a.granularity != Granularity::group || a.group == b.group) && a.bits == b.bits &&
               a.asymmetric == b.asymmetric && a.is_static == b.is_static;
    }
};

[[nodiscard]] inline ActivationFormat exact_activations() noexcept { return {}; }
[[nodiscard]] inline ActivationFormat bf16_activations() noexcept { return {ActivationElement::bf16}; }
[[nodiscard]] inline ActivationFormat int8_row_activations() noexcept {
    return {ActivationElement::int8, Granularity::channel, 0};
}
[[nodiscard]] inline ActivationFormat int8_group_activations(std::size_t group) noexcept {
    return {ActivationElement::int8, Granularity::group, group};
}

/// What weights of a format are multiplied with where `wanted` is asked for: with float weights f32 takes the place of
/// int8, for which there are no integers to add up.
[[nodiscard]] inline ActivationFormat activations_for(const Format& weights,
                                                      const ActivationFormat& wanted) noexcept {
    return weights.is_float() && wanted.element == ActivationElement::int8 ? exact_activations() : wanted;
}

/// The int8 activations that suit weights of a format, f32 with float weights: groups as long as those of the weights, 32 to
/// 128 elements; with super-blocks as long as these, as ggml's own kernels have it (q8_k); rows, where channels share a scale.
/// Groups of the weights that are no multiple of 16 get 32: packed planes of codes cannot be cut elsewhere.
[[nodiscard]] inline ActivationFormat suited_activations(const Format& weights) noexcept {
    if (weights.is_block() && ggml::has_two_levels(weights.block))
        return int8_group_activations(ggml::traits(weights.block).elements);
    if (weights.is_block() || weights.granularity == Granularity::group) {
        const std::size_t group =
            weights.group % 16 == 0 ? std::clamp<std::size_t>(weights.group, 32, 128) : 32;
        return activations_for(weights, int8_group_activations(group));
    }
    return activations_for(weights, int8_row_activations());
}

/// Says which member of a hand-made ActivationFormat is out of range.
[[nodiscard]] inline Result<void> validate(const ActivationFormat& format) {
    if (format.element != ActivationElement::int8) return {};
    if (format.bits < 2 || format.bits > 8)
        return fail(ErrorKind::unsupported, "activations of ", format.bits,
                    " bits are not supported; 2 to 8 are");
    if (format.granularity == Granularity::group && format.group < min_group_elements)
        return fail(ErrorKind::unsupported, "activation groups have at least ", min_group_elements,
                    " elements, not ", format.group);
    if (format.asymmetric && format.granularity == Granularity::group)
        return fail(ErrorKind::unsupported, "activation groups are symmetric: zero points need the sums of ",
                    "the weights under each of them, and those are kept for whole rows only");
    if (format.is_static && format.granularity != Granularity::tensor)
        return fail(ErrorKind::unsupported,
                    "static activations have one range per tensor, not per row or group");
    return {};
}

/// The name that parse_activation_format reads back to an equal format.
[[nodiscard]] inline std::string name(const ActivationFormat& format) {
    if (format.element != ActivationElement::int8) return std::string(name(format.element));
    std::string out = text("int", format.bits);
    switch (format.granularity) {
        case Granularity::group: out += text("-g", format.group); break;
        case Granularity::channel: out += "-row"; break;
        case Granularity::tensor: out += "-tensor"; break;
    }
    return out + (format.asymmetric ? "-asym" : "") + (format.is_static ? "-static" : "");
}

/// Reads a name (the grammar stands at the head of this file). Error: a sentence that quotes it.
[[nodiscard]] inline Result<ActivationFormat> parse_activation_format(std::string_view whole) {
    if (whole == "f32") return exact_activations();
    if (whole == "bf16") return bf16_activations();
    const auto unknown = [whole] {
        return fail(
            ErrorKind::bad_input, "activation format '", whole,
            "' is not known; known are f32, bf16 and int<b>-<row|g<n>|tensor>[-asym][-static] with b from "
            "2 to 8, such as int8-row, int8-g32 and int4-tensor-asym-static");
    };
    std::string_view rest = whole;
    const std::string_view element = detail::next_word(rest), shared = detail::next_word(rest);
    ActivationFormat format{ActivationElement::int8, Granularity::channel, 0};
    if (element.size() != 4 || !element.starts_with("int") ||
        !detail::parse_number(element.substr(3), format.bits) || whole.ends_with('-'))
        return unknown();
    if (shared == "tensor")
        format.granularity = Granularity::tensor;
    else if (shared.starts_with('g') && detail::parse_number(shared.substr(1), format.group))
        format.granularity = Granularity::group;
    else if (shared != "row")
        return unknown();
    for (bool* option : {&format.asymmetric, &format.is_static}) {
        const std::string_view word = option == &format.asymmetric ? "asym" : "static";
        std::string_view after = rest;
        if (detail::next_word(after) != word) continue;
        *option = true;
        rest = after;
    }
    if (!rest.empty()) return unknown();
    if (auto valid = validate(format); !valid)
        return fail(ErrorKind::bad_input, "activation format '", whole, "': ", valid.error().message);
    return format;
}

/// What a layer's inputs are expected to span, found by calibration: pipeline/static_ranges.hpp. It belongs
/// to the layer, not to a format: the same range serves every number of bits.
struct StaticRange {
    float min = 0;
    float max = 0;

    friend bool operator==(const StaticRange&, const StaticRange&) = default;
};

/// value = scale * (code - zero).
struct ActivationGrid {
    float scale = 0;
    int zero = 0;

    friend bool operator==(const ActivationGrid&, const ActivationGrid&) = default;
};

/// The grid of an integer format over [low, high], low <= 0 <= high, both finite. scale 0: the range is {0,
/// 0}, or so narrow that the scale underflows.
[[nodiscard]] inline ActivationGrid activation_grid(float low, float high,
                                                    const ActivationFormat& format) noexcept {
    const int most = format.max_code(), least = format.min_code();
    if (!format.asymmetric) return {std::max(-low, high) / static_cast<float>(most), 0};
    // In double, because high - low may be more than f32 can say.
    const double span = static_cast<double>(high) - static_cast<double>(low);
    const auto scale = static_cast<float>(span / (most - least));
    if (scale == 0) return {};
    constexpr double shift = 6755399441055744.0;  // adding 1.5 * 2^52 rounds to a whole number, ties to even
    const double below = (-static_cast<double>(low) / static_cast<double>(scale) + shift) - shift;
    return {scale, static_cast<int>(std::clamp<double>(least + below, least, most))};
}

/// The grid of a static format: that of the range, widened to contain 0. A range that is not {0, 0} never
/// gets scale 0. Error: a range that is not finite or reversed.
[[nodiscard]] inline Result<ActivationGrid> static_grid(const StaticRange& range,
                                                        const ActivationFormat& format) {
    if (!std::isfinite(range.min) || !std::isfinite(range.max) || range.min > range.max)
        return fail(ErrorKind::bad_input, "[", range.min, ", ", range.max, "] is not a range of activations");
    const float low = std::min(range.min, 0.0f), high = std::max(range.max, 0.0f);
    ActivationGrid grid = activation_grid(low, high, format);
    if (grid.scale == 0 && low != high) {
        grid.scale = std::numeric_limits<float>::denorm_min();
        if (format.asymmetric)  // as many codes below zero as the range has subnormals there
            grid.zero = std::min(format.min_code() + static_cast<int>(-low / grid.scale), format.max_code());
    }
    return grid;
}

}  // namespace fewbit::inline v0
