// What methods that keep float columns share: weights without them, and their storage.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbit/formats/format_name.hpp"
#include "fewbit/formats/linear.hpp"
#include "fewbit/quantize/row_blocks.hpp"

namespace fewbit::inline v0::detail {

/// A code of every grid stands for 0, so that a column of zeros is stored as one.
[[nodiscard]] inline bool has_zero(const Format& format) noexcept {
    const auto table = format.codebook();
    if (!table.empty()) return std::ranges::find(table, 0.0f) != table.end();
    return format.is_float() || format.offset != Offset::real;
}

[[nodiscard]] inline Result<void> check_has_zero(const Format& format, std::string_view tensor,
                                                 std::string_view method) {
    if (has_zero(format)) return {};
    return fail(ErrorKind::unsupported, tensor_prefix(tensor), method,
                " leaves zeros where float columns are, and grids of ", name(format), " have no exact 0");
}

/// Columns of w in f16; in f32 where f16 would overflow.
[[nodiscard]] inline Result<FloatColumns> float_columns(MatrixView<const float> values,
                                                        std::vector<std::uint32_t> channels) {
    FloatColumns out;
    if (channels.empty()) return out;
    bool fits = true;
    for (std::size_t r = 0; r < values.rows; ++r)
        for (const float value : values.row(r)) fits = fits && std::abs(value) < 65520.0f;
    auto stored = float_matrix(values, fits ? Scalar::f16 : Scalar::f32);
    if (!stored) return Unexpected{std::move(stored).error()};
    out.channels = std::move(channels);
    out.values = *std::move(stored);
    return out;
}

/// w with zeros in some columns, and those columns.
[[nodiscard]] inline std::pair<Matrix, Matrix> split_columns(MatrixView<const float> w,
                                                             std::span<const std::uint32_t> channels) {
    std::pair<Matrix, Matrix> out{with_cleared(w, channels), Matrix(w.rows, channels.size())};
    for (std::size_t r = 0; r < w.rows; ++r)
        for (std::size_t c = 0; c < channels.size(); ++c) out.second(r, c) = w(r, channels[c]);
    return out;
}

}  // namespace fewbit::inline v0::detail
