// Definitions of encode.hpp: the rule of every type, from which bytes follow.
//
//   one pass      the scale from the extremes of the block, codes by rounding
//   searched      fit_symmetric, fit_affine, fit_iq4: over the group, weighted by x^2, |x| or importance
//   super-blocks  groups as above; their scales are codes under the scale of the block, and the weights are
//                 rounded again with what is stored
//
// A row is taken in chunks; what costs time is a job for lanes (lane_run.hpp) over all groups of a chunk. The types
// that nobody searches run block by block (encode_one_pass.hpp).
#pragma once

#include "fewbit/core/config.hpp"
#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/formats/ggml/encode_one_pass.hpp"

namespace fewbit::inline v0::ggml {
namespace detail {

/// Some blocks of a row on their way into bytes.
class Chunk {
public:
    static constexpr std::size_t elements = 2048;

    /// `importance`: of the same columns, or nullptr. `variance`: mean square of the row, for blocks of 32 with
    /// importance.
    Chunk(LaneCode lanes, BlockType type, const float* x, const float* importance, std::size_t blocks,
          float variance, std::uint8_t* out) noexcept
        : lanes_(lanes),
          type_(type),
          t_(traits(type)),
          x_(x),
          importance_(importance),
          blocks_(blocks),
          groups_(blocks * t_.elements / t_.group),
          variance_(variance),
          out_(out) {}

    void encode() noexcept {
        switch (type_) {
            case BlockType::q4_0:
            case BlockType::q5_0:
            case BlockType::q4_1:
            case BlockType::q5_1: return importance_ != nullptr ? searched() : one_pass();
            case BlockType::q8_0: return one_pass();
            case BlockType::q2_k:
            case BlockType::q4_k:
            case BlockType::q5_k: return two_level();
            case BlockType::q3_k: return q3_k();
            case BlockType::q6_k: return q6_k();
            case BlockType::iq4_nl: return iq4_nl();
            case BlockType::iq4_xs: return iq4_xs();
            default:
                for (std::size_t b = 0; b < blocks_; ++b) encode_block(type_, x_ + b * t_.elements, block(b));
        }
    }

private:
    [[nodiscard]] std::uint8_t* block(std::size_t b) const noexcept { return out_ + b * t_.bytes; }
    /// Over the groups, into codes_.
    [[nodiscard]] LaneJob job(LaneTask task) noexcept {
        LaneJob result;
        result.task = task;
        result.groups = groups_;
        result.n = t_.group;
        result.x = x_;
        result.importance = importance_;
        result.spread = spread_;
        result.most = (1 << t_.bits) - 1;
        result.scale = scale_;
        result.offset = offset_;
        result.codes = codes_;
        result.code_stride = t_.group;
        return result;
    }
    void pack() noexcept {
        for (std::size_t b = 0; b < blocks_; ++b) pack_codes(type_, codes_ + b * t_.elements, block(b));
    }
    /// spread_ of every group: sums of squares over its block, times `factor`; sums are divided first.
    void spread_of_blocks(float divisor, float factor) noexcept {
        LaneJob squares = job(LaneTask::squares);
        float sums[elements / 32];
        squares.groups = blocks_;
        squares.n = t_.elements;
        squares.scale = sums;
        lanes_(squares);
        for (std::size_t g = 0; g < groups_; ++g)
            spread_[g] = sums[g / (groups_ / blocks_)] / divisor * factor;
    }

    // --- blocks of 32 ---------------------------------------------------------------------------------

    void one_pass() noexcept {
        const bool real = t_.grid == Grid::real, whole_bytes = type_ == BlockType::q8_0;
        LaneJob each = job(whole_bytes ? LaneTask::q8_0 : real ? LaneTask::range : LaneTask::to_end);
        if (!real) each.most = t_.zero;
        each.nibbles = t_.bits == 4;
        if (t_.bits != 5) {  // straight into the block
            each.codes = out_ + (real ? 4 : 2);
            each.code_stride = t_.bytes;
        }
        each.halves = out_;
        each.half_stride = t_.bytes;
        lanes_(each);
        if (t_.bits == 5) pack();
    }
    void searched() noexcept {
        const bool real = t_.grid == Grid::real;
        LaneJob each = job(real ? LaneTask::affine : LaneTask::symmetric);
        std::fill_n(spread_, groups_, variance_);
        each.weighing = Weighing::spread_importance;
        each.search = {-0.9f, 0.05f, 36, true};
        if (!real) each.most = t_.zero;
        lanes_(each);
        for (std::size_t b = 0; b < blocks_; ++b) {
            store_half(block(b), scale_[b]);
            if (real) store_half(block(b) + 2, -offset_[b]);
        }
        pack();
    }

    // --- iq4 ------------------------------------------------------------------------------------------

    void fit_iq4() noexcept {
        LaneJob each = job(LaneTask::iq4);
        if (importance_ != nullptr) {
            spread_of_blocks(1, 2 / static_cast<float>(t_.elements));
            each.weighing = Weighing::spread_importance;
        }
        lanes_(each);
    }
    void round_iq4() noexcept {
        lanes_(job(LaneTask::round_iq4));
        pack();
    }
    void iq4_nl() noexcept {
        fit_iq4();
        for (std::size_t b = 0; b < blocks_; ++b) {
            store_half(block(b), scale_[b]);
            scale_[b] = inverse_of(scale_[b]);
        }
        round_iq4();
    }
    void iq4_xs() noexcept {
        fit_iq4();
        for (std::size_t b = 0; b < blocks_; ++b) {
            float* const scales = scale_ + 8 * b;
            const float d = -first_max(scales, 8) / 32, inverse = inverse_of(d);
            std::memset(block(b), 0, 8);
            store_half(block(b), d);
            for (std::size_t g = 0; g < 8; ++g) {
                const int l = std::clamp(nearest(inverse * scales[g]), -32, 31);
                scales[g] = inverse_of(d * static_cast<float>(l));
                put_iq4_scale(block(b), g, static_cast<unsigned>(l + 32));
            }
        }
        round_iq4();
    }

    // --- super-blocks of 256 --------------------------------------------------------------------------

    /// Codes again, with the scales and offsets that are stored; groups of scale 0 keep what they have.
    void round_again() noexcept {
        const std::size_t per_block = groups_ / blocks_;
        for (std::size_t g = 0; g < groups_; ++g) {
            const auto [scale, offset] = group_parameters(type_, block(g / per_block), g % per_block);
            scale_[g] = scale;
            offset_[g] = offset;
        }
        LaneJob each = job(LaneTask::round);
        each.zero = t_.zero;
        lanes_(each);
        pack();
    }

    /// Scales (and minima, which follow them) of the groups under one of the block, where weights tell which groups
    /// matter. `tops`: one per block, and one more per block for the minima.
    void fit_under_block(LaneTask task, int most, const float* values, std::size_t rows, float* tops,
                         std::uint8_t* codes) noexcept {
        LaneJob under = job(task);
        under.groups = rows;
        under.n = groups_ / blocks_;
        under.x = values;
        under.most = most;
        under.weighing = Weighing::importance;
        under.importance = sums_;
        under.scale = tops;
        under.codes = codes;
        under.code_stride = under.n;
        lanes_(under);
    }

    /// q2_k, q4_k, q5_k: scales and minima of the groups, both codes under a scale of the block.
    void two_level() noexcept {
        const bool two_bits = type_ == BlockType::q2_k;
        const std::size_t per_block = groups_ / blocks_;
        const int scale_most = two_bits ? 15 : 63;
        float* const scales = values_;
        float* const minima = values_ + groups_;
        LaneJob each = job(LaneTask::affine);
        each.scale = scales;
        each.offset = minima;
        each.weight_sums = sums_;
        if (importance_ != nullptr) {
            spread_of_blocks(256, two_bits ? 1.0f : 2.0f);
            each.weighing = Weighing::spread_importance;
            each.search = {-0.9f, 0.05f, 36, true};
        } else {
            each.weighing = Weighing::magnitude;
            each.search = two_bits                   ? AffineSearch{-0.5f, 0.1f, 15, false}
                          : type_ == BlockType::q4_k ? AffineSearch{-1.0f, 0.1f, 20, true}
                                                     : AffineSearch{-0.5f, 0.1f, 15, true};
            if (two_bits)
                std::fill_n(spread_, groups_, 0.0f);
            else
                spread_of_groups();
        }
        lanes_(each);

        float tops[2 * elements / 256];
        std::uint8_t codes[2 * elements / 16];
        if (importance_ != nullptr) {
            std::copy_n(sums_, groups_, sums_ + groups_);
            fit_under_block(LaneTask::positive, scale_most, values_, 2 * blocks_, tops, codes);
        } else {
            for (std::size_t row = 0; row < 2 * blocks_; ++row)
                tops[row] =
                    under_largest(values_ + row * per_block, per_block, scale_most, codes + row * per_block);
        }
        for (std::size_t b = 0; b < blocks_; ++b) {
            std::uint8_t* const to = block(b);
            store_half(to + (two_bits ? 80 : 0), tops[b]);
            store_half(to + (two_bits ? 82 : 2), tops[blocks_ + b]);
            if (!two_bits) std::memset(to + 4, 0, 12);
            for (std::size_t g = 0; g < per_block; ++g) {
                const std::uint8_t scale = codes[b * per_block + g],
                                   minimum = codes[groups_ + b * per_block + g];
                if (two_bits)
                    to[g] = static_cast<std::uint8_t>(scale | minimum << 4);
                else
                    put_scale_min(to + 4, g, {scale, minimum});
            }
        }
        round_again();
    }
    /// spread_: root of the mean square of each group.
    void spread_of_groups() noexcept {
        LaneJob squares = job(LaneTask::squares);
        squares.scale = spread_;
        lanes_(squares);
        for (std::size_t g = 0; g < groups_; ++g)
            spread_[g] = std::sqrt(spread_[g] / static_cast<float>(t_.group));
    }
    /// Codes of values >= 0, of which the largest gets the last one.
    [[nodiscard]] static float under_largest(const float* values, std::size_t n, int most,
                                             std::uint8_t* codes) noexcept {
        const auto top = static_cast<float>(most);
        const float largest = std::max(0.0f, *std::max_element(values, values + n));
        const float inverse = largest > 0 ? top / largest : 0.0f;
        for (std::size_t g = 0; g < n; ++g)
            codes[g] = static_cast<std::uint8_t>(std::clamp(nearest(inverse * values[g]), 0, most));
        return largest / top;
    }

    void q3_k() noexcept {
        LaneJob each = job(LaneTask::q3);
        float tops[elements / 256];
        std::uint8_t codes[elements / 16];
        each.scale = values_;
        if (importance_ != nullptr) {
            spread_of_blocks(256, 2);
            each.task = LaneTask::symmetric;
            each.most = t_.zero;
            each.weighing = Weighing::spread_importance;
            each.weight_sums = sums_;
            lanes_(each);
            fit_under_block(LaneTask::symmetric, 32, values_, blocks_, tops, codes);
        } else {
            lanes_(each);
            for (std::size_t b = 0; b < blocks_; ++b) tops[b] = under_end(values_ + 16 * b, codes + 16 * b);
        }
        for (std::size_t b = 0; b < blocks_; ++b) {
            std::memset(block(b) + 96, 0, 14);
            store_half(block(b) + 108, tops[b]);
            for (std::size_t g = 0; g < 16; ++g) put_q3_scale(block(b) + 96, g, codes[16 * b + g]);
        }
        round_again();
    }
    /// Codes of 16 values on a grid of 6 bits, whose first code is the largest magnitude.
    [[nodiscard]] static float under_end(const float* values, std::uint8_t* codes) noexcept {
        const float m = first_max(values, 16);
        if (m == 0) {
            std::fill_n(codes, 16, std::uint8_t{0});
            return 0;
        }
        const float inverse = -32 / m;
        for (std::size_t g = 0; g < 16; ++g)
            codes[g] = static_cast<std::uint8_t>(std::clamp(nearest(inverse * values[g]), -32, 31) + 32);
        return 1 / inverse;
    }

    void q6_k() noexcept {
        LaneJob each = job(LaneTask::symmetric);
        each.most = t_.zero;
        each.scale = values_;
        if (importance_ != nullptr) each.weighing = Weighing::importance;
        lanes_(each);
        for (std::size_t b = 0; b < blocks_; ++b) {
            const float* const scales = values_ + 16 * b;
            const float m = first_max(scales, 16), inverse = -128 / m;
            store_half(block(b) + 208, 1 / inverse);
            for (std::size_t g = 0; g < 16; ++g)
                block(b)[192 + g] = static_cast<std::uint8_t>(std::min(127, nearest(inverse * scales[g])));
        }
        round_again();
        for (std::size_t b = 0; b < blocks_; ++b)
            if (std::fabs(first_max(values_ + 16 * b, 16)) < tiny) std::memset(block(b), 0, t_.bytes);
    }

    LaneCode lanes_;
    BlockType type_;
    const BlockTraits& t_;
    const float* x_;
    const float* importance_;
    std::size_t blocks_, groups_;
    float variance_;
    std::uint8_t* out_;
    // Of the groups; values_ and sums_ twice, because minima follow scales.
    float scale_[elements / 16], offset_[elements / 16], spread_[elements / 16];
    float values_[2 * elements / 16], sums_[2 * elements / 16];
    std::uint8_t codes_[elements];
};

inline void encode_row_in_lanes(LaneCode lanes, BlockType type, std::span<const float> x,
                                std::span<const float> importance, std::span<std::uint8_t> out) noexcept {
    const BlockTraits& t = traits(type);
    const bool weighted = !importance.empty() && uses_importance(type);
    // q4_0 to q5_1 compare weights with the whole row.
    float variance = 0;
    if (weighted && t.group == 32 && t.elements == 32 && t.grid != Grid::codebook) {
        for (const float each : x) variance += each * each;
        variance /= static_cast<float>(x.size());
    }
    const std::size_t blocks = x.size() / t.elements, at_once = Chunk::elements / t.elements;
    for (std::size_t b = 0; b < blocks; b += at_once)
        Chunk(lanes, type, x.data() + b * t.elements, weighted ? importance.data() + b * t.elements : nullptr,
              std::min(at_once, blocks - b), variance, out.data() + b * t.bytes)
            .encode();
}

/// What a compiler makes of lanes without being told of an instruction set.
#if defined(FEWBIT_HAS_FOUR)
using GenericLanes = Pair<Four>;
#else
using GenericLanes = One;
#endif

}  // namespace detail

#if defined(FEWBIT_HEADER_ONLY)
inline void encode_row(BlockType type, std::span<const float> x, std::span<const float> importance,
                       std::span<std::uint8_t> out) noexcept {
    detail::encode_row_in_lanes(detail::run_lanes<detail::GenericLanes>, type, x, importance, out);
}
#endif

}  // namespace fewbit::inline v0::ggml
