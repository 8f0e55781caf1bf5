// The products of a piece, what two scales share: steps of codes times some rows of x, into sums of 32 bits, through sums of 16
// bits where an instruction set has those (Lanes::narrow_quads). For int8_tile.hpp.
#pragma once

#include <cstdint>

#include "kernels/tile16/panel_source.hpp"
#include "kernels/tile16/registers.hpp"
#include "kernels/tile16/rows.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Whether codes are unpacked and halved, as those of panels are.
template <class Codes>
constexpr bool is_unpacked = false;
template <class Lanes>
constexpr bool is_unpacked<PanelField<Lanes>> = true;

/// Bytes of a step, of a panel with `Registers` registers of channels.
template <class Lanes, class Codes, int Registers>
constexpr std::size_t bytes_of_step =
    is_unpacked<Codes> ? static_cast<std::size_t>(panel_code_bytes<Lanes>* Registers) * Lanes::register_bytes
                       : Codes::Steps::step_bytes;

/// Bytes between what a tile of several rows reads of its stream and what it asks for. With few rows the CPU fetches ahead
/// best by itself; with more it falls behind.
constexpr std::size_t stream_ahead = 8192;
template <class Lanes, class Codes, int Count>
constexpr bool fetches_stream =
    !is_unpacked<Codes> && Count >= (Lanes::narrow_quads != 0 || multiplies_words<Lanes> ? 2
                                     : Codes::quads == 2                                 ? 3
                                                                                         : 5);

/// The CPU stops fetching ahead where a page ends, and with one row or two is not far ahead: a line now and then leads it on.
/// (Every line would be in its way. So is this with scales of two levels, or of groups of 16.)
template <class Lanes>
[[gnu::always_inline]] inline void hint_stream(const std::uint8_t* begin, const std::uint8_t* end) {
    constexpr std::size_t ahead = 24 * 1024, every = 2048;
    const auto a = reinterpret_cast<std::uintptr_t>(begin), b = reinterpret_cast<std::uintptr_t>(end);
    if ((a ^ b) >= every) Lanes::fetch_ahead(begin + ahead);
}

/// Sums of 16 bits as they are.
template <class Lanes>
struct Widen {
    typename Lanes::Ints operator()(typename Lanes::Narrow sum, int half, int) const {
        return Lanes::widen(sum, half);
    }
};

/// `Count` of rows times `Steps` steps of codes of each tile of channels, from k on: quads of K (or what a product takes)
/// go to parts 0, 1, ... in turn. Codes of the tiles of a stream stand `apart` bytes from each other. Sums of 16 bits become
/// widen(sum, half of x, register of channels).
template <class Lanes, class Codes, int Tiles, int Steps, int Parts, int Count>
[[gnu::always_inline]] inline void add_steps(const Codes& field, const std::uint8_t* codes, std::size_t apart,
                                             const RowsOf<Lanes, Count>& x, std::size_t k, const auto& widen,
                                             Sums<Lanes, Parts, Count, Tiles * Lanes::registers>& sums) {
    constexpr int all = Tiles * Lanes::registers, R = row_registers<Lanes, Count>;
    // Sums of 16 bits of one tile after the other, and of both halves of x if rows are few, or registers would not suffice.
    constexpr bool is_narrow = Lanes::narrow_quads != 0 && !is_unpacked<Codes>;
    constexpr int C = is_narrow ? Lanes::registers : all, H = is_narrow && R <= 2 ? Lanes::halves : 1;
    constexpr int quads = Codes::Steps::vectors * Codes::quads;
    constexpr int step_bytes = static_cast<int>(bytes_of_step<Lanes, Codes, all>);
#pragma GCC unroll 2
    for (int half = 0; half < Lanes::halves; half += H) {
        if (half != 0)
            __asm__("" : "+r"(k));  // or activations would be kept from the first half, in too few registers
        for_each<all / C>([&](auto group) __attribute__((always_inline)) {
            constexpr int begin = group * C;
            [[maybe_unused]] typename Lanes::Narrow narrow[H][R][C];
#pragma GCC unroll 8
            for (int s = 0; s < Steps; ++s) {
                const std::uint8_t* const from = codes + s * step_bytes;
                if constexpr (Tiles == 1 && begin == 0 && fetches_stream<Lanes, Codes, Count>)
#pragma GCC unroll 4
                    for (int line = 0; line < step_bytes; line += static_cast<int>(vector_bytes))
                        Lanes::fetch_ahead(from + stream_ahead + line);
                if (!is_unpacked<Codes> && Tiles > 1 && begin == 0 && half == 0)
#pragma GCC unroll 4
                    for (int t = 0; t < Tiles; ++t)
#pragma GCC unroll 4
                        for (int line = 0; line < step_bytes; line += static_cast<int>(vector_bytes))
                            Lanes::fetch(from + static_cast<std::size_t>(t) * apart + 1024 + line);
                typename Codes::Steps::Step step[C];
#pragma GCC unroll 16
                for (int i = 0; i < C; ++i) {
                    const int c = begin + i;
                    if constexpr (is_unpacked<Codes>)
                        step[i] = Codes::Steps::read(from, c, Lanes::load_bytes);
                    else
                        step[i] =
                            Codes::Steps::read(from + static_cast<std::size_t>(c / Lanes::registers) * apart,
                                               c % Lanes::registers, Lanes::load_in_order);
                }
                for_each<quads>([&](auto number) __attribute__((always_inline)) {
                    constexpr int v = number / Codes::quads, q = number % Codes::quads;
                    const int quad = s * quads + number;
                    typename Codes::Operand w[C];
#pragma GCC unroll 16
                    for (int c = 0; c < C; ++c) {
                        if constexpr (is_unpacked<Codes>)
                            w[c] = step[c];
                        else
                            w[c] = field.quad(Codes::Steps::template vector<v>(step[c]), q);
                    }
#pragma GCC unroll 2
                    for (int h = 0; h < H; ++h)
#pragma GCC unroll 16
                        for (int r = 0; r < R; ++r) {
                            const auto a = operand_of_x<Lanes>(x, r, k, quad, half + h);
#pragma GCC unroll 16
                            for (int c = 0; c < C; ++c) {
                                auto& sum = sums[quad % Parts][r][begin + c];
                                if constexpr (Lanes::narrow_quads == 0) {
                                    sum = Lanes::dot(sum, w[c], a);
                                } else {
                                    const auto products = Lanes::products(w[c], a);
                                    auto& before = narrow[h][r][c];
                                    before = quad % Lanes::narrow_quads == 0
                                                 ? products
                                                 : Lanes::add_narrow(before, products);
                                    if ((quad + 1) % Lanes::narrow_quads == 0 || quad + 1 == Steps * quads)
                                        sum = Lanes::add(sum, widen(before, half + h, begin + c));
                                }
                            }
                        }
                });
            }
        });
    }
}

/// Adds the products of [k, end) at `codes` with the rows of x to the sums: `Unit`, 32 or 16, times one where it `IsOne`, or
/// any number; Unit 0: any.
template <class Lanes, class Codes, int Tiles, int Count, int Unit, bool IsOne>
[[gnu::always_inline]] inline void add_products(const Codes& field, const std::uint8_t* codes,
                                                std::size_t apart, const RowsOf<Lanes, Count>& x,
                                                std::size_t k, std::size_t end, Ahead& ahead,
                                                const auto& widen,
                                                Sums<Lanes, 1, Count, Tiles * Lanes::registers>& sums) {
    // Too few sums do not hide the latency of their instruction: each gets several parts.
    constexpr int C = Tiles * Lanes::registers, R = row_registers<Lanes, Count>, chains = R * C;
    constexpr int parts = chains >= Lanes::chains ? 1 : 2 * chains >= Lanes::chains ? 2 : 4;
    constexpr std::size_t step = Codes::Steps::step_elements, step_bytes = bytes_of_step<Lanes, Codes, C>;
    constexpr int unrolled = (Unit != 0 ? Unit : static_cast<int>(fetch_steps)) / static_cast<int>(step);
    constexpr int run = Lanes::run > step ? Lanes::run / step : 1;  // steps that begin where runs of x do
    Sums<Lanes, parts, Count, C> part;
#pragma GCC unroll 16
    for (int p = 0; p < parts; ++p)
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) part[p][r][c] = p == 0 ? sums[0][r][c] : Lanes::zero_ints();
    if constexpr (Unit != 0) {
        do {
            if constexpr (is_unpacked<Codes>) ahead.fetch<Lanes>();
            add_steps<Lanes, Codes, Tiles, unrolled, parts, Count>(field, codes, apart, x, k, widen, part);
            k += unrolled * step;
            codes += unrolled * step_bytes;
        } while (!IsOne && k != end);
    } else {
        if constexpr (step < step_overhang || Lanes::narrow_quads != 0)  // else one has enough to do
            for (; k + unrolled * step <= end; k += unrolled * step, codes += unrolled * step_bytes)
                add_steps<Lanes, Codes, Tiles, unrolled, parts, Count>(field, codes, apart, x, k, widen,
                                                                       part);
        if constexpr (run > 1)
            for (; k + (run - 1) * step < end; k += run * step, codes += run * step_bytes)
                add_steps<Lanes, Codes, Tiles, run, parts, Count>(field, codes, apart, x, k, widen, part);
        for (; k < end; k += step, codes += step_bytes)
            add_steps<Lanes, Codes, Tiles, 1, parts, Count>(field, codes, apart, x, k, widen, part);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) {
            sums[0][r][c] = part[0][r][c];
            for (int p = 1; p < parts; ++p) sums[0][r][c] = Lanes::add(sums[0][r][c], part[p][r][c]);
        }
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
