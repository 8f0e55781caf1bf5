// Fake quantization of activations x (M, K): with the rule of formats/activation_format.hpp (dynamic;
// what pack_activations' codes times scales give, bit for bit), or on one given grid (static).
// Backward of both: straight_through (fake_quantize.hpp). The dynamic scale counts as a constant.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "fewbit/calibrate/range.hpp"
#include "fewbit/core/scalar.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/qat/fake_quantize.hpp"

namespace fewbit::inline v0::qat {
namespace detail {

/// One run with one scale = max|x| / most, in f32. Returns false when x is not finite. The arithmetic is that
/// of pack_activations, on which this room may not lean: a float quotient, rounded by adding 1.5 * 2^23.
inline bool fake_dynamic_run(const float* x, std::size_t count, std::int32_t most, float* out,
                             Place* places) noexcept {
    std::int32_t largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto magnitude = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFu);
        largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= 0x7F800000) return false;
    const float scale = std::bit_cast<float>(largest) / static_cast<float>(most);
    if (scale == 0.0f) {
        std::fill_n(out, count, 0.0f);
        if (places != nullptr) std::fill_n(places, count, Place::inside);
        return true;
    }
    constexpr float magic = 12582912.0f;
    constexpr std::int32_t magic_bits = 0x4B400000;
    constexpr std::size_t piece = 64;
    std::int32_t codes[piece];
    for (std::size_t first = 0; first < count; first += piece) {
        const std::size_t n = std::min(piece, count - first);
        for (std::size_t i = 0; i < n; ++i)
            codes[i] = std::bit_cast<std::int32_t>(x[first + i] / scale + magic) - magic_bits;
        if (places != nullptr)
            for (std::size_t i = 0; i < n; ++i)
                places[first + i] = static_cast<Place>((codes[i] < -most) + 2 * (codes[i] > most));
        for (std::size_t i = 0; i < n; ++i) {
            // A subnormal scale is coarse: the quotient can pass the largest code.
            const std::int32_t code = codes[i] > most ? most : codes[i] < -most ? -most : codes[i];
            out[first + i] = scale * static_cast<float>(code);
        }
    }
    return true;
}

}  // namespace detail

/// y (M, K) = codes * scales of x in `format`: one scale per row or group, dynamic and symmetric, of any
/// number of bits; f32 activations are copied, those of bf16 rounded. Nothing is clipped, save what the coarseness of a subnormal
/// scale pushes past the last code: the mask (M, K; a default MatrixView: none) says so. y may be x. Errors:
/// an x that is NaN or infinite, by index (at run time its row or group would be NaN); shapes; an invalid
/// format; zero points, tensors and static ranges, which fake_quantize_static is for.
[[nodiscard]] inline Result<void> fake_quantize_dynamic(MatrixView<const float> x,
                                                        const ActivationFormat& format, MatrixView<float> y,
                                                        MatrixView<Place> mask) {
    if (auto valid = validate(format); !valid) return valid;
    if (auto same = detail::check_forward(x, y, mask); !same) return same;
    const bool quantized = format.element == ActivationElement::int8;
    if (quantized && (format.asymmetric || format.is_static || format.granularity == Granularity::tensor))
        return fail(ErrorKind::unsupported, "activations of ", fewbit::name(format),
                    " cannot be fake-quantized dynamically: only rows and groups without zero points can");
    const std::size_t group = format.group_elements(x.cols), groups = format.groups_per_row(x.cols);
    for (std::size_t r = 0; r < x.rows; ++r)
        for (std::size_t g = 0; g < groups; ++g) {
            const std::size_t first = g * group, count = std::min(group, x.cols - first);
            Place* const places = mask.data == nullptr ? nullptr : &mask(r, first);
            if (!quantized) {
                for (std::size_t i = first; i < first + count; ++i)
                    y(r, i) = format.element == ActivationElement::bf16
                                  ? float_from_bf16(bf16_from_float(x(r, i)))
                                  : x(r, i);
                if (places != nullptr) std::fill_n(places, count, Place::inside);
            } else if (!detail::fake_dynamic_run(&x(r, first), count, format.max_code(), &y(r, first),
                                                 places)) {
                return detail::not_finite("activation", x, r);
            }
        }
    return {};
}

/// y (M, K) = scale * (code - zero) on one grid for all of x, as parameters_for() makes it (symmetric or with
/// a zero point): code = clamp(round(x / scale) + zero). mask (M, K; may be left out) as of fake_quantize
/// with Border::code. scale 0: y is 0. y may be x. Errors: an x that is NaN or infinite, by index; a scale
/// that is negative, NaN or infinite; shapes.
[[nodiscard]] inline Result<void> fake_quantize_static(MatrixView<const float> x, const ScaleZero& range,
                                                       MatrixView<float> y, MatrixView<Place> mask) {
    if (auto same = detail::check_forward(x, y, mask); !same) return same;
    if (!(range.scale >= 0) || !std::isfinite(range.scale))
        return fail(ErrorKind::bad_input, "a scale of ", range.scale, " is not one of activations");
    const UniformGrid<float> grid(range.scale, range.zero, 0.0f, range.min_code, range.max_code);
    for (std::size_t r = 0; r < x.rows; ++r) {
        if (!detail::all_finite(x.row(r).data(), x.cols)) return detail::not_finite("activation", x, r);
        forward_run(grid, x.row(r).data(), x.cols, y.row(r).data(),
                    mask.data == nullptr ? nullptr : mask.row(r).data());
    }
    return {};
}

}  // namespace fewbit::inline v0::qat
