// How products in tiles of AMX (int8_matrices.hpp) cut K, and the rows of x as they meet it:
//
//   codes    [tile of 16 rows][piece][step][row][step elements]   zeros beyond the end of a piece; rows that the last
//            tile lacks stand for anything
//   scales   [tile of 16 rows][piece][16]
//   sums     likewise: of the codes, times a factor, and beside them times their scales
//
// A piece is what shares its scales, cut to two steps, or to eight where scales are shared by 256 elements and rows are 64 or more; a step is what a tile takes of K, 16, 32, 48 or 64 elements.
#pragma once

#include "kernels/tile16/amx.hpp"
#include "kernels/tile16/lanes_amx.hpp"
#include "kernels/tile16/stream.hpp"

namespace fewbit::inline v0::kernels {
namespace {

class MatrixCut {
public:
    explicit MatrixCut(const KernelCall& call)
        : group_(smaller(call.w.group_elements, call.x.group_elements)),
          step_(smaller(64, (group_ + 15) / 16 * 16)),
          is_long_(group_ >= 256 && call.x.m >= 64),
          steps_(is_long_          ? smaller(8, (group_ + step_ - 1) / step_)
                 : group_ <= step_ ? 1
                                   : 2) {}

    [[nodiscard]] std::size_t step() const { return step_; }    ///< elements of K
    [[nodiscard]] std::size_t steps() const { return steps_; }  ///< of a piece
    /// Whether pieces are longer than tiles can hold of W: what is added up less often, many rows make up for.
    [[nodiscard]] bool is_long() const { return is_long_; }
    [[nodiscard]] std::size_t pieces(std::size_t k) const {
        return k / group_ * of_group(group_) + of_group(k % group_);
    }
    /// use(begin, end) of each piece of [0, k), in their order.
    void each_piece(std::size_t k, auto&& use) const {
        for (std::size_t begin = 0, end; begin < k; begin = end) {
            end = smaller(smaller(k, (begin / group_ + 1) * group_), begin + steps_ * step_);
            use(begin, end);
        }
    }

private:
    [[nodiscard]] std::size_t of_group(std::size_t elements) const {
        return (elements + steps_ * step_ - 1) / (steps_ * step_);
    }
    std::size_t group_, step_;
    bool is_long_;
    std::size_t steps_;
};

/// Rows [m, m + rows) of x.
struct MatrixRows {
    std::int8_t* codes;
    float* scales;
    std::int32_t* sums;
    float* scaled_sums;
    std::size_t pieces;  ///< of a row

    [[nodiscard]] static std::size_t code_bytes(const MatrixCut& cut, std::size_t pieces) {
        return amx_rows * pieces * cut.steps() * cut.step();
    }

    /// From where x stands four rows together. `factor` of the sums: the zero point that all codes share, negative, or -1.
    void arrange(const KernelCall& call, const MatrixCut& cut, std::int32_t factor, std::size_t m,
                 std::size_t rows) const {
        for (std::size_t first = 0; first < rows; first += activation_tile_rows) {
            const std::size_t tile = first / amx_rows, row = first % amx_rows;
            const std::size_t count = smaller(activation_tile_rows, rows - first);
            const float* const x_scales = call.x.scales + (m + first) * call.x.groups;
            const auto* const from =
                static_cast<const std::int8_t*>(call.x.values) + (m + first) * call.x.stride_elements;
            std::int8_t* to = codes + tile * code_bytes(cut, pieces) + row * cut.step();
            std::size_t at = tile * pieces * amx_rows + row;
            cut.each_piece(call.w.k, [&](std::size_t begin, std::size_t end) {
                std::int32_t of_piece[activation_tile_rows] = {};
                arrange_piece(from, count, cut, begin, end, end == call.w.k, to, of_piece);
                for (std::size_t r = 0; r < count; ++r) {
                    scales[at + r] = x_scales[begin / call.x.group_elements * count + r];
                    sums[at + r] = factor * of_piece[r];
                    scaled_sums[at + r] = static_cast<float>(of_piece[r]) * scales[at + r];
                }
                to += amx_rows * cut.steps() * cut.step();
                at += amx_rows;
            });
        }
    }

private:
    /// Elements [begin, end) of `count` rows that stand together, with the sums of their codes.
    static void arrange_piece(const std::int8_t* from, std::size_t count, const MatrixCut& cut,
                              std::size_t begin, std::size_t end, bool is_last, std::int8_t* to,
                              std::int32_t (&of_piece)[activation_tile_rows]) {
        const std::size_t step = cut.step();
        // Beyond the row's end x has zeros; where the piece ends before, others stand.
        const auto has = [&](std::size_t k, std::size_t run) {
            return count == activation_tile_rows && (k + run <= end || (is_last && k < end));
        };
        auto sums = LanesAmx::zero_ints();
        for (std::size_t k = begin; k < end; k += step, to += amx_rows * step) {
            if (step == 64 && has(k, 64)) {
                sums = LanesAmx::part_rows<64>(from + k * count, to, step, sums);
                continue;
            }
            for (std::size_t i = 0; i < step; i += 16) {
                if (has(k + i, 16)) {
                    sums = LanesAmx::part_rows<16>(from + (k + i) * count, to + i, step, sums);
                    continue;
                }
                for (std::size_t j = i; j < i + 16; j += 4)
                    for (std::size_t r = 0; r < count; ++r) {
                        std::int8_t four[4] = {};
                        if (k + j < end) std::memcpy(four, from + (k + j) * count + r * 4, sizeof four);
                        std::memcpy(to + j + r * step, four, sizeof four);
                        of_piece[r] += four[0] + four[1] + four[2] + four[3];
                    }
            }
        }
        std::int32_t of_four[activation_tile_rows];
        LanesAmx::store_four_sums(sums, of_four);
        for (std::size_t r = 0; r < activation_tile_rows; ++r) of_piece[r] += of_four[r];
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
