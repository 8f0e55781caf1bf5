// Definitions of grid.hpp.
#pragma once

#include <algorithm>

#include "fewbit/quantize/grid.hpp"
#include "fewbit/quantize/grid_fit.hpp"

namespace fewbit::inline v0 {

FEWBIT_INLINE Result<GroupGrid> fit_grid(const Format& format, float min, float max, double shrink,
                                         float row_scale) {
    const detail::GridFit fit = detail::fit_group(format, min, max, shrink, row_scale);
    if (fit.overflows != nullptr)
        return unexpected(ErrorKind::bad_input, detail::overflow_text(format, fit, min, max));
    return fit.grid;
}

FEWBIT_INLINE Result<float> fit_row_scale(const Format& format, std::span<const float> row) {
    Format exact = format;
    exact.scale = Scalar::f32;
    double widest = 0;
    const std::size_t group = format.group_elements(row.size());
    for (std::size_t first = 0; first < row.size(); first += group) {
        const auto run = row.subspan(first, std::min(group, row.size() - first));
        const auto [min, max] = std::minmax_element(run.begin(), run.end());
        const detail::GridFit fit = detail::fit_group(exact, *min, *max, 1.0);
        if (fit.overflows != nullptr)
            return unexpected(ErrorKind::bad_input, detail::overflow_text(exact, fit, *min, *max));
        widest = std::max(widest, static_cast<double>(fit.grid.scale));
    }
    return detail::row_scale_for(widest);
}

FEWBIT_INLINE void encode(const Format& format, const GroupGrid& grid, std::span<const float> weights,
                          std::span<std::uint8_t> codes) {
    detail::encode_run(format, grid, weights.data(), weights.size(), codes.data());
}

FEWBIT_INLINE float decode(const Format& format, const GroupGrid& grid, int code) {
    if (format.is_codebook()) return grid.scale * format.codebook()[static_cast<std::size_t>(code)];
    const float product = grid.scale * static_cast<float>(code - grid.zero);
    return format.offset == Offset::real ? product + grid.offset : product;
}

}  // namespace fewbit::inline v0
