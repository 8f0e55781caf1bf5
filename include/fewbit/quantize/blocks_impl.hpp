// Quantizing to ggml's blocks: rtn is the reference encoder, byte for byte; mse starts from it and searches on
// (block_refinement.hpp). Internal to the room; rtn.hpp and mse.hpp are the doors.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/quantize/block_refinement.hpp"
#include "fewbit/quantize/grid_quantizer.hpp"
#include "fewbit/quantize/quantized.hpp"
#include "fewbit/quantize/row_blocks.hpp"

namespace fewbit::inline v0::detail {

/// The search of mse from a block, and from a second one unless that is null; the result is where the first stood.
inline void refine_block(ggml::BlockType type, std::span<const float> w, std::span<const float> importance,
                         const std::uint8_t* second, std::uint8_t* block) {
    const BlockRefinement refinement(type, w.data(), importance.empty() ? nullptr : importance.data());
    double least = refinement.error(block);
    if (!(least > 0)) return;
    const std::vector<std::uint8_t> start(block, block + ggml::traits(type).bytes);
    refinement.improve(start.data(), block, least);
    if (second != nullptr) refinement.improve(second, block, least);
}

/// One block as rows of them are encoded, with or without the search of mse.
inline void encode_block(ggml::BlockType type, std::span<const float> w, std::span<const float> importance,
                         bool search, std::uint8_t* block) {
    const std::size_t bytes = ggml::traits(type).bytes;
    ggml::encode_row(type, w, importance, {block, bytes});
    if (!search) return;
    std::vector<std::uint8_t> even;
    if (ggml::uses_importance(type)) {
        const std::vector<float> equal(w.size(), 1.0f);
        even.resize(bytes);
        ggml::encode_row(type, w, equal, even);
    }
    refine_block(type, w, importance, even.empty() ? nullptr : even.data(), block);
}

class GgmlQuantizer {
public:
    GgmlQuantizer(MatrixView<const float> w, QuantizedMatrix& out, std::span<const float> importance,
                  bool search)
        : w_(w),
          out_(out),
          importance_(importance),
          type_(out.format().block),
          traits_(ggml::traits(type_)),
          equal_(search && ggml::uses_importance(type_) ? w.cols : 0, 1.0f),
          search_(search) {}

    /// Events of all rows; .error is set on failure.
    [[nodiscard]] BlockEvents run(ExecutionContext context) {
        const RowBlocks blocks(w_.rows, w_.cols);
        std::vector<BlockEvents> events(blocks.count);
        context.parallel_for(blocks.count, [&](std::size_t b, std::size_t) {
            for (std::size_t r = blocks.first(b); r < blocks.last(b); ++r) {
                encode(r);
                if (auto why = count(r, events[b]); !why.empty()) {
                    events[b].error = std::move(why);
                    return;
                }
            }
        });
        BlockEvents sum;
        for (BlockEvents& part : events) {
            if (!part.error.empty()) return std::move(part);
            sum.add(part);
        }
        return sum;
    }

private:
    void encode(std::size_t r) {
        const std::size_t bytes = ggml::row_bytes(type_, w_.cols);
        const std::span<std::uint8_t> row(out_.mutable_blocks(r), bytes);
        ggml::encode_row(type_, w_.row(r), importance_, row);
        if (!search_) return;
        // The second start: where the reference searches, with all weights alike.
        std::vector<std::uint8_t> even;
        if (!equal_.empty()) {
            even.resize(bytes);
            ggml::encode_row(type_, w_.row(r), equal_, even);
        }
        for (std::size_t b = 0; b < w_.cols / traits_.elements; ++b)
            refine_block(type_, w_.row(r).subspan(b * traits_.elements, traits_.elements),
                         importance_.empty() ? importance_
                                             : importance_.subspan(b * traits_.elements, traits_.elements),
                         even.empty() ? nullptr : even.data() + b * traits_.bytes,
                         row.data() + b * traits_.bytes);
    }

    /// Why the row cannot be stored; empty when it can.
    [[nodiscard]] std::string count(std::size_t r, BlockEvents& events) const {
        std::vector<float> stored(w_.cols);
        out_.dequantize(r, 0, stored);
        for (std::size_t first = 0; first < w_.cols; first += traits_.group) {
            const std::span<const float> given = w_.row(r).subspan(first, traits_.group);
            const std::span<const float> read(stored.data() + first, traits_.group);
            const auto [low, high] = std::minmax_element(given.begin(), given.end());
            const bool none = *low == 0 && *high == 0;
            events.zero += none;
            events.constant += !none && *low == *high;
            const auto is_zero = [](float value) { return value == 0; };
            events.flushed += !none && std::all_of(read.begin(), read.end(), is_zero);
            for (std::size_t i = 0; i < read.size(); ++i)
                if (!std::isfinite(read[i]))
                    return text("weight [", r, ", ", first + i, "] is ", given[i],
                                ", and the scale of its block of ", ggml::name(type_),
                                " is too large for its type; choose a float format for "
                                "this tensor");
        }
        return {};
    }

    MatrixView<const float> w_;
    QuantizedMatrix& out_;
    std::span<const float> importance_;
    ggml::BlockType type_;
    const ggml::BlockTraits& traits_;
    std::vector<float> equal_;
    bool search_;
};

/// `out` is allocated; the weights were found finite. Returns the events, or a sentence in .error.
[[nodiscard]] inline BlockEvents quantize_blocks(MatrixView<const float> w, std::span<const float> importance,
                                                 bool search, QuantizedMatrix& out,
                                                 ExecutionContext context) {
    if (w.rows == 0 || w.cols == 0) return {};
    return GgmlQuantizer(w, out, importance, search).run(context);
}

}  // namespace fewbit::inline v0::detail
