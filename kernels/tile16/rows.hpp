// Rows of int8 activations as tiles of kernels read them, and the pieces of K between two scales.
#pragma once

#include "kernels/tile16/constants.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Where `Count` rows of x stand, from row m on: whole tiles of activation_tile_rows, then perhaps the last one, which
/// has fewer; `Run` elements of each row side by side (drawn in fewbit/matmul/contract.hpp).
template <int Count, int Run>
class Rows {
public:
    static constexpr int tile = static_cast<int>(activation_tile_rows);
    static constexpr int tiles = (Count + tile - 1) / tile;

    Rows(const ActivationsView& x, std::size_t m)
        : codes_(static_cast<const std::int8_t*>(x.values) + m * x.stride_elements),
          scales_(x.scales + m * x.groups),
          code_step_(activation_tile_rows * x.stride_elements),
          scale_step_(activation_tile_rows * x.groups) {}

    /// Rows of tile t.
    static constexpr int size(int t) { return t < Count / tile ? tile : Count % tile; }

    /// `Run` activations of row r from k on, k a multiple of Run.
    [[nodiscard]] const std::int8_t* codes(int r, std::size_t k) const {
        return codes_ + at(r / tile) * code_step_ + k * at(size(r / tile)) + at(Run * (r % tile));
    }
    /// How many fours of activations stand between the start of row r's tile at a multiple of Run and four of row r,
    /// `quad` x 4 elements later.
    static constexpr int place(int r, int quad) {
        constexpr int quads = Run / 4;
        return (quad / quads * size(r / tile) + r % tile) * quads + quad % quads;
    }
    /// Scales of row r and those after it in its tile.
    [[nodiscard]] const float* scales(int r, std::size_t group) const {
        return scales_ + at(r / tile) * scale_step_ + group * at(size(r / tile)) + at(r % tile);
    }

private:
    static constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }
    const std::int8_t* codes_;
    const float* scales_;
    std::size_t code_step_, scale_step_;
};

/// A run of K that crosses neither a group of weights nor one of activations: its products are added as integers.
struct Piece {
    std::uint32_t begin, end;  ///< of K
    std::uint32_t group, x_group;
    std::uint32_t sum;    ///< which of the sums of activations
    std::uint32_t whole;  ///< 0: begins before `begin`, where its sum was counted
};

constexpr std::size_t most_pieces(const KernelCall& call, std::size_t elements) {
    return elements / call.x.sum_group_elements + 2;  // both ends may cut one
}

/// The pieces of [k, limit); returns how many.
inline std::size_t find_pieces(const KernelCall& call, std::size_t k, std::size_t limit, Piece* pieces) {
    const std::size_t w_group = call.w.group_elements, x_group = call.x.group_elements,
                      run = call.x.sum_group_elements;
    std::size_t count = 0;
    while (k < limit) {
        const std::size_t sum = k / run, end = smaller(limit, (sum + 1) * run);
        const auto narrow = [](std::size_t v) { return static_cast<std::uint32_t>(v); };
        pieces[count++] = {narrow(k),           narrow(end), narrow(k / w_group),
                           narrow(k / x_group), narrow(sum), k == sum * run ? 1u : 0u};
        k = end;
    }
    return count;
}

/// What a tile of rows needs for each piece, prepared beside the products: numbers of all rows side by side, which are
/// broadcast from memory.
struct Corrections {
    std::int32_t*
        starts;  ///< [piece][row] -zero * sum of the activations; without the zero where groups have their own
    float* sums;  ///< [piece][row] scale of the activations (where not left to the end) * sum, with offsets
};

/// Those of rows [m, m + rows). `zero`: of the weights' codes. `scaled`: sums with the scales of the activations.
inline void correct(const KernelCall& call, const Piece* pieces, std::size_t count, std::size_t m,
                    std::size_t rows, std::int32_t zero, bool scaled, const Corrections& out) {
    const ActivationsView& x = call.x;
    const std::int32_t factor = call.w.has_zeros ? -1 : -zero;
    for (std::size_t first = 0; first < rows; first += activation_tile_rows) {
        const std::size_t size = smaller(activation_tile_rows, rows - first);
        const std::int32_t* const sums = x.sums + (m + first) * x.sum_groups + pieces[0].sum * size;
        const float* const scales = x.scales + (m + first) * x.groups;
        if (rows == size) {  // one run of numbers, as it is for panels
            for (std::size_t i = 0; i < count * size; ++i) out.starts[i] = factor * sums[i];
        } else {
            for (std::size_t p = 0; p < count; ++p)
                for (std::size_t r = 0; r < size; ++r)
                    out.starts[p * rows + first + r] = factor * sums[p * size + r];
        }
        if (call.w.has_offsets)
            for (std::size_t p = 0; p < count; ++p)
                for (std::size_t r = 0; r < size; ++r)
                    out.sums[p * rows + first + r] = static_cast<float>(sums[p * size + r]) *
                                                     (scaled ? scales[pieces[p].x_group * size + r] : 1.0f);
    }
    if (pieces[0].whole != 0) return;
    for (std::size_t r = 0; r < rows; ++r) out.starts[r] = 0;
    if (call.w.has_offsets)
        for (std::size_t r = 0; r < rows; ++r) out.sums[r] = 0;
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
