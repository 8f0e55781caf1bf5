// How the numbers of a tile of y lie in registers of sums (Lanes), for int8.hpp:
//
//   Lanes::rows == 1    one row of x, Lanes::channels channels: a broadcast of the row's activations meets all of them
//   Lanes::rows == 2    two rows x two channels, as products of matrices have them
//
// What belongs to rows or to channels alone is repeated accordingly.
#pragma once

#include "kernels/tile16/rows.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Register c of a row of `count` numbers; where a register holds several rows, the same numbers for each.
template <class Lanes>
typename Lanes::Floats load_some(const float* p, int c, std::size_t count) {
    const std::size_t first = static_cast<std::size_t>(c) * Lanes::channels;
    if (Lanes::rows == 1 && count >= first + Lanes::channels) return Lanes::load(p + first);
    return count > first ? Lanes::load_part(p + first, count - first) : Lanes::zero();
}
template <class Lanes>
void store_some(float* p, int c, std::size_t count, typename Lanes::Floats v) {
    const std::size_t first = static_cast<std::size_t>(c) * Lanes::channels;
    if (Lanes::rows == 1 && count >= first + Lanes::channels) return Lanes::store(p + first, v);
    if (count > first) Lanes::store_part(p + first, count - first, v);
}

/// Register c of `rows` rows (at most Lanes::rows) of y.
template <class Lanes>
[[gnu::always_inline]] inline typename Lanes::Floats load_rows(const float* y, std::size_t stride, int rows,
                                                               int c, std::size_t count) {
    const auto first = load_some<Lanes>(y, c, count);
    if constexpr (Lanes::rows == 2)
        if (rows == 2) return Lanes::join(first, load_some<Lanes>(y + stride, c, count));
    return first;
}
template <class Lanes>
[[gnu::always_inline]] inline void store_rows(float* y, std::size_t stride, int rows, int c,
                                              std::size_t count, typename Lanes::Floats v) {
    store_some<Lanes>(y, c, count, v);
    if constexpr (Lanes::rows == 2)
        if (rows == 2) store_some<Lanes>(y + stride, c, count, Lanes::second_row(v));
}

/// A number of each row of a register, from consecutive ones. (Rows that are not there get what follows.)
template <class Lanes>
[[gnu::always_inline]] inline typename Lanes::Ints ints_of_rows(const std::int32_t* p) {
    if constexpr (Lanes::rows == 1)
        return Lanes::set_int(*p);
    else
        return Lanes::ints_of_rows(p);
}
template <class Lanes>
[[gnu::always_inline]] inline typename Lanes::Floats floats_of_rows(const float* p) {
    if constexpr (Lanes::rows == 1)
        return Lanes::set(*p);
    else
        return Lanes::floats_of_rows(p);
}

/// Registers of sums for `Count` rows.
template <class Lanes, int Count>
constexpr int row_registers = (Count + Lanes::rows - 1) / Lanes::rows;

/// What Lanes::dot() takes of x, or of a half of it, for register r of the rows: product `i` from k on.
template <class Lanes, int Count>
[[gnu::always_inline]] inline auto operand_of_x(const RowsOf<Lanes, Count>& x, int r, std::size_t k, int i,
                                                int half) {
    if constexpr (Lanes::x_quads == 1) {
        const auto* const codes = x.codes(r * Lanes::rows, k + static_cast<std::size_t>(i * Lanes::depth));
        if constexpr (Lanes::halves == 1)
            return Lanes::quad(codes);
        else
            return Lanes::quad(codes, half);
    } else {  // fours of several rows are loaded together, and dot() takes one of them
        const int place = x.place(r, i), first = r - r % static_cast<int>(activation_tile_rows);
        return Lanes::quad(x.codes(first, k) + place / Lanes::x_quads * Lanes::register_bytes,
                           place % Lanes::x_quads);
    }
}

/// A tile of y, rows [m, m + Count) x channels, as registers: r of its rows, c of its channels. The channels of a tile of
/// weights begin at n, those of the one beside it `across` further.
template <class Lanes, int Count>
class TileOfY {
public:
    TileOfY(const KernelCall& call, std::size_t m, std::size_t n, std::size_t across)
        : y_(call.y.values + m * call.y.stride_elements + n),
          bias_(call.y.bias + (call.y.bias == nullptr ? 0 : n)),
          stride_(call.y.stride_elements),
          across_(across),
          channels_(call.w.n - n) {}

    [[nodiscard]] typename Lanes::Floats load(int r, int c) const {
        return load_rows<Lanes>(row(r) + first(c), stride_, rows(r), c % Lanes::registers, count(c));
    }
    void store(int r, int c, typename Lanes::Floats v) const {
        store_rows<Lanes>(row(r) + first(c), stride_, rows(r), c % Lanes::registers, count(c), v);
    }
    [[nodiscard]] typename Lanes::Floats bias(int c) const {
        return load_some<Lanes>(bias_ + first(c), c % Lanes::registers, count(c));
    }

private:
    [[nodiscard]] float* row(int r) const { return y_ + static_cast<std::size_t>(r * Lanes::rows) * stride_; }
    static int rows(int r) { return Count - r * Lanes::rows < Lanes::rows ? 1 : Lanes::rows; }
    [[nodiscard]] std::size_t first(int c) const {
        return static_cast<std::size_t>(c / Lanes::registers) * across_;
    }
    [[nodiscard]] std::size_t count(int c) const {
        return channels_ > first(c) ? smaller(tile_channels, channels_ - first(c)) : 0;
    }

    float* y_;
    const float* bias_;
    std::size_t stride_, across_, channels_;
};

/// Int32 sums of a tile, perhaps in several parts: [part][register of rows][register of channels].
template <class Lanes, int Parts, int Count, int Registers>
using Sums = typename Lanes::Ints[Parts][row_registers<Lanes, Count>][Registers];

}  // namespace
}  // namespace fewbit::inline v0::kernels
