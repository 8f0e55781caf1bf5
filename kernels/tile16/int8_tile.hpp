// A tile of int8 activations times tile16: some rows x some registers of channels, over a part of K. Templates over the
// registers of an instruction set (Lanes), over where weights are (Source: stream.hpp, panel_source.hpp) and over how codes
// lie in them (Field); README.md of this folder has the arithmetic and the bounds.
//
// sum_k (u - z) a = sum_k u a - z sum_k a: sums start at -z times the sum of the activations, so that zero points cost
// nothing. Products between two scales ("a piece") are exact; pieces are added in ascending order in f32, whatever the
// tile, so that no cut of the work changes a bit.
//
// All of it has internal linkage, because Lanes and Field lie in the unnamed namespace of a kernel file.
#pragma once

#include "kernels/tile16/int8_piece.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// What sums are multiplied by: the scale of the weights' group, that of the activations, or both. One that is the same for
/// all of K is left to the end; `nested`, that of the activations to the end of their group, which is groups of the weights;
/// with scales of two levels the upper one too.
enum class Scaling { weights, activations, both, nested };
template <class How, Scaling What>
constexpr bool is_known = false;
template <Scaling What>
constexpr bool is_known<Constant<What>, What> = true;

/// The part of K that is multiplied at a time.
struct Chunk {
    const Piece* pieces;
    std::size_t count;
    Corrections corrections;  ///< of the rows at hand
    bool first, last;
    int unit;       ///< of which all pieces are multiples: 32, 16 or 0, any
    Ahead ahead{};  ///< for the tile at hand
    const std::int16_t* words =
        nullptr;  ///< of the rows at hand, as if from the beginning of K, for Lanes that take such
};

template <class Lanes, int Count>
RowsOf<Lanes, Count> rows_of_x(const ActivationsView& x, const Chunk& chunk, std::size_t m) {
    if constexpr (widens_x<Lanes>)
        return {x, m, chunk.words};
    else
        return {x, m};
}

/// The chunk [k, end), in `pieces` and with `corrections`, memory for as many as there are.
template <class Places>
Chunk make_chunk(const KernelCall& call, const Places& places, std::size_t k, std::size_t end, Piece* pieces,
                 const Corrections& corrections) {
    const std::size_t count = find_pieces(call, places, k, end, pieces);
    std::uint32_t lengths = 0;  // bits of any
    for (std::size_t p = 0; p < count; ++p) lengths |= pieces[p + 1].begin - pieces[p].begin;
    return {pieces, count,           corrections,
            k == 0, end == call.w.k, lengths % 32 == 0 ? 32 : lengths % 16 == 0 ? 16 : 0};
}

template <class Lanes, int Count, int Registers>
using Totals = typename Lanes::Floats[row_registers<Lanes, Count>][Registers];

/// before += (what pieces [begin, end), a group of activations, still lack) * sums of the pieces.
template <class Lanes, class Source, int Count>
[[gnu::always_inline]] inline void add_nest(
    const Source& source, const Chunk& chunk, std::size_t begin, std::size_t end, bool two_levels,
    bool has_offsets, const Totals<Lanes, Count, Source::tiles * Lanes::registers>& sums,
    Totals<Lanes, Count, Source::tiles * Lanes::registers>& before) {
    constexpr int C = Source::tiles * Lanes::registers;
    Sums<Lanes, 1, Count, C> offsets;
    if (two_levels && has_offsets) {
#pragma GCC unroll 16
        for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) offsets[0][r][c] = Lanes::zero_ints();
        for (std::size_t p = begin; p < end; p += 2) {
            const Piece* const pair = chunk.pieces + p;
            const std::int32_t* const x = chunk.corrections.pairs + p / 2 * Count;
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) {
                const auto lower = source.lower_offsets(pair[0].parameters, pair[1].parameters, c);
#pragma GCC unroll 16
                for (int r = 0; r < Count; ++r)
                    offsets[0][r][c] = Lanes::dot_pairs(offsets[0][r][c], lower, Lanes::set_int(x[r]));
            }
        }
    }
    const ParametersPlace place = chunk.pieces[begin].parameters;
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
        const auto scale = two_levels ? source.upper_scale(place, c) : Lanes::zero();
        const auto offset = two_levels && has_offsets ? source.upper_offset(place, c) : Lanes::zero();
#pragma GCC unroll 16
        for (int r = 0; r < Count; ++r) {
            auto sum = sums[r][c];
            if (two_levels) sum = Lanes::multiply(sum, scale);
            if (two_levels && has_offsets)
                sum = Lanes::multiply_add(Lanes::to_floats(offsets[0][r][c]), offset, sum);
            before[r][c] = Lanes::multiply_add(
                sum, Lanes::set(chunk.corrections.scales[begin * Count + static_cast<std::size_t>(r)]),
                before[r][c]);
        }
    }
}
/// Apart, or what it needs would take registers from the products.
template <class Lanes, class Source, int Count>
[[gnu::noinline]] void add_nest_apart(const Source& source, const Chunk& chunk, std::size_t begin,
                                      std::size_t end, bool two_levels, bool has_offsets,
                                      const Totals<Lanes, Count, Source::tiles * Lanes::registers>& sums,
                                      Totals<Lanes, Count, Source::tiles * Lanes::registers>& before) {
    add_nest<Lanes, Source, Count>(source, chunk, begin, end, two_levels, has_offsets, sums, before);
}

/// Rows [m, m + Count) x the channels of `source`, from n on, over a chunk: y = (the first one ? 0 : y) + products; at
/// the end of K the last scale and the bias. `Unit`: of pieces. `How`: Scaling, `Plain`: bool, or Constants of them.
template <class Lanes, class Source, int Count, int Unit, class How, class Plain>
void multiply_tile_as(const KernelCall& call, const Source& source, How how, Plain plain, const Chunk& chunk,
                      std::size_t m, std::size_t n) {
    constexpr int C = Source::tiles * Lanes::registers, R = row_registers<Lanes, Count>;
    const WeightsView& w = call.w;
    const RowsOf<Lanes, Count> x = rows_of_x<Lanes, Count>(call.x, chunk, m);
    const TileOfY<Lanes, Count> y(call, m, n, source.across());
    const auto of_rows = [](auto* numbers, std::size_t p, int r) __attribute__((always_inline)) {
        return numbers + p * Count + static_cast<std::size_t>(r * Lanes::rows);
    };
    const auto x_scale = [&](std::size_t p, int r) __attribute__((always_inline)) {
        return floats_of_rows<Lanes>(of_rows(chunk.corrections.scales, p, r));
    };
    const bool has_zeros = !plain && w.has_zeros, has_offsets = !plain && w.has_offsets;

    Ahead ahead = chunk.ahead;
    constexpr bool may_nest = Lanes::nests && !Source::is_panel;
    constexpr bool nested_ones = is_known<How, Scaling::nested>;  // each piece is one Unit
    const bool nested = may_nest && how == Scaling::nested;
    const bool two_levels = nested && source.has_two_levels();
    const auto scale_of = [&](ParametersPlace at, int c) __attribute__((always_inline)) {
        if constexpr (may_nest)
            if (two_levels) return source.lower_scale(at, c);
        return source.scale(at, c);
    };
    // Nested, `total` is that of a group of activations, and those of the groups before wait in memory.
    typename Lanes::Floats total[R][C], before[R][C];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) {
            total[r][c] = chunk.first ? Lanes::zero() : y.load(r, c);
            if (nested) {
                before[r][c] = total[r][c];
                total[r][c] = Lanes::zero();
            }
        }
    const std::size_t nest = nested ? call.x.group_elements / w.group_elements : chunk.count;
    const std::size_t nests = nested ? (chunk.count + nest - 1) / nest : 1;
    for (std::size_t i = 0; i < nests; ++i) {
        const std::size_t p_end = nested ? smaller(chunk.count, (i + 1) * nest) : chunk.count;
        for (std::size_t p = i * nest; p < p_end; ++p) {
            const Piece& piece = chunk.pieces[p];
            Sums<Lanes, 1, Count, C> sums;
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
                for (int c = 0; c < C; ++c)
                    sums[0][r][c] = ints_of_rows<Lanes>(of_rows(chunk.corrections.starts, p, r));
            if (has_zeros)
#pragma GCC unroll 16
                for (int c = 0; c < C; ++c) {
                    const auto zero = source.zero(piece.parameters, c);
#pragma GCC unroll 16
                    for (int r = 0; r < R; ++r) sums[0][r][c] = Lanes::multiply_ints(zero, sums[0][r][c]);
                }
            if constexpr (!Lanes::holds_totals)
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
                    for (int c = 0; c < C; ++c) __asm__("" : "+m"(total[r][c]));  // wait in memory
            // Every line counts: waiting for the one with a group's scales alone cost a third of the speed.
            if constexpr (Source::tiles == 1 && fetches_stream<Lanes, typename Source::Codes, Count>)
                source.each_line_of(piece.parameters, piece.codes, [](const std::uint8_t* line) {
                    Lanes::fetch_ahead(line + stream_ahead);
                });
            else if constexpr (!Source::is_panel && Source::tiles == 1 &&
                               Source::known != Scales::two_levels && (Unit == 32 || Count > 1))
                hint_stream<Lanes>(source.codes(piece.codes), source.codes(chunk.pieces[p + 1].codes));
            add_products<Lanes, typename Source::Codes, Source::tiles, Count, Unit, nested_ones>(
                source.field(), source.codes(piece.codes), source.apart(), x, piece.begin,
                chunk.pieces[p + 1].begin, ahead, Widen<Lanes>{}, sums);

            const auto add_scaled = [&](auto factors_of_row) __attribute__((always_inline)) {
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r) {
                    const auto factor = factors_of_row(r);
#pragma GCC unroll 16
                    for (int c = 0; c < C; ++c)
                        total[r][c] =
                            Lanes::multiply_add(Lanes::to_floats(sums[0][r][c]), factor(c), total[r][c]);
                }
            };
            if (how == Scaling::activations) {
                add_scaled([&](int r) { return [scale = x_scale(p, r)](int) { return scale; }; });
            } else {
                typename Lanes::Floats scale[C];
#pragma GCC unroll 16
                for (int c = 0; c < C; ++c) scale[c] = scale_of(piece.parameters, c);
                if (how == Scaling::weights || nested)
                    add_scaled([&](int) { return [&](int c) { return scale[c]; }; });
                else
                    add_scaled([&](int r) {
                        return [&, of_x = x_scale(p, r)](int c) { return Lanes::multiply(scale[c], of_x); };
                    });
            }
            if (has_offsets && !two_levels)
#pragma GCC unroll 16
                for (int c = 0; c < C; ++c) {
                    const auto offset = source.offset(piece.parameters, c);
#pragma GCC unroll 16
                    for (int r = 0; r < R; ++r)
                        total[r][c] =
                            Lanes::multiply_add(floats_of_rows<Lanes>(of_rows(chunk.corrections.sums, p, r)),
                                                offset, total[r][c]);
                }
        }
        if constexpr (may_nest)
            if (nested) {
                if (Count < 4 || !two_levels) {
                    add_nest<Lanes, Source, Count>(source, chunk, i * nest, p_end, Count < 4 && two_levels,
                                                   has_offsets, total, before);
                } else {
                    typename Lanes::Floats sums[R][C];
#pragma GCC unroll 16
                    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
                        for (int c = 0; c < C; ++c) sums[r][c] = total[r][c];
                    add_nest_apart<Lanes, Source, Count>(source, chunk, i * nest, p_end, two_levels,
                                                         has_offsets, sums, before);
                }
#pragma GCC unroll 16
                for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
                    for (int c = 0; c < C; ++c) total[r][c] = Lanes::zero();
            }
    }
    const bool last = chunk.last;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) {
            if (nested) total[r][c] = before[r][c];
            if (last && how == Scaling::weights)
                total[r][c] =
                    Lanes::multiply(total[r][c], floats_of_rows<Lanes>(x.scales(r * Lanes::rows, 0)));
            if (last && how == Scaling::activations)
                total[r][c] = Lanes::multiply(total[r][c], source.scale({}, c));
            if (last && call.y.bias != nullptr) total[r][c] = Lanes::add(total[r][c], y.bias(c));
            y.store(r, c, total[r][c]);
        }
}

template <class Lanes, class Source, int Count>
void multiply_tile(const KernelCall& call, const Source& source, Scaling how, const Chunk& chunk,
                   std::size_t m, std::size_t n) {
    const auto run = [&](auto unit, auto as, auto plain) {
        multiply_tile_as<Lanes, Source, Count, unit>(call, source, as, plain, chunk, m, n);
    };
    const bool plain = !call.w.has_zeros && !call.w.has_offsets;
    constexpr Constant<32> even;
    constexpr Constant<16> half_even;
    constexpr Constant<0> any;
    constexpr Constant<true> yes;
    constexpr Constant<false> no;
    constexpr Constant<Scaling::weights> weights;
    constexpr Constant<Scaling::both> both;
    constexpr Constant<Scaling::nested> nested;
    if constexpr (!Source::is_panel && Lanes::nests &&
                  (Source::is_often(Count) || (Count == 1 && Source::known == Scales::two_levels)))
        if (how == Scaling::nested && call.w.group_elements == static_cast<unsigned>(chunk.unit))
            return chunk.unit == even ? run(even, nested, no) : run(half_even, nested, no);
    if constexpr (Source::is_often(Count)) {
        if (how == Scaling::both && chunk.unit == even)
            return plain ? run(even, both, yes) : run(even, both, no);
        if (how == Scaling::both && chunk.unit == half_even)
            return plain ? run(half_even, both, yes) : run(half_even, both, no);
        if constexpr (Source::is_panel)
            if (how == Scaling::weights && chunk.unit == even)
                return plain ? run(even, weights, yes) : run(even, weights, no);
    }
    if constexpr (!Source::is_panel && Count == 1) {  // with registers for all that is not known
        if constexpr (Source::known == Scales::halves)
            if (chunk.unit == even && how == Scaling::both && plain) return run(even, both, yes);
        if (chunk.unit == even) return run(even, how, plain);
        if constexpr (Source::known == Scales::two_levels)
            if (chunk.unit == half_even) return run(half_even, how, plain);
    }
    run(any, how, no);
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
