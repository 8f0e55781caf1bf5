// ActivationFormat: how x enters a product. A plain struct in every query, never a hidden default.
//
// Names: f32 | int8-row | int8-g<n>. "Exact" means f32. int8 is symmetric and dynamic: each row, or each run
// of n elements along K, is scaled by its own largest magnitude when the product is asked for:
//
//   scale = max|x| / 127        code = round_half_even(x / scale), both in f32; -127 <= code <= 127
//
// A row or group that holds NaN or an infinity gets a NaN scale: the outputs that it touches are NaN.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "fewbit/formats/format.hpp"

namespace fewbit::inline v0 {

enum class ActivationElement : std::uint8_t { f32, int8 };

struct ActivationFormat {
    ActivationElement element = ActivationElement::f32;
    Granularity granularity = Granularity::channel;  ///< int8: `channel` is a row of x, or `group`
    std::size_t group = 32;                          ///< elements along K; read only for Granularity::group

    /// Elements of a row of k that share a scale.
    [[nodiscard]] std::size_t group_elements(std::size_t k) const noexcept {
        return element == ActivationElement::int8 && granularity == Granularity::group ? group
                                                                                       : (k == 0 ? 1 : k);
    }
    [[nodiscard]] std::size_t groups_per_row(std::size_t k) const noexcept {
        return ceil_div(k, group_elements(k));
    }

    friend bool operator==(const ActivationFormat& a, const ActivationFormat& b) noexcept {
        if (a.element != b.element) return false;
        if (a.element == ActivationElement::f32) return true;
        return a.granularity == b.granularity && (a.granularity != Granularity::group || a.group == b.group);
    }
};

[[nodiscard]] inline ActivationFormat exact_activations() noexcept { return {}; }
[[nodiscard]] inline ActivationFormat int8_row_activations() noexcept {
    return {ActivationElement::int8, Granularity::channel, 0};
}
[[nodiscard]] inline ActivationFormat int8_group_activations(std::size_t group) noexcept {
    return {ActivationElement::int8, Granularity::group, group};
}

[[nodiscard]] inline Result<void> validate(const ActivationFormat& format) {
    if (format.element == ActivationElement::f32) return {};
    if (format.granularity == Granularity::tensor)
        return fail(ErrorKind::unsupported,
                    "int8 activations have one scale per row or group, not per tensor");
    if (format.granularity == Granularity::group && format.group < min_group_elements)
        return fail(ErrorKind::unsupported, "activation groups have at least ", min_group_elements,
                    " elements, not ", format.group);
    return {};
}

[[nodiscard]] inline std::string name(const ActivationFormat& format) {
    if (format.element == ActivationElement::f32) return "f32";
    return format.granularity == Granularity::group ? text("int8-g", format.group) : "int8-row";
}

/// Reads "f32", "int8-row" or "int8-g<n>".
[[nodiscard]] inline Result<ActivationFormat> parse_activation_format(std::string_view whole) {
    if (whole == "f32") return exact_activations();
    if (whole == "int8-row") return int8_row_activations();
    ActivationFormat format = int8_group_activations(0);
    if (whole.starts_with("int8-g") && detail::parse_number(whole.substr(6), format.group)) {
        if (auto valid = validate(format); !valid)
            return fail(ErrorKind::bad_input, "activation format '", whole, "': ", valid.error().message);
        return format;
    }
    return fail(ErrorKind::bad_input, "activation format '", whole,
                "' is not known; known are f32, int8-row and int8-g<n>");
}

}  // namespace fewbit::inline v0
