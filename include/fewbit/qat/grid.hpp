// Grids that training can see through: what a grid must offer (concept Grid), the uniform grids of
// formats/format.hpp as such a grid, and the two loops over a run of values that share one: forward and
// backward. Codebooks join by fulfilling the concept; nothing else in this room asks what a grid looks like.
//
// Everything here is built by the user's compiler with the user's flags, so it is written so that no choice
// of flags changes a value: quotients and steps are doubles, and no product is added to anything before it
// was converted to another type (no fused operation fits).
#pragma once

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fewbit/formats/format.hpp"
#include "fewbit/quantize/grid.hpp"

static_assert(FLT_EVAL_METHOD == 0 || FLT_EVAL_METHOD == 16,
              "fewbit needs float and double arithmetic as written (on 32-bit x86: -msse2 -mfpmath=sse)");

namespace fewbit::inline v0::qat {

/// Where a value lies: on the grid, or clipped to its lowest or highest code. One byte per element: the mask
/// that forward leaves for backward.
enum class Place : std::uint8_t { inside, below, above };

/// When a value counts as clipped. Values and codes are the same; only gradients at the border differ.
enum class Border : std::uint8_t {
    code,   ///< its nearest code lies outside the codes (straight-through; Jacob et al., arXiv 1712.05877)
    value,  ///< v/s <= lowest or v/s >= highest step: clip comes before round (LSQ, arXiv 1902.08153, eq. 3)
};

/// Partial derivatives of the decoded value, roundings passed straight through.
struct Partials {
    double value = 0;   ///< by the value itself: 1 inside, 0 where it was clipped
    double scale = 0;   ///< by the scale
    double offset = 0;  ///< by the offset (LSQ+: beta)
};

/// A grid of one group. place() and partials() need no code: both follow from the value.
template <class G>
concept Grid = requires(const G& grid, typename G::value_type value, int code, Place place,
                        Partials partials) {
    { grid.nearest(value) } -> std::same_as<int>;
    { grid.decode(code) } -> std::same_as<typename G::value_type>;
    { grid.place(value) } -> std::same_as<Place>;
    partials = grid.partials(value, place);
};

namespace detail {

/// To the nearest integer, ties to even, for |x| < 2^51: the rule of quantize/rounding.hpp, which is for the
/// library's own sources.
[[nodiscard]] inline double nearest_integer(double x) noexcept {
    constexpr double shift = 6755399441055744.0;  // 1.5 * 2^52
    return (x + shift) - shift;
}

}  // namespace detail

/// value = scale * (code - zero) + offset, codes min_code..max_code, in T (float: the stored grid; double:
/// for looking at derivatives). Gradients with s the scale, o the offset, q = (v - o) / s:
///
///                inside           clipped at the step Q = end code - zero
///     d/dv       1                0
///     d/ds       round(q) - q     Q                             LSQ, eq. 3
///     d/do       0                1                             LSQ+ (arXiv 2004.09576)
///
/// An integer zero point made from a trained beta, zero = round(-beta / s) = -beta / s + r, gives s Q =
/// s (end code - r) + beta where clipped. With r frozen, d/ds = end code - r = Q - beta / s there, and
/// d/dbeta = 1; where zero itself was clamped to the codes it is a constant: d/ds = Q and d/dbeta = 0.
template <std::floating_point T, Border B = Border::code>
struct UniformGrid {
    using value_type = T;

    UniformGrid() = default;
    UniformGrid(T scale_, int zero_, T offset_, int min_code, int max_code) noexcept
        : scale(scale_),
          // A group of zeros has scale 0: dividing by infinity gives every value the zero code, and inside.
          divisor(scale_ == 0 ? std::numeric_limits<double>::infinity() : static_cast<double>(scale_)),
          offset(offset_),
          low(min_code - zero_),
          high(max_code - zero_),
          zero(zero_) {}
    UniformGrid(const Format& format, const GroupGrid& grid) noexcept
        : UniformGrid(static_cast<T>(grid.scale), grid.zero, static_cast<T>(grid.offset), format.min_code(),
                      format.max_code()) {}

    [[nodiscard]] double quotient(T v) const noexcept {
        return (static_cast<double>(v) - static_cast<double>(offset)) / divisor;
    }
    /// The stored code: clamp(round((v - offset) / scale) + zero), ties to even. NaN: min_code.
    [[nodiscard]] int nearest(T v) const noexcept {
        const double steps = detail::nearest_integer(quotient(v));
        const double raised = steps > low ? steps : low;  // low for NaN, which no int could hold
        return static_cast<int>(raised < high ? raised : high) + zero;
    }
    /// The value with the roundings of QuantizedMatrix::dequantize: the product once, the sum once. A double
    /// holds the product of a float and a code exactly.
    [[nodiscard]] T decode(int code) const noexcept {
        return static_cast<T>(static_cast<double>(scale) * (code - zero)) + offset;
    }
    [[nodiscard]] Place place(T v) const noexcept { return place_at(quotient(v)); }
    [[nodiscard]] Place place_at(double q) const noexcept {
        const double steps = detail::nearest_integer(q);
        const int below = B == Border::value ? q <= low : steps < low;
        const int above = B == Border::value ? q >= high : steps > high;
        return static_cast<Place>(below + 2 * above);  // without branches
    }
    /// decode(nearest(v)) of the v whose quotient q is, without the detour over an int: loops vectorize.
    [[nodiscard]] T value_at(double q) const noexcept {
        const double steps = detail::nearest_integer(q);
        const double raised = steps > low ? steps : low;
        return static_cast<T>(static_cast<double>(scale) * (raised < high ? raised : high)) + offset;
    }
    [[nodiscard]] Partials partials(T v, Place where) const noexcept {
        const double q = quotient(v);
        const double residual = detail::nearest_integer(q) - q;
        const double edge = (where == Place::below ? low : high) - beta_steps;
        const bool inside = where == Place::inside;
        return {inside ? 1.0 : 0.0, inside ? residual : edge, inside ? 0.0 : offset_passes};
    }

    T scale = 0;
    double divisor = std::numeric_limits<double>::infinity();
    T offset = 0;
    double low = 0, high = 0;  ///< the lowest and the highest code, minus the zero
    int zero = 0;
    double beta_steps = 0;     ///< beta / s of a trained integer zero point, else 0
    double offset_passes = 1;  ///< 0: a trained integer zero point that was itself clamped to the codes
};

static_assert(Grid<UniformGrid<float>> && Grid<UniformGrid<double, Border::value>>);

/// Sums over a run: of dL/dv^ times the partial derivatives.
struct ParameterGradient {
    double scale = 0;
    double offset = 0;
};

/// out[i] = the grid's value for v[i]; places[i] = where v[i] lies, unless `places` is null. out may be v.
template <Grid G>
void forward_run(const G& given, const typename G::value_type* v, std::size_t count,
                 typename G::value_type* out, Place* places) noexcept {
    const G grid = given;  // a local that nobody can point to: what is stored below cannot change it
    constexpr std::size_t piece = 64;
    for (std::size_t first = 0; first < count; first += piece) {
        const std::size_t n = std::min(piece, count - first);
        if constexpr (requires { grid.value_at(grid.quotient(v[0])); }) {
            double quotients[piece];
            for (std::size_t i = 0; i < n; ++i) quotients[i] = grid.quotient(v[first + i]);
            for (std::size_t i = 0; i < n; ++i) out[first + i] = grid.value_at(quotients[i]);
            if (places == nullptr) continue;
            for (std::size_t i = 0; i < n; ++i) places[first + i] = grid.place_at(quotients[i]);
        } else {
            for (std::size_t i = 0; i < n; ++i) {
                const typename G::value_type value = v[first + i];
                out[first + i] = grid.decode(grid.nearest(value));
                if (places != nullptr) places[first + i] = grid.place(value);
            }
        }
    }
}

/// d_v[i] = d_out[i] where v[i] lies inside, else 0; returns the sums for scale and offset, in double and in
/// an order that depends on the count alone. d_v may be d_out.
template <Grid G>
ParameterGradient backward_run(const G& given, const typename G::value_type* v, const Place* places,
                               const typename G::value_type* d_out, std::size_t count,
                               typename G::value_type* d_v) noexcept {
    const G grid = given;
    constexpr std::size_t lanes = 4, piece = 64;
    double scale[lanes] = {}, offset[lanes] = {};
    double by_scale[piece], by_offset[piece];
    for (std::size_t first = 0; first < count; first += piece) {
        const std::size_t n = std::min(piece, count - first);
        for (std::size_t i = 0; i < n; ++i) {
            const Partials partials = grid.partials(v[first + i], places[first + i]);
            const double incoming = d_out[first + i];
            by_scale[i] = incoming * partials.scale;
            by_offset[i] = incoming * partials.offset;
        }
        for (std::size_t i = n; i % lanes != 0; ++i) by_scale[i] = by_offset[i] = 0;
        for (std::size_t i = 0; i < n; i += lanes)
            for (std::size_t j = 0; j < lanes; ++j) {
                scale[j] += by_scale[i + j];
                offset[j] += by_offset[i + j];
            }
        for (std::size_t i = 0; i < n; ++i)
            d_v[first + i] = places[first + i] == Place::inside ? d_out[first + i] : 0;
    }
    return {(scale[0] + scale[2]) + (scale[1] + scale[3]), (offset[0] + offset[2]) + (offset[1] + offset[3])};
}

}  // namespace fewbit::inline v0::qat
