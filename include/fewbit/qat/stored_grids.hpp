// The grids of a weight matrix W (N, K) in training, one GroupGrid for each scale of its format, exactly as
// they are stored: fitted to the weights at every step (fit_grids, as rtn does) or rounded from trained
// numbers (round_grids). What training sees and what to_quantized() stores comes from the same GroupGrids.
//
// Order of grids, scales and offsets everywhere in this room: that of QuantizedMatrix::scales, row-major;
// format.scales(N, K) of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "fewbit/core/result.hpp"
#include "fewbit/core/scalar.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/qat/grid.hpp"
#include "fewbit/quantize/grid.hpp"

namespace fewbit::inline v0::qat {
namespace detail {

/// A run of weights in one row that share a grid.
struct Run {
    std::size_t row, first, count, grid;
};

/// Calls f(run) for each run of an (n, k) matrix, row by row; the last of a row may be short. Stops when f
/// returns false, and returns whether none did.
template <class F>
bool each_run(const Format& format, std::size_t n, std::size_t k, F&& f) {
    const std::size_t group = format.group_elements(k), groups = format.groups_per_row(k);
    const bool tensor = format.granularity == Granularity::tensor;
    for (std::size_t r = 0; r < n; ++r)
        for (std::size_t g = 0; g < groups; ++g)
            if (!f(Run{r, g * group, std::min(group, k - g * group), tensor ? 0 : r * groups + g}))
                return false;
    return true;
}

/// Elements of an (n, k) matrix that share the scale of index `grid`.
[[nodiscard]] inline std::size_t sharing(const Format& format, std::size_t n, std::size_t k,
                                         std::size_t grid) noexcept {
    if (format.granularity == Granularity::tensor) return n * k;
    const std::size_t group = format.group_elements(k), first = grid % format.groups_per_row(k) * group;
    return std::min(group, k - first);
}

/// No NaN, no infinity. Magnitudes compare as integers, so that the loop vectorizes.
[[nodiscard]] inline bool all_finite(const float* v, std::size_t count) noexcept {
    std::uint32_t largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(v[i]) & 0x7FFFFFFFu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest < 0x7F800000u;
}

/// The sentence about the first element of a row that is not finite; there is one.
[[nodiscard]] inline Unexpected<Error> not_finite(const char* what, MatrixView<const float> v,
                                                  std::size_t row) {
    std::size_t c = 0;
    while (c + 1 < v.cols && std::isfinite(v(row, c))) ++c;
    return fail(ErrorKind::bad_input, what, " [", row, ", ", c, "] is ",
                std::isnan(v(row, c)) ? "NaN"
                : v(row, c) > 0       ? "infinity"
                                      : "-infinity");
}

[[nodiscard]] inline Result<void> check_shape(const char* what, std::size_t rows, std::size_t cols,
                                              std::size_t n, std::size_t k) {
    if (rows == n && cols == k) return {};
    return fail(ErrorKind::bad_input, what, " is ", rows, " x ", cols, ", but ", n, " x ", k, " is needed");
}

[[nodiscard]] inline Result<void> check_count(const char* what, std::size_t count, std::size_t wanted) {
    if (count == wanted) return {};
    return fail(ErrorKind::bad_input, "there are ", count, " ", what, ", but the matrix has ", wanted);
}

[[nodiscard]] inline float smallest_scale(Scalar type) noexcept {
    return type == Scalar::f16 ? 0x1p-14f : std::numeric_limits<float>::min();  // of the normal ones
}

[[nodiscard]] inline float stored(Scalar type, float value) noexcept {
    return type == Scalar::f16    ? float_from_f16(f16_from_float(value))
           : type == Scalar::bf16 ? float_from_bf16(bf16_from_float(value))
                                  : value;
}

/// A positive scale as stored, by the rule of quantize/rounding.hpp: nearest, but up in the subnormal range,
/// so that none becomes 0.
[[nodiscard]] inline float stored_scale(Scalar type, float value) noexcept {
    const float nearest = stored(type, value);
    if (type == Scalar::f32 || nearest >= smallest_scale(type) || nearest >= value) return nearest;
    return type == Scalar::f16 ? float_from_f16(static_cast<std::uint16_t>(f16_from_float(value) + 1))
                               : float_from_bf16(static_cast<std::uint16_t>(bf16_from_float(value) + 1));
}

}  // namespace detail

/// Grids fitted to w (N, K) by fit_grid (quantize/grid.hpp): those of quantize_rtn, bit for bit.
/// grids.size() == format.scales(N, K). Errors: a weight that is NaN or infinite, by index; a scale or offset
/// that overflows its type, by row and group; sizes; an invalid format.
[[nodiscard]] inline Result<void> fit_grids(MatrixView<const float> w, const Format& format,
                                            std::span<GroupGrid> grids) {
    if (auto valid = validate_uniform(format); !valid) return valid;
    if (auto fits = detail::check_count("grids", grids.size(), format.scales(w.rows, w.cols)); !fits)
        return fits;
    if (grids.empty()) return {};
    constexpr std::size_t lanes = 8;  // as many comparisons side by side, which vectorize
    float low[lanes], high[lanes];
    Result<void> result;
    const bool tensor = format.granularity == Granularity::tensor;
    detail::each_run(format, w.rows, w.cols, [&](const detail::Run& run) {
        const float* v = w.row(run.row).data() + run.first;
        if (!detail::all_finite(v, run.count)) {
            result = detail::not_finite("weight", w, run.row);
            return false;
        }
        if (!tensor || run.row == 0) {
            std::fill_n(low, lanes, v[0]);
            std::fill_n(high, lanes, v[0]);
        }
        std::size_t i = 0;
        for (; i + lanes <= run.count; i += lanes)
            for (std::size_t j = 0; j < lanes; ++j) {
                low[j] = v[i + j] < low[j] ? v[i + j] : low[j];
                high[j] = v[i + j] > high[j] ? v[i + j] : high[j];
            }
        for (; i < run.count; ++i) low[0] = std::min(low[0], v[i]), high[0] = std::max(high[0], v[i]);
        if (tensor && run.row + 1 < w.rows) return true;
        const float min = *std::min_element(low, low + lanes) + 0.0f;  // -0 counts as 0, as in rtn
        const float max = *std::max_element(high, high + lanes) + 0.0f;
        const auto grid = fit_grid(format, min, max);
        if (grid) {
            grids[run.grid] = *grid;
            return true;
        }
        result = fail(
            ErrorKind::bad_input,
            tensor ? "" : text("row ", run.row, ", group ", run.first / format.group_elements(w.cols), ": "),
            grid.error().message);
        return false;
    });
    return result;
}

/// Grids of trained numbers, rounded to their stored types. scales: positive, as many as grids. offsets:
/// beta, the value of the code 0 (empty for symmetric formats): a real offset is rounded to its type, an
/// integer zero point is round(-beta / stored scale) clamped to the codes. Errors, by index: a scale that is
/// not positive; a scale, offset or farthest value that overflows; NaN; sizes; an invalid or float format.
[[nodiscard]] inline Result<void> round_grids(const Format& format, std::span<const float> scales,
                                              std::span<const float> offsets, std::span<GroupGrid> grids) {
    if (auto valid = validate_uniform(format); !valid) return valid;
    if (format.is_float() && !scales.empty())
        return fail(ErrorKind::bad_input, name(format), " has no scales that could be trained");
    if (auto fits = detail::check_count("scales", scales.size(), grids.size()); !fits) return fits;
    const std::size_t wanted = format.offset == Offset::none ? 0 : grids.size();
    if (auto fits = detail::check_count("offsets", offsets.size(), wanted); !fits) return fits;
    for (std::size_t i = 0; i < grids.size(); ++i) {
        GroupGrid grid;
        if (!(scales[i] > 0))
            return fail(ErrorKind::bad_input, "scale ", i, " of ", grids.size(), " is ", scales[i],
                        "; a trained scale must stay positive (a lower learning rate, or project())");
        grid.scale = detail::stored_scale(format.scale, scales[i]);
        grid.subnormal = grid.scale < detail::smallest_scale(format.scale);
        if (!std::isfinite(grid.scale))
            return fail(ErrorKind::bad_input, "scale ", i, " of ", grids.size(), " is ", scales[i],
                        ", which ", fewbit::name(format.scale), " cannot hold");
        const float beta = offsets.empty() ? 0.0f : offsets[i];
        if (!std::isfinite(format.offset == Offset::real ? detail::stored(format.scale, beta) : beta))
            return fail(
                ErrorKind::bad_input, "offset ", i, " of ", grids.size(), " is ", beta,
                std::isfinite(beta) ? text(", which ", fewbit::name(format.scale), " cannot hold") : "");
        if (format.offset == Offset::none) grid.zero = format.middle_code();
        if (format.offset == Offset::real) grid.offset = detail::stored(format.scale, beta) + 0.0f;
        if (format.offset == Offset::integer)
            grid.zero = static_cast<int>(std::clamp<double>(
                detail::nearest_integer(-static_cast<double>(beta) / static_cast<double>(grid.scale)), 0,
                format.max_code()));
        const int farthest = std::max(grid.zero - format.min_code(), format.max_code() - grid.zero);
        const double reach =
            static_cast<double>(grid.scale) * farthest + std::abs(static_cast<double>(grid.offset));
        if (!std::isfinite(static_cast<float>(reach)))
            return fail(ErrorKind::bad_input, "scale ", i, " of ", grids.size(), " is ", scales[i],
                        ": its outermost code would stand for ", reach, ", which f32 cannot hold");
        grids[i] = grid;
    }
    return {};
}

/// The other way: trained numbers that round_grids() turns into `grids` again. A scale of 0 (a group of equal
/// or zero weights) becomes the smallest normal number of its type, because 0 could not be trained: the
/// values stay. scales.size() == grids.size(), offsets as many or, for symmetric formats, none
/// (preconditions).
inline void parameters_of(const Format& format, std::span<const GroupGrid> grids, std::span<float> scales,
                          std::span<float> offsets) noexcept {
    for (std::size_t i = 0; i < grids.size(); ++i) {
        scales[i] = grids[i].scale > 0 ? grids[i].scale : detail::smallest_scale(format.scale);
        if (format.offset == Offset::real) offsets[i] = grids[i].offset;
        if (format.offset == Offset::integer) offsets[i] = -scales[i] * static_cast<float>(grids[i].zero);
    }
}

/// w (N, K) stored on the given grids, codes by encode(): dequantize() of the result gives the values of
/// fake_quantize(), bit for bit. Float formats: a rounding of each weight, no grids. Errors: those of
/// fit_grids, less the fit; no memory.
[[nodiscard]] inline Result<QuantizedMatrix> to_quantized(MatrixView<const float> w, const Format& format,
                                                          std::span<const GroupGrid> grids) {
    if (auto valid = validate_uniform(format); !valid) return Unexpected{std::move(valid).error()};
    if (auto fits = detail::check_count("grids", grids.size(), format.scales(w.rows, w.cols)); !fits)
        return Unexpected{std::move(fits).error()};
    for (std::size_t r = 0; r < w.rows; ++r)
        if (!detail::all_finite(w.row(r).data(), w.cols)) return detail::not_finite("weight", w, r);
    if (format.is_float()) {
        const Scalar type = element_scalar(format);
        for (std::size_t r = 0; r < w.rows; ++r)
            for (std::size_t c = 0; c < w.cols; ++c)
                if (!std::isfinite(detail::stored(type, w(r, c))))
                    return fail(ErrorKind::bad_input, "weight [", r, ", ", c, "] is ", w(r, c), ", which ",
                                fewbit::name(type), " cannot hold");
        return float_matrix(w, type);
    }
    auto matrix = QuantizedMatrix::allocate(format, w.rows, w.cols);
    if (!matrix || grids.empty()) return matrix;
    const std::size_t groups = matrix->scale_cols();
    std::vector<std::uint8_t> codes(w.cols), zeros(groups);
    for (std::size_t r = 0; r < matrix->scale_rows(); ++r) {
        for (std::size_t g = 0; g < groups; ++g) {
            const GroupGrid& grid = grids[r * groups + g];
            matrix->set_scale(r, g, grid.scale);
            if (format.offset == Offset::real) matrix->set_offset(r, g, grid.offset);
            zeros[g] = static_cast<std::uint8_t>(grid.zero);
        }
        if (format.offset == Offset::integer) matrix->zeros.pack_row(r, zeros);
    }
    detail::each_run(format, w.rows, w.cols, [&](const detail::Run& run) {
        encode(format, grids[run.grid], w.row(run.row).subspan(run.first, run.count),
               std::span(codes).subspan(run.first, run.count));
        if (run.first + run.count == w.cols) matrix->codes.pack_row(run.row, codes);
        return true;
    });
    return matrix;
}

}  // namespace fewbit::inline v0::qat
