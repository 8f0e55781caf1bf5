// GridQuantizer: fills a QuantizedMatrix of integers or a codebook, with or without the clip search. Internal
// to the room: included by its sources alone. The work is cut into blocks of rows by shape; whatever is
// summed or counted is summed per block and added in block order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/quantize/clip_search.hpp"
#include "fewbit/quantize/grid.hpp"
#include "fewbit/quantize/row_blocks.hpp"

namespace fewbit::inline v0::detail {

struct Interval {
    float min = 0, max = 0;
};

/// Smallest and largest of at least one finite weight; -0 counts as 0.
[[nodiscard]] inline Interval interval_of(const float* w, std::size_t count) noexcept {
    Interval range{w[0], w[0]};
    for (std::size_t i = 1; i < count; ++i) {
        range.min = w[i] < range.min ? w[i] : range.min;
        range.max = w[i] > range.max ? w[i] : range.max;
    }
    return {range.min + 0.0f, range.max + 0.0f};
}

/// What happened in a block of rows.
struct BlockEvents {
    std::size_t zero = 0, constant = 0, subnormal = 0, flushed = 0;
    std::string error;  ///< of the block's first group that failed

    void add(const BlockEvents& part) noexcept {
        zero += part.zero;
        constant += part.constant;
        subnormal += part.subnormal;
        flushed += part.flushed;
    }
    /// `all_zero_code`: all codes are that of 0.
    void count(const GroupGrid& grid, Interval range, bool all_zero_code) noexcept {
        zero += range.min == 0 && range.max == 0;
        constant += range.min == range.max && range.min != 0;
        subnormal += grid.subnormal && grid.scale != 0;
        flushed += all_zero_code && grid.offset == 0 && (range.min != 0 || range.max != 0);
    }
};

class GridQuantizer {
public:
    /// `importance`: (K) or null.
    GridQuantizer(MatrixView<const float> w, const float* importance, QuantizedMatrix& out,
                  const ClipSearch& search, ExecutionContext context)
        : w_(w),
          importance_(importance),
          out_(out),
          search_(search),
          context_(context),
          blocks_(w.rows, w.cols),
          events_(blocks_.count) {}

    /// Events of all blocks; .error is set on failure.
    [[nodiscard]] BlockEvents run() {
        if (w_.rows == 0 || w_.cols == 0) return {};
        if (out_.format().granularity == Granularity::tensor) return whole_tensor();
        context_.parallel_for(blocks_.count, [this](std::size_t block, std::size_t) { rows_of(block); });
        BlockEvents sum;
        for (const BlockEvents& part : events_) {
            if (!part.error.empty()) return part;
            sum.add(part);
        }
        return sum;
    }

private:
    void rows_of(std::size_t block) {
        const Format& format = out_.format();
        const std::size_t group = out_.group_elements(), groups = out_.groups_per_row();
        std::vector<std::uint8_t> codes(w_.cols), zeros(groups);
        for (std::size_t r = blocks_.first(block); r < blocks_.last(block); ++r) {
            float row_scale = 0;
            if (format.double_quantized()) {
                const auto fitted = fit_row_scale(format, w_.row(r));
                if (!fitted) {
                    events_[block].error = text("row ", r, ": ", fitted.error().message);
                    return;
                }
                row_scale = *fitted;
                out_.set_row_scale(r, row_scale);
            }
            for (std::size_t g = 0; g < groups; ++g) {
                const std::size_t first = g * group, count = std::min(group, w_.cols - first);
                const float* run = w_.row(r).data() + first;
                const Interval range = interval_of(run, count);
                const GridFit fit = fit_group(format, range.min, range.max, 1.0, row_scale);
                if (fit.overflows != nullptr) {
                    events_[block].error = text("row ", r, ", group ", g, ": ",
                                                overflow_text(format, fit, range.min, range.max));
                    return;
                }
                const GroupGrid grid =
                    best_grid(format, search_, fit.grid, range.min, range.max, row_scale,
                              {run, importance_ == nullptr ? nullptr : importance_ + first, count});
                encode_run(format, grid, run, count, codes.data() + first);
                out_.set_scale(r, g, grid.scale);
                if (format.offset == Offset::real) out_.set_offset(r, g, grid.offset);
                zeros[g] = static_cast<std::uint8_t>(grid.zero);
                events_[block].count(grid, range, all_zero(grid, codes.data() + first, count));
            }
            out_.codes.pack_row(r, codes);
            if (format.offset == Offset::integer) out_.zeros.pack_row(r, zeros);
        }
    }

    [[nodiscard]] BlockEvents whole_tensor() {
        const Format& format = out_.format();
        std::vector<Interval> ranges(w_.rows);
        context_.parallel_for(blocks_.count, [&](std::size_t block, std::size_t) {
            for (std::size_t r = blocks_.first(block); r < blocks_.last(block); ++r)
                ranges[r] = interval_of(w_.row(r).data(), w_.cols);
        });
        Interval range = ranges[0];
        for (const Interval& row : ranges)
            range = {std::min(range.min, row.min), std::max(range.max, row.max)};
        BlockEvents events;
        const GridFit fit = fit_group(format, range.min, range.max, 1.0);
        if (fit.overflows != nullptr) {
            events.error = overflow_text(format, fit, range.min, range.max);
            return events;
        }
        const GroupGrid grid = best_grid_of_tensor(fit.grid, range);
        out_.set_scale(0, 0, grid.scale);
        if (format.offset == Offset::real) out_.set_offset(0, 0, grid.offset);
        const auto zero = static_cast<std::uint8_t>(grid.zero);
        if (format.offset == Offset::integer) out_.zeros.pack_row(0, {&zero, 1});
        std::vector<char> silent(blocks_.count, 1);
        context_.parallel_for(blocks_.count, [&](std::size_t block, std::size_t) {
            std::vector<std::uint8_t> codes(w_.cols);
            for (std::size_t r = blocks_.first(block); r < blocks_.last(block); ++r) {
                encode_run(format, grid, w_.row(r).data(), w_.cols, codes.data());
                out_.codes.pack_row(r, codes);
                if (!all_zero(grid, codes.data(), codes.size())) silent[block] = 0;
            }
        });
        events.count(grid, range, std::find(silent.begin(), silent.end(), 0) == silent.end());
        return events;
    }

    [[nodiscard]] GroupGrid best_grid_of_tensor(const GroupGrid& unshrunken, Interval range) {
        const bool integer_constant = range.min == range.max && !out_.format().is_codebook();
        if (search_.candidates <= 1 || integer_constant || unshrunken.scale == 0) return unshrunken;
        std::vector<GroupGrid> grids{unshrunken};
        for_each_factor(out_.format(), search_, [&](double factor) {
            grids.push_back(fit_group(out_.format(), range.min, range.max, factor).grid);
        });
        std::vector<double> errors(blocks_.count * grids.size());
        context_.parallel_for(blocks_.count, [&](std::size_t block, std::size_t) {
            double* mine = errors.data() + block * grids.size();
            for (std::size_t r = blocks_.first(block); r < blocks_.last(block); ++r)
                for (std::size_t i = 0; i < grids.size(); ++i)
                    mine[i] += run_error(out_.format(), grids[i], search_.exponent,
                                         {w_.row(r).data(), importance_, w_.cols},
                                         std::numeric_limits<double>::infinity());
        });
        std::vector<double> sums(grids.size());
        for (std::size_t block = 0; block < blocks_.count; ++block)
            for (std::size_t i = 0; i < grids.size(); ++i) sums[i] += errors[block * grids.size() + i];
        return grids[static_cast<std::size_t>(std::min_element(sums.begin(), sums.end()) - sums.begin())];
    }

    /// Do all codes stand for 0 before the offset? (iq4 has no 0 to stand for.)
    [[nodiscard]] bool all_zero(const GroupGrid& grid, const std::uint8_t* codes,
                                std::size_t count) const noexcept {
        if (out_.format().element == Element::iq4 && grid.scale != 0) return false;
        const auto zero = static_cast<std::uint8_t>(grid.zero);
        return std::find_if(codes, codes + count, [zero](std::uint8_t code) { return code != zero; }) ==
               codes + count;
    }

    MatrixView<const float> w_;
    const float* importance_;
    QuantizedMatrix& out_;
    ClipSearch search_;
    ExecutionContext context_;
    RowBlocks blocks_;
    std::vector<BlockEvents> events_;
};

}  // namespace fewbit::inline v0::detail
