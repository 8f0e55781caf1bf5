// A tile of int8 activations times weights with scales of two levels, over registers whose sums of 16 bits are multiplied as
// they are widened anyway (Lanes::scales_ints): by the lower scales, which makes them cost next to nothing.
//
//   sums   = sum over groups of (lower scale) * (sum of u * a in 16 bits)              vpmaddwd
//   sums  -= zero * sum over pairs of groups of (lower scales) . (sums of a)            vpmaddwd
//   y     += (sums * (upper scale) + offsets * (upper offset)) * (scale of a group of x)
//
// Sums are exact: 256 of K, codes up to 63, |a| and |lower scale| up to 128 stay below 2^31.
#pragma once

#include "kernels/tile16/int8_tile.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Rows [m, m + Count) x the channels of `source`, from n on, over all of K. Groups of W have `Group` elements.
template <class Lanes, class Source, int Count, int Group>
void multiply_two_levels_as(const KernelCall& call, const Source& source, const Chunk& chunk, std::size_t m,
                            std::size_t n) {
    constexpr int C = Source::tiles * Lanes::registers;
    using Codes = typename Source::Codes;
    const RowsOf<Lanes, Count> x = rows_of_x<Lanes, Count>(call.x, chunk, m);
    const std::size_t nest = call.x.group_elements / Group;
    const std::int32_t zero = source.middle();
    const auto pairs_of = [&](std::size_t p) { return chunk.corrections.pairs + p / 2 * Count; };
    Ahead ahead;
    Totals<Lanes, Count, C> all;
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) all[r][c] = Lanes::zero();
    for (std::size_t begin = 0; begin < chunk.count; begin += nest) {
        const std::size_t end = smaller(chunk.count, begin + nest);
        Sums<Lanes, 1, Count, C> sums;
#pragma GCC unroll 16
        for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) {
                sums[0][r][c] = Lanes::zero_ints();
                __asm__("" : "+m"(all[r][c]));  // wait in memory
            }
        for (std::size_t p = begin; p < end; ++p) {
            const Piece& piece = chunk.pieces[p];
            if constexpr (Source::tiles == 1 && fetches_stream<Lanes, Codes, Count>)
                source.each_line_of(piece.parameters, piece.codes, [](const std::uint8_t* line) {
                    Lanes::fetch_ahead(line + stream_ahead);
                });
            typename Lanes::Ints factors[C];
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c)
                factors[c] = source.lower_scales(piece.parameters, piece.parameters, c);
            add_products<Lanes, Codes, Source::tiles, Count, Group, true>(
                source.field(), source.codes(piece.codes), source.apart(), x, piece.begin,
                chunk.pieces[p + 1].begin, ahead,
                [&](auto narrow, int, int c) { return Lanes::widen(narrow, factors[c]); }, sums);
        }
        if (zero != 0) {  // behind the products, or the stream would be read out of its order
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) {
                typename Lanes::Ints zeros[Count];
#pragma GCC unroll 16
                for (int r = 0; r < Count; ++r) zeros[r] = Lanes::zero_ints();
                for (std::size_t p = begin; p < end; p += 2) {
                    const auto lower =
                        source.lower_scales(chunk.pieces[p].parameters, chunk.pieces[p + 1].parameters, c);
#pragma GCC unroll 16
                    for (int r = 0; r < Count; ++r)
                        zeros[r] = Lanes::dot_pairs(zeros[r], lower, Lanes::set_int(pairs_of(p)[r]));
                }
#pragma GCC unroll 16
                for (int r = 0; r < Count; ++r)
                    sums[0][r][c] =
                        Lanes::add(sums[0][r][c], Lanes::multiply_ints(zeros[r], Lanes::set_int(-zero)));
            }
        }
        Totals<Lanes, Count, C> totals;
#pragma GCC unroll 16
        for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) totals[r][c] = Lanes::to_floats(sums[0][r][c]);
        add_nest<Lanes, Source, Count>(source, chunk, begin, end, true, call.w.has_offsets, totals, all);
    }
    const TileOfY<Lanes, Count> y(call, m, n, source.across());
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c)
            y.store(r, c, call.y.bias == nullptr ? all[r][c] : Lanes::add(all[r][c], y.bias(c)));
}

/// multiply_tile(), from the stream.
template <class Lanes, class Source, int Count>
void multiply_stream_tile(const KernelCall& call, const Source& source, Scaling how, const Chunk& chunk,
                          std::size_t m, std::size_t n) {
    // One row knows of its scales when it is compiled; groups have 16 or 32 elements (is_nested()).
    if constexpr (Lanes::scales_ints && Source::known == (Count == 1 ? Scales::two_levels : Scales::any))
        if (how == Scaling::nested) {
            if (call.w.group_elements == 32)
                return multiply_two_levels_as<Lanes, Source, Count, 32>(call, source, chunk, m, n);
            return multiply_two_levels_as<Lanes, Source, Count, 16>(call, source, chunk, m, n);
        }
    multiply_tile<Lanes, Source, Count>(call, source, how, chunk, m, n);
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
