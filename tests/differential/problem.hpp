// One random product: format, activations, shape, and how its data and its surroundings are drawn. The same seed and
// number give the same product on every machine, whatever kernels it has.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "contract/cases.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/formats/activation_format.hpp"

namespace fewbit::testing {

/// Which codes a matrix holds.
enum class Pattern { uniform, highest, lowest, alternating, extreme_rows, single };
inline constexpr const char* pattern_names[] = {"any",          "all highest",  "all lowest",
                                                "high and low", "extreme rows", "one in a row"};

/// Where bytes lie between two guard pages: against the one behind, against the one before, or `offset` floats from it.
enum class Place { end, start, middle };

struct Problem {
    std::uint64_t seed = 0, number = 0;
    Draw draw{0};  ///< for what follows the members below

    Format format;
    ActivationFormat activations;
    std::size_t m = 0, n = 0, k = 0;
    std::size_t x_gap = 0, y_gap = 0;  ///< elements between rows
    Place x_place = Place::end, y_place = Place::end;
    std::size_t x_offset = 0, y_offset = 0;  ///< elements, of Place::middle
    bool bias = false;
    bool spoiled = false;  ///< one element of x is not finite
    Pattern pattern = Pattern::uniform;
    int x_power = 0, w_power = 0;  ///< x and scales are of about this power of two
    std::size_t workers = 1;
    bool threads = false;  ///< the workers are threads, else one after the other in any order
};

/// The largest sum of x_power and w_power. Above it lie x of 2^10 times its power, tables of 2^16, offsets of 2^3 times
/// a scale, K of 2^16: no sum of either factor alone, nor of their products, leaves f32.
inline constexpr int largest_power = 80;

[[nodiscard]] inline std::string describe(const Problem& p) {
    return text("weights ", name(p.format), ", activations ", name(p.activations), ", m ", p.m, ", n ", p.n,
                ", k ", p.k, ", gaps ", p.x_gap, " and ", p.y_gap, p.bias ? ", bias" : "", ", codes ",
                pattern_names[static_cast<std::size_t>(p.pattern)], ", x of 2^", p.x_power, ", w of 2^",
                p.w_power, p.spoiled ? ", one x not finite" : "", ", ", p.workers,
                p.threads ? " threads" : " workers");
}

namespace detail {

/// Multiples of 8 with their neighbours, where groups, steps, panels and chunks begin and end; primes; or anything.
inline std::size_t draw_extent(Draw& draw, const std::vector<std::size_t>& edges, std::size_t most) {
    const std::size_t kind = draw.below(8);
    if (kind == 0) return draw.below(std::min<std::size_t>(most, 70) + 1);
    const std::size_t edge = draw.pick(edges) * (kind == 1 ? 2 : 1);
    return std::min(most, edge + (kind < 5 ? draw.below(3) : 1) - (edge == 0 ? 0 : 1));
}

inline std::size_t draw_group(Draw& draw) {
    static const std::vector<std::size_t> usual{16, 32, 32, 64, 128, 128, 256};
    const std::size_t kind = draw.below(8);
    return kind < 4   ? draw.pick(usual)
           : kind < 7 ? 8 * (1 + draw.below(kind == 6 ? 140 : 17))  // odd multiples of 8 are half of them
                      : min_group_elements + draw.below(60);
}

inline Format draw_format(Draw& draw) {
    static const std::vector<Scalar> any_scale{Scalar::f32, Scalar::f16, Scalar::bf16};
    static const std::vector<Format> special = codebook_and_dq_formats({8});  // groups are drawn below
    Format format;
    const std::size_t kind = draw.below(16);
    if (kind == 0) return float_format(draw.pick(any_scale));
    if (kind < 4) return block_format(ggml::block_types[draw.below(ggml::block_types.size())].type);
    if (kind < 8) {
        format = draw.pick(special);
    } else {
        format.bits = kind < 11 ? 4 : min_bits + static_cast<int>(draw.below(max_bits - min_bits + 1));
        const std::size_t shared = draw.below(8);
        format.granularity = shared == 0   ? Granularity::tensor
                             : shared == 1 ? Granularity::channel
                                           : Granularity::group;
        const std::size_t offset = draw.below(4);
        format.offset = offset < 2 ? Offset::none : offset == 2 ? Offset::integer : Offset::real;
        format.narrow = offset == 0;
        format.scale = draw.pick(any_scale);
    }
    format.group = draw_group(draw);
    return format;
}

inline ActivationFormat draw_activations_of(const Format& weights, Draw& draw) {
    const bool only_floats =
        weights.is_float() || weights.element == Element::fp8_e4m3 || weights.element == Element::fp8_e5m2;
    const std::size_t kind = draw.below(8);
    if (kind == 0) return bf16_activations();
    if (only_floats || kind < 3) return exact_activations();
    if (kind == 3) return draw_activation_format(draw);
    if (kind == 4) return int8_row_activations();
    // Groups that nest with those of the weights, where there are any, or not.
    std::size_t group = draw_group(draw);
    if (weights.granularity == Granularity::group && kind < 7) {
        const std::size_t factor = 1 + draw.below(4);
        group = draw.below(2) == 0 && weights.group % (8 * factor) == 0 ? weights.group / factor
                                                                        : weights.group * factor;
    }
    return int8_group_activations(group);
}

inline void draw_shape_of(Problem& p) {
    Draw& draw = p.draw;
    static const std::vector<std::size_t> m_edges{1, 1, 1, 2, 3, 4, 6, 8, 12, 16};
    static const std::vector<std::size_t> n_edges{1, 8, 8, 16, 16, 32, 48};
    static const std::vector<std::size_t> k_edges{0,  1,  4,   8,   12,  16,  24,  32,  40,   64,
                                                  72, 96, 120, 128, 172, 256, 264, 512, 1024, 2048};
    // Most cases are tiny, so that there are many; some reach the second panel with more rows than a tile has.
    const std::size_t size = draw.below(4096);
    const std::size_t products = size < 48 ? 300000 : size < 256 ? 40000 : 6000;
    const std::size_t weights = size < 48 ? 40000 : size < 256 ? 8000 : 2000;
    const std::size_t unit = p.format.is_block() ? ggml::traits(p.format.block).elements : 1;
    p.m = draw_extent(draw, m_edges, 70);
    p.n = draw_extent(draw, n_edges, 100);
    p.k = draw_extent(draw, k_edges, 2500);
    if (draw.below(4) == 0 &&
        p.format.granularity == Granularity::group)  // a few groups, a last one that is short
        p.k = p.format.group * draw.below(4) + draw.below(p.format.group);
    p.k = round_up(p.k, unit);
    if (size ==
        0) {  // rows so long that x is cut into blocks of 16 of them, and sums of int32 near their bound
        p.m = draw.below(40);
        p.n = draw.below(4);
        p.k = round_up(16000 + draw.below(18000), unit);
        return;
    }
    if (size < 32) {  // few rows over many tiles of channels, some of which are read side by side
        p.m = draw.below(6);
        p.n = 100 + draw.below(250);
        p.k = round_up(draw.below(200), unit);  // an arena holds as many in f32
        return;
    }
    const auto extent = [](std::size_t value) { return std::max<std::size_t>(value, 1); };
    for (std::size_t turn = draw.below(3); extent(p.n) * extent(p.k) > weights; ++turn) {
        if (turn % 3 == 0 && p.k > unit) p.k = round_up(p.k / 2, unit);
        if (turn % 3 != 0 && p.n > 1) p.n -= (p.n + 1) / 2;
    }
    while (extent(p.m) * extent(p.n) * extent(p.k) > products && p.m > 1) p.m -= (p.m + 1) / 2;
}

inline void draw_powers_of(Problem& p) {
    Draw& draw = p.draw;
    const auto between = [&](int low, int high) {
        return low + static_cast<int>(draw.below(static_cast<std::size_t>(high - low + 1)));
    };
    const std::size_t kind = draw.below(8);
    p.x_power = between(-6, 6);
    p.w_power = between(-8, 0);
    const bool halves =
        p.format.is_block() || p.format.scale == Scalar::f16 || p.format.element == Element::f16;
    const bool exponents = p.format.scale == Scalar::e8m0 || p.format.double_quantized();
    if (kind >= 6) p.w_power = halves ? between(-22, 8) : between(exponents ? -110 : -140, largest_power);
    if (kind == 5 || kind == 7) p.x_power = between(-140, largest_power);
    p.x_power = std::min(p.x_power, largest_power - std::max(p.w_power, 0));
}

}  // namespace detail

[[nodiscard]] inline Problem draw_problem(std::uint64_t seed, std::uint64_t number) {
    static const std::vector<std::size_t> gaps{0, 0, 0, 1, 2, 3, 7, 16, 64};
    static const std::vector<Place> places{Place::end, Place::start, Place::middle};
    Problem p;
    p.seed = seed;
    p.number = number;
    Draw& draw = p.draw = Draw(Draw(seed).next() ^ Draw(number).next());
    p.format = detail::draw_format(draw);
    p.activations = detail::draw_activations_of(p.format, draw);
    detail::draw_shape_of(p);
    detail::draw_powers_of(p);
    p.x_gap = draw.pick(gaps);
    p.y_gap = draw.pick(gaps);
    p.x_place = draw.pick(places);
    p.y_place = draw.pick(places);
    p.x_offset = draw.below(16);
    p.y_offset = draw.below(16);
    p.bias = draw.below(2) == 0;
    p.spoiled = draw.below(64) == 0;
    p.pattern = draw.below(2) == 0 ? Pattern::uniform : static_cast<Pattern>(draw.below(6));
    p.workers = 2 + draw.below(7);
    p.threads = draw.below(256) == 0;
    return p;
}

}  // namespace fewbit::testing
