// Rows of int8 activations as tiles of kernels read them, and the pieces of K between two scales.
#pragma once

#include <cstring>

#include "kernels/tile16/constants.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Where `Count` rows of x stand, from row m on: whole tiles of activation_tile_rows, then perhaps the last one, which
/// has fewer; `Run` elements of each row side by side (drawn in fewbit/matmul/contract.hpp).
template <int Count, int Run, class Code = std::int8_t>
class Rows {
public:
    static constexpr int tile = static_cast<int>(activation_tile_rows);

    Rows(const ActivationsView& x, std::size_t m)
        : Rows(x, m, static_cast<const std::int8_t*>(x.values) + m * x.stride_elements) {}
    /// With the codes of row m, and those after it in its tile, at `codes`.
    Rows(const ActivationsView& x, std::size_t m, const Code* codes)
        : codes_(codes),
          scales_(x.scales + m * x.groups),
          code_step_(activation_tile_rows * x.stride_elements),
          scale_step_(activation_tile_rows * x.groups) {}

    /// Rows of tile t.
    static constexpr int size(int t) { return t < Count / tile ? tile : Count % tile; }

    /// `Run` activations of row r from k on, k a multiple of Run.
    [[nodiscard]] const Code* codes(int r, std::size_t k) const {
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
    const Code* codes_;
    const float* scales_;
    std::size_t code_step_, scale_step_;
};

template <class Lanes, int Count>
using RowsOf = Rows<Count, Lanes::run, typename Lanes::X>;

/// Where the parameters of a group stand, as its source counts; in the stream, of its super-block too.
struct ParametersPlace {
    std::uint32_t group = 0, super = 0;
};

/// A part of K that crosses neither a group of weights nor one of activations: its products are added as integers. It
/// begins where a sum of activations does, and ends where the next one begins.
struct Piece {
    std::uint32_t begin;  ///< of K
    std::uint32_t codes;  ///< where a source of weights has its codes, in bytes
    ParametersPlace parameters;
    std::uint32_t x_group;
};

/// Pieces of `elements` of K at most, and one that marks the end.
constexpr std::size_t most_pieces(const KernelCall& call, std::size_t elements) {
    return elements / smaller(call.w.group_elements, call.x.group_elements) + 3;  // both ends may cut one
}

/// The pieces of [k, limit), and one behind them that begins at limit; returns how many without it. `places`: of the
/// source, parameters(group) and codes(parameters, group, k).
template <class Places>
std::size_t find_pieces(const KernelCall& call, const Places& places, std::size_t k, std::size_t limit,
                        Piece* pieces) {
    const auto narrow = [](std::size_t v) { return static_cast<std::uint32_t>(v); };
    // Counted on, because every task finds all of them, and divisions for each would take as long as some tiles.
    const std::size_t w_elements = call.w.group_elements, x_elements = call.x.group_elements;
    std::size_t group = k / w_elements, x_group = k / x_elements, count = 0;
    std::size_t group_end = (group + 1) * w_elements, x_end = (x_group + 1) * x_elements;
    ParametersPlace parameters = places.parameters(group);
    while (k < limit) {
        pieces[count++] = {narrow(k), narrow(places.codes(parameters, group, k)), parameters,
                           narrow(x_group)};
        k = smaller(limit, smaller(group_end, x_end));
        if (k == x_end) {
            ++x_group;
            x_end += x_elements;
        }
        if (k == group_end && k < limit) {
            parameters = places.parameters(++group);
            group_end += w_elements;
        }
    }
    pieces[count] = {narrow(limit), 0, {}, 0};
    return count;
}

/// What a tile of rows needs for each piece, prepared beside the products: numbers of all rows side by side, which are
/// broadcast from memory, [piece][row].
struct Corrections {
    std::int32_t* starts;  ///< -zero * sum of the activations; without the zero where groups have their own
    float* scales;         ///< of the activations, where they are not left to the end
    float* sums;  ///< with offsets: sum of the activations, with their scale where it is not left to the end
    std::int32_t* pairs;  ///< with two levels: sums of two pieces, 16 bits each, [piece / 2][row]
};

/// How sums of activations meet offsets.
enum class OffsetSums { scaled, plain, pairs };

/// The memory of a call, handed out in parts aligned to 64 bytes; without memory it only counts.
class ScratchMemory {
public:
    explicit ScratchMemory(std::byte* memory) : memory_(memory) {}
    template <class T>
    [[nodiscard]] T* take(std::size_t count) {
        std::byte* const at = memory_ == nullptr ? nullptr : memory_ + bytes_;
        bytes_ += (count * sizeof(T) + 63) / 64 * 64;
        return reinterpret_cast<T*>(at);
    }
    /// For `count` pieces of `rows` rows.
    [[nodiscard]] Corrections take_corrections(std::size_t count, std::size_t rows) {
        auto* const starts = take<std::int32_t>(count * rows);
        auto* const scales = take<float>(count * rows);
        auto* const sums = take<float>(count * rows);
        return {starts, scales, sums, take<std::int32_t>((count + 1) / 2 * rows)};
    }
    [[nodiscard]] std::size_t bytes() const { return bytes_; }

private:
    std::byte* memory_;
    std::size_t bytes_ = 0;
};

/// Those of rows [m, m + rows). `zero`: of the weights' codes. `scaled`: scales are not left to the end.
inline void correct(const KernelCall& call, const Piece* pieces, std::size_t count, std::size_t m,
                    std::size_t rows, std::int32_t zero, bool scaled, OffsetSums offset_sums,
                    const Corrections& out) {
    const ActivationsView& x = call.x;
    const std::size_t run = x.sum_group_elements, first_run = pieces[0].begin / run;
    const bool runs_are_pieces = run == smaller(call.w.group_elements, x.group_elements);
    for (std::size_t first = 0; first < rows; first += activation_tile_rows) {
        const std::size_t size = smaller(activation_tile_rows, rows - first);
        const std::int32_t* sums = x.sums + (m + first) * x.sum_groups + first_run * size;
        const float* const scales = x.scales + (m + first) * x.groups;
        if (rows == size && runs_are_pieces) {  // one run of numbers, as most panels have
            std::memcpy(out.starts, sums, count * size * sizeof(std::int32_t));
        } else {
            for (std::size_t p = 0; p < count; ++p) {
                std::int32_t* const sum = out.starts + p * rows + first;
                for (std::size_t r = 0; r < size; ++r) sum[r] = 0;
                for (std::size_t k = pieces[p].begin; k < pieces[p + 1].begin; k += run, sums += size)
                    for (std::size_t r = 0; r < size; ++r) sum[r] += sums[r];
            }
        }
        if (scaled && rows == size && x.group_elements == run) {
            std::memcpy(out.scales, scales + first_run * size, count * size * sizeof(float));
        } else if (scaled) {
            for (std::size_t p = 0; p < count; ++p)
                for (std::size_t r = 0; r < size; ++r)
                    out.scales[p * rows + first + r] = scales[pieces[p].x_group * size + r];
        }
    }
    if (offset_sums == OffsetSums::pairs) {
        for (std::size_t i = 0; i < count / 2 * rows; ++i) {
            const std::int32_t* const sum = out.starts + i + i / rows * rows;
            out.pairs[i] = static_cast<std::int32_t>((static_cast<std::uint32_t>(sum[0]) & 0xFFFF) |
                                                     static_cast<std::uint32_t>(sum[rows]) << 16);
        }
    } else if (call.w.has_offsets) {
        const bool sums_scaled = scaled && offset_sums == OffsetSums::scaled;
        for (std::size_t i = 0; i < count * rows; ++i)
            out.sums[i] = static_cast<float>(out.starts[i]) * (sums_scaled ? out.scales[i] : 1.0f);
    }
    const std::int32_t factor = call.w.has_zeros ? -1 : -zero;
    for (std::size_t i = 0; i < count * rows; ++i) out.starts[i] *= factor;
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
