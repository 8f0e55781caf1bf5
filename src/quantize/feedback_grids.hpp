// The grids that error feedback rounds to, group by group, for some rows of a matrix: of integers and codebooks, and of
// ggml's blocks. `out` comes with the grids of the weights as they were; fit() replaces a group's.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "fewbit/quantize/blocks_impl.hpp"
#include "fewbit/quantize/grid_quantizer.hpp"

namespace fewbit::inline v0::detail {

struct Rounded {
    std::uint8_t code;
    double value;  ///< what the code stands for
};

/// How a group's grid is found anew.
struct FeedbackFit {
    ClipSearch search;
    std::span<const float> importance;  ///< (K): what errors weigh in ggml's blocks
};

/// Integers and codebooks. A unit, whose columns share what fit() finds, is a group.
class PlainGrids {
public:
    static std::size_t unit(const QuantizedMatrix& out) { return out.group_elements(); }

    PlainGrids(QuantizedMatrix& out, const FeedbackFit& how, std::size_t first, std::size_t last)
        : out_(out),
          how_(how),
          first_(first),
          groups_(out.groups_per_row()),
          grids_((last - first) * groups_) {
        for (std::size_t r = first; r < last; ++r)
            for (std::size_t g = 0; g < groups_; ++g)
                grids_[(r - first) * groups_ + g] = {out.scale(r, g), out.zero(r, g), out.offset(r, g)};
    }

    /// The grid of unit u of row r for weights as they are now. Returns why there is none; empty when there is.
    [[nodiscard]] std::string fit(std::size_t r, std::size_t u, std::span<const float> w) {
        const Format& format = out_.format();
        const float row_scale = format.double_quantized() ? out_.row_scale(r) : 0.0f;
        const Interval range = interval_of(w.data(), w.size());
        const GridFit fit = fit_group(format, range.min, range.max, 1.0, row_scale);
        if (fit.overflows != nullptr)
            return text("row ", r, ", group ", u, ": ", overflow_text(format, fit, range.min, range.max));
        // Weighed by importance the searched grids were no better in front of error feedback.
        const GroupGrid grid = best_grid(format, how_.search, fit.grid, range.min, range.max, row_scale,
                                         {w.data(), nullptr, w.size()});
        grids_[(r - first_) * groups_ + u] = grid;
        out_.set_scale(r, u, grid.scale);
        if (format.offset == Offset::real) out_.set_offset(r, u, grid.offset);
        return {};
    }

    [[nodiscard]] Rounded round(std::size_t r, std::size_t column, double w) const noexcept {
        const GroupGrid& grid = grids_[(r - first_) * groups_ + column / out_.group_elements()];
        const auto offset = static_cast<double>(grid.offset), scale = static_cast<double>(grid.scale);
        if (grid.scale == 0) return {static_cast<std::uint8_t>(grid.zero), offset};
        return with_levels(out_.format(), grid, [&](const auto& levels) -> Rounded {
            const auto single = static_cast<float>(w);
            return {levels.code(single), scale * levels.level(single) + offset};
        });
    }

    /// Writes a row's codes (K).
    void store(std::size_t r, std::span<const std::uint8_t> codes) {
        out_.codes.pack_row(r, codes);
        if (out_.format().offset != Offset::integer || out_.format().granularity == Granularity::tensor)
            return;
        std::vector<std::uint8_t> zeros(groups_);
        for (std::size_t g = 0; g < groups_; ++g)
            zeros[g] = static_cast<std::uint8_t>(grids_[(r - first_) * groups_ + g].zero);
        out_.zeros.pack_row(r, zeros);
    }

private:
    QuantizedMatrix& out_;
    const FeedbackFit& how_;
    std::size_t first_, groups_;
    std::vector<GroupGrid> grids_;  ///< (rows, groups)
};

/// ggml's blocks. A unit is a block: its scales are found together, by the reference encoder or the search of mse.
class BlockGrids {
public:
    static std::size_t unit(const QuantizedMatrix& out) { return ggml::traits(out.format().block).elements; }

    BlockGrids(QuantizedMatrix& out, const FeedbackFit& how, std::size_t first, std::size_t last)
        : out_(out),
          how_(how),
          type_(out.format().block),
          traits_(ggml::traits(type_)),
          first_(first),
          groups_(out.k() / traits_.group),
          most_(type_ == ggml::BlockType::tq1_0 || type_ == ggml::BlockType::tq2_0 ? 2
                                                                                   : (1 << traits_.bits) - 1),
          values_(ggml::codebook(type_)),
          parameters_((last - first) * groups_) {
        for (std::size_t r = first; r < last; ++r)
            for (std::size_t b = 0; b < out.k() / traits_.elements; ++b) read(r, b);
    }

    [[nodiscard]] std::string fit(std::size_t r, std::size_t u, std::span<const float> w) {
        const std::span<const float> importance =
            how_.importance.empty() ? how_.importance
                                    : how_.importance.subspan(u * traits_.elements, w.size());
        encode_block(type_, w, importance, how_.search.candidates > 1, block(r, u));
        read(r, u);
        for (std::size_t g = 0; g < traits_.elements / traits_.group; ++g) {
            const ggml::GroupParameters& p = parameters(r, u * (traits_.elements / traits_.group) + g);
            if (!std::isfinite(p.scale) || !std::isfinite(p.offset))
                return text("row ", r, ", block ", u, ": the scale of its block of ", ggml::name(type_),
                            " is too large for its type; choose a float format for this tensor");
        }
        return {};
    }

    [[nodiscard]] Rounded round(std::size_t r, std::size_t column, double w) const noexcept {
        const ggml::GroupParameters& p = parameters(r, column / traits_.group);
        const auto scale = static_cast<double>(p.scale), offset = static_cast<double>(p.offset);
        const double level = scale != 0 ? (w - offset) / scale : 0.0;
        if (values_.empty()) {
            const double whole =
                std::clamp(round_half_even(level + traits_.zero), 0.0, static_cast<double>(most_));
            return {static_cast<std::uint8_t>(whole), scale * (whole - traits_.zero) + offset};
        }
        std::size_t best = 0;
        for (std::size_t i = 1; i < values_.size(); ++i)
            if (std::fabs(static_cast<double>(values_[i]) - level) <
                std::fabs(static_cast<double>(values_[best]) - level))
                best = i;
        return {static_cast<std::uint8_t>(best), scale * static_cast<double>(values_[best])};
    }

    void store(std::size_t r, std::span<const std::uint8_t> codes) {
        for (std::size_t b = 0; b < out_.k() / traits_.elements; ++b)
            ggml::pack_codes(type_, codes.data() + b * traits_.elements, block(r, b));
    }

private:
    [[nodiscard]] std::uint8_t* block(std::size_t r, std::size_t b) {
        return out_.mutable_blocks(r) + b * traits_.bytes;
    }
    void read(std::size_t r, std::size_t b) {
        const std::size_t per_block = traits_.elements / traits_.group;
        for (std::size_t g = 0; g < per_block; ++g)
            parameters_[(r - first_) * groups_ + b * per_block + g] =
                ggml::group_parameters(type_, block(r, b), g);
    }
    [[nodiscard]] const ggml::GroupParameters& parameters(std::size_t r, std::size_t g) const noexcept {
        return parameters_[(r - first_) * groups_ + g];
    }

    QuantizedMatrix& out_;
    const FeedbackFit& how_;
    ggml::BlockType type_;
    const ggml::BlockTraits& traits_;
    std::size_t first_, groups_;
    int most_;
    std::span<const float> values_;
    std::vector<ggml::GroupParameters> parameters_;  ///< (rows, groups)
};

}  // namespace fewbit::inline v0::detail
