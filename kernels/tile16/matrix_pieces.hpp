// How products in tiles of AMX (int8_matrices.hpp) cut K, and the rows of x as they meet it:
//
//   codes    [tile of 16 rows][piece][step][row][step elements]   zeros beyond the end of a piece; rows that the last
//            tile lacks stand for anything
//   scales   [tile of 16 rows][piece][16]
//   sums     likewise: of the codes; those of a run stand with the piece in which it begins. As they are, and scaled
//
// A piece is what shares its scales, cut to two steps, or to eight where that is 256 elements or more; a step is what a tile takes of K, 16, 32, 48 or 64 elements.
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

    /// From where x stands four rows together.
    void arrange(const KernelCall& call, const MatrixCut& cut, std::size_t m, std::size_t rows) const {
        for (std::size_t first = 0; first < rows; first += activation_tile_rows) {
            const std::size_t tile = first / amx_rows;
            const std::size_t count = smaller(activation_tile_rows, rows - first);
            arrange_four(call.x, cut, m + first, count, codes + tile * code_bytes(cut, pieces),
                         first % amx_rows, call.w.k);
            const std::size_t numbers = tile * pieces * amx_rows + first % amx_rows;
            arrange_numbers(call.x, cut, m + first, count, call.w.k, numbers);
        }
    }

private:
    /// `count` rows, which stand together from row m on, as rows `row` and on of a tile.
    static void arrange_four(const ActivationsView& x, const MatrixCut& cut, std::size_t m, std::size_t count,
                             std::int8_t* to, std::size_t row, std::size_t k_end) {
        const auto* const from = static_cast<const std::int8_t*>(x.values) + m * x.stride_elements;
        const std::size_t step = cut.step();
        to += row * step;
        cut.each_piece(k_end, [&](std::size_t begin, std::size_t end) {
            for (std::size_t s = 0; s < cut.steps(); ++s, begin += step, to += amx_rows * step) {
                // Beyond the row's end x has zeros; where the piece ends before, others stand.
                const auto has = [&](std::size_t k, std::size_t run) {
                    return count == activation_tile_rows && (k + run <= end || (end == k_end && k < end));
                };
                if (step == 64 && has(begin, 64)) {
                    LanesAmx::part_rows<64>(from + begin * count, to, step);
                    continue;
                }
                for (std::size_t i = 0; i < step; i += 16) {
                    const std::size_t k = begin + i;
                    if (has(k, 16)) {
                        LanesAmx::part_rows<16>(from + k * count, to + i, step);
                        continue;
                    }
                    for (std::size_t j = 0; j < 16; j += 4)
                        for (std::size_t r = 0; r < count; ++r) {
                            std::uint32_t four = 0;
                            if (k + j < end) std::memcpy(&four, from + (k + j) * count + r * 4, sizeof four);
                            std::memcpy(to + i + j + r * step, &four, sizeof four);
                        }
                }
            }
        });
    }
    void arrange_numbers(const ActivationsView& x, const MatrixCut& cut, std::size_t m, std::size_t count,
                         std::size_t k_end, std::size_t at) const {
        const std::size_t run = x.sum_group_elements;
        cut.each_piece(k_end, [&](std::size_t begin, std::size_t end) {
            for (std::size_t r = 0; r < count; ++r) {
                scales[at + r] = x.scales[m * x.groups + begin / x.group_elements * count + r];
                std::int32_t sum = 0;
                for (std::size_t s = (begin + run - 1) / run; s * run < end; ++s)
                    sum += x.sums[m * x.sum_groups + s * count + r];
                sums[at + r] = sum;
                scaled_sums[at + r] = static_cast<float>(sum) * scales[at + r];
            }
            at += amx_rows;
        });
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
