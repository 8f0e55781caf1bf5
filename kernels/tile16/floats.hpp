// Float activations times tile16: templates over the registers of an instruction set (Lanes) and over what codes stand for
// (Levels, float_fields.hpp); README.md of this folder has the arithmetic and the bounds.
//
//   few rows    tiles of rows x 16 channels straight from the stream
//   more        some tiles of channels x a chunk of K become floats in a panel, scales included, over which tiles of rows run
//
//   word        4 bytes of x: one element of f32, or elements k and k + 2 of bf16 (two fields of 16 bits of a vector of
//               codes, so that some lookups give both)
//   panel       [word][tile][16 channels]
//   x           tiles of Lanes::tile_rows rows, [word][row]: a stream that is read in its order
//
// Sums run in ascending k, in parts that depend on the rows of the whole product alone.
#pragma once

#include "kernels/tile16/float_fields.hpp"
#include "kernels/tile16/panels.hpp"
#include "kernels/tile16/registers.hpp"
#include "kernels/tile16/stream.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// What levels of a group are corrected by, for each register of a tile's channels.
template <class Lanes, class Levels>
struct LevelGroup {
    typename Levels::Zero zero[Lanes::registers];
    typename Lanes::Floats scale[Lanes::registers], offset[Lanes::registers];

    void read(const WeightsView& w, const StreamSource<Lanes, Levels>& source, ParametersPlace parameters,
              bool zeros) {
#pragma GCC unroll 2
        for (int c = 0; c < Lanes::registers; ++c) {
            scale[c] = source.scale(parameters, c);
            offset[c] = w.has_offsets ? source.offset(parameters, c) : Lanes::zero();
            if (zeros)
                zero[c] = source.field().zero(w.has_zeros ? source.zero(parameters, c)
                                                          : Lanes::set_int(source.middle()));
        }
    }
};

/// Words of x that `count` elements from a multiple of 4 on take.
template <class Lanes>
constexpr std::size_t words_of(std::size_t count) {
    return Lanes::word_elements == 1 ? count : (count + 3) / 4 * 2;
}

/// Words of x that a vector of codes meets, and a step of them.
template <class Lanes, class Levels>
constexpr int vector_words =
    static_cast<int>(Levels::Steps::step_elements / Lanes::word_elements) / Levels::Steps::vectors;
template <class Lanes, class Levels>
constexpr std::size_t step_words = Levels::Steps::step_elements / Lanes::word_elements;

/// The levels of a word, the `Word`-th of a vector.
template <class Lanes, int Word, class Levels>
[[gnu::always_inline]] inline void read_levels(const Levels& field, typename Lanes::Bytes vector,
                                               const typename Levels::Zero& zero,
                                               typename Lanes::Floats (&out)[Lanes::word_elements]) {
    if constexpr (Lanes::word_elements == 1) {
        out[0] = field.template level<Word>(vector, zero);
    } else {
        constexpr int first = Word / 2 * 4 + Word % 2;
        out[0] = field.template level<first>(vector, zero);
        out[1] = field.template level<first + 2>(vector, zero);
    }
}

// --- few rows ---------------------------------------------------------------------------------------------

constexpr std::size_t fetch_bytes =
    4096;  ///< that the stream is asked for beforehand: there is much to do for each vector
constexpr std::size_t longest_piece = 1024;  ///< of K in a chain of sums, or their roundings would add up

/// Adds a step; `x` at its first word. Words go to the parts in turn, from `First` on.
template <class Lanes, class Levels, int Parts, int Count, int First = 0>
[[gnu::always_inline]] inline void add_step(const Levels& field, const std::uint8_t* codes,
                                            const LevelGroup<Lanes, Levels>& group, const float* x,
                                            typename Lanes::Floats (&sum)[Parts][Count][Lanes::registers]) {
    using Steps = typename Levels::Steps;
#pragma GCC unroll 2
    for (int c = 0; c < Lanes::registers; ++c) {
        const auto step = Steps::read(codes, c, Lanes::load_in_order);
        for_each<static_cast<int>(step_words<Lanes, Levels>)>([&](auto word) {
            constexpr int i = word, v = i / vector_words<Lanes, Levels>,
                          place = i % vector_words<Lanes, Levels>;
            const auto vector = Steps::template vector<v>(step);
            typename Lanes::Floats w;
            if constexpr (Levels::has_words) {
                w = field.template word<place>(vector);
            } else {
                typename Lanes::Floats levels[Lanes::word_elements];
                read_levels<Lanes, place>(field, vector, group.zero[c], levels);
                w = Lanes::pack_exact(levels);
            }
#pragma GCC unroll 16
            for (int r = 0; r < Count; ++r)
                sum[(First + i) % Parts][r][c] =
                    Lanes::dot(sum[(First + i) % Parts][r][c], w, Lanes::word(x + i * Count + r));
        });
    }
}

/// `Count` rows from m on x 16 channels from n on. `x_sums`: with offsets, [piece][row].
template <class Lanes, class Levels, int Count>
void multiply_stream(const KernelCall& call, const Levels& field, const float* x_sums, std::size_t m,
                     std::size_t n) {
    constexpr int C = Lanes::registers, chains = Count * C;
    constexpr int parts = chains >= Lanes::chains                                 ? 1
                          : 2 * chains >= Lanes::chains                           ? 2
                          : 4 * chains >= Lanes::chains || Lanes::most_parts == 4 ? 4
                                                                                  : 8;
    constexpr std::size_t step = Levels::Steps::step_elements, step_bytes = Levels::Steps::step_bytes;
    constexpr std::size_t words = step_words<Lanes, Levels>;
    constexpr bool two = static_cast<std::size_t>(parts) > words;  ///< steps for all parts
    const WeightsView& w = call.w;
    const StreamSource<Lanes, Levels> source(call, field, n);
    const auto* x =
        static_cast<const float*>(call.x.values) + m * (call.x.stride_elements / Lanes::word_elements);
    LevelGroup<Lanes, Levels> group;
    typename Lanes::Floats total[Count][C];
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) total[r][c] = Lanes::zero();
    group.read(w, source, {}, true);
    for (std::size_t k = 0, g = 0, group_end = w.group_elements; k < w.k;) {
        const std::size_t end = smaller(smaller(w.k, group_end), k + longest_piece);
        const ParametersPlace parameters = source.places().parameters(g);
        const std::uint8_t* codes = source.codes(source.places().codes(parameters, g, k));
        group.read(w, source, parameters, w.has_zeros);
        if (end == group_end) {
            ++g;
            group_end += w.group_elements;
        }
        typename Lanes::Floats sum[parts][Count][C];
#pragma GCC unroll 8
        for (int p = 0; p < parts; ++p)
#pragma GCC unroll 16
            for (int r = 0; r < Count; ++r)
#pragma GCC unroll 2
                for (int c = 0; c < C; ++c) sum[p][r][c] = Lanes::zero();
        if constexpr (two)
            for (; k + 2 * step <= end; k += 2 * step, codes += 2 * step_bytes, x += 2 * words * Count) {
                Lanes::fetch(codes + fetch_bytes);
                Lanes::fetch(codes + fetch_bytes + vector_bytes);
                add_step<Lanes, Levels, parts, Count>(field, codes, group, x, sum);
                add_step<Lanes, Levels, parts, Count, static_cast<int>(words)>(field, codes + step_bytes,
                                                                               group, x + words * Count, sum);
            }
        for (; k < end;
             k += step, codes += step_bytes, x += words * Count) {  // x has zeros for codes that W lacks
            for (std::size_t line = 0; line < step_bytes; line += vector_bytes)
                Lanes::fetch(codes + fetch_bytes + line);
            add_step<Lanes, Levels, parts, Count>(field, codes, group, x, sum);
        }
#pragma GCC unroll 16
        for (int r = 0; r < Count; ++r)
#pragma GCC unroll 2
            for (int c = 0; c < C; ++c) {
                const auto add_half = [&](int p, int half) __attribute__((always_inline)) {
                    if (p + half < parts) sum[p][r][c] = Lanes::add(sum[p][r][c], sum[p + half][r][c]);
                };
#pragma GCC unroll 4
                for (int p = 0; p < 4; ++p) add_half(p, 4);
                add_half(0, 2);
                add_half(1, 2);
                add_half(0, 1);
                total[r][c] = Lanes::multiply_add(sum[0][r][c], group.scale[c], total[r][c]);
                if (w.has_offsets)
                    total[r][c] = Lanes::multiply_add(Lanes::set(x_sums[r]), group.offset[c], total[r][c]);
            }
        if (w.has_offsets) x_sums += Count;
    }
    float* const y = call.y.values + m * call.y.stride_elements + n;
    const std::size_t count = smaller(tile_channels, w.n - n);
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) {
            if (call.y.bias != nullptr)
                total[r][c] = Lanes::add(total[r][c], load_some<Lanes>(call.y.bias + n, c, count));
            store_some<Lanes>(y + static_cast<std::size_t>(r) * call.y.stride_elements, c, count,
                              total[r][c]);
        }
}

/// Pieces of K that multiply_stream adds apart, at most.
inline std::size_t most_float_pieces(const WeightsView& w) { return w.groups + w.k / longest_piece + 1; }

/// Sums of x over the pieces of multiply_stream, for rows [m, m + rows): [piece][row].
template <class Lanes>
void sum_pieces(const KernelCall& call, std::size_t m, std::size_t rows, float* sums) {
    const auto* x =
        static_cast<const float*>(call.x.values) + m * (call.x.stride_elements / Lanes::word_elements);
    for (std::size_t k = 0; k < call.w.k; sums += rows) {
        const std::size_t group_end = (k / call.w.group_elements + 1) * call.w.group_elements;
        const std::size_t end = smaller(smaller(call.w.k, group_end), k + longest_piece);
        for (std::size_t r = 0; r < rows; ++r) {
            double sum[4] = {0, 0, 0, 0};
            for (std::size_t i = k; i < end; ++i)
                sum[i % 4] += static_cast<double>(Lanes::element(x + r, rows, i));
            sums[r] = static_cast<float>((sum[0] + sum[1]) + (sum[2] + sum[3]));
        }
        k = end;
    }
}

/// Tiles of rows one after the other over the same codes, which the first has brought into the cache.
template <class Lanes, class Levels>
void multiply_streams(const KernelCall& call, const Rectangle& part, float* x_sums) {
    constexpr std::size_t rows_together = Lanes::tile_rows;
    constexpr int most_rows = Lanes::few_rows < Lanes::tile_rows ? Lanes::few_rows : Lanes::tile_rows;
    const Levels field(call.w);
    const std::size_t sums = call.w.has_offsets ? most_float_pieces(call.w) : 0;
    const auto each_tile = [&](auto&& body) {
        for (std::size_t m = part.m_begin; m < part.m_end; m += rows_together)
            body(m, smaller(rows_together, part.m_end - m), x_sums + (m - part.m_begin) * sums);
    };
    if (call.w.has_offsets)
        each_tile([&](std::size_t m, std::size_t rows, float* to) { sum_pieces<Lanes>(call, m, rows, to); });
    for (std::size_t n = part.n_begin; n < part.n_end; n += tile_channels)
        each_tile([&](std::size_t m, std::size_t rows, const float* of) {
            with_constant<most_rows>(
                rows, [&](auto count) { multiply_stream<Lanes, Levels, count>(call, field, of, m, n); });
        });
}

// --- panels -----------------------------------------------------------------------------------------------

/// [k, k_end) of a tile's channels, as floats with their scales: word i at to[i * stride].
template <class Lanes, class Levels>
void fill_panel(const KernelCall& call, const StreamSource<Lanes, Levels>& source, std::size_t k,
                std::size_t k_end, float* to, std::size_t stride) {
    using Steps = typename Levels::Steps;
    const WeightsView& w = call.w;
    LevelGroup<Lanes, Levels> group;
    for (std::size_t g = k / w.group_elements; k < k_end; ++g) {
        const std::size_t end = smaller(k_end, (g + 1) * w.group_elements);
        const ParametersPlace parameters = source.places().parameters(g);
        group.read(w, source, parameters, true);
        const std::uint8_t* from = source.codes(source.places().codes(parameters, g, k));
        for (; k < end; k += Steps::step_elements, from += Steps::step_bytes) {
#pragma GCC unroll 2
            for (int c = 0; c < Lanes::registers; ++c) {
                const auto step = Steps::read(from, c, Lanes::load_bytes);
                for_each<static_cast<int>(step_words<Lanes, Levels>)>([&](auto word) {
                    constexpr int i = word, words = vector_words<Lanes, Levels>;
                    typename Lanes::Floats value[Lanes::word_elements];
                    read_levels<Lanes, i % words>(source.field(), Steps::template vector<i / words>(step),
                                                  group.zero[c], value);
                    for (auto& v : value)
                        v = w.has_offsets ? Lanes::multiply_add(v, group.scale[c], group.offset[c])
                                          : Lanes::multiply(v, group.scale[c]);
                    Lanes::store(to + i * stride + static_cast<std::size_t>(c) * Lanes::channels,
                                 Lanes::pack_word(value));
                });
            }
            to += step_words<Lanes, Levels> * stride;
        }
        k = end;
    }
}

/// A panel and what is to be done with it.
struct PanelPart {
    const float* words;
    std::size_t count;  ///< of words along K
    bool first, last;   ///< of K
    Ahead ahead{};
};

/// y = (first ? 0 : y) + products, for `Count` rows from m on and the channels of a panel, from n on; with the last the bias.
template <class Lanes, int Tiles, int Count>
void multiply_words(const OutputView& out, const PanelPart& part, const float* x, std::size_t m,
                    std::size_t n, std::size_t channels) {
    constexpr int C = Tiles * Lanes::registers;
    typename Lanes::Floats sum[Count][C];
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r)
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) sum[r][c] = Lanes::zero();
    const float* words = part.words;
    const auto add_word = [&]() __attribute__((always_inline)) {
        typename Lanes::Floats w[C];
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) w[c] = Lanes::load(words + c * static_cast<int>(Lanes::channels));
#pragma GCC unroll 16
        for (int r = 0; r < Count; ++r) {
            const auto value = Lanes::word(x + r);
#pragma GCC unroll 16
            for (int c = 0; c < C; ++c) sum[r][c] = Lanes::dot(sum[r][c], w[c], value);
        }
        words += Tiles * tile_channels;
        x += Count;
    };
    Ahead ahead = part.ahead;
    std::size_t left = part.count;
    for (; left >= fetch_steps; left -= fetch_steps) {
        ahead.fetch<Lanes>();
        for (std::size_t i = 0; i < fetch_steps; i += 4) {
            add_word();
            add_word();
            add_word();
            add_word();
        }
    }
    for (; left != 0; --left) add_word();
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r) {
        float* const y = out.values + (m + static_cast<std::size_t>(r)) * out.stride_elements + n;
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) {
            if (!part.first) sum[r][c] = Lanes::add(load_some<Lanes>(y, c, channels), sum[r][c]);
            if (part.last && out.bias != nullptr)
                sum[r][c] = Lanes::add(sum[r][c], load_some<Lanes>(out.bias + n, c, channels));
            store_some<Lanes>(y, c, channels, sum[r][c]);
        }
    }
}

/// Elements of K in a panel: equal parts, of at most Lanes::chunk_words words.
template <class Lanes>
std::size_t float_chunk(std::size_t k) {
    constexpr std::size_t most = Lanes::chunk_words * Lanes::word_elements, unit = 64;
    static_assert(most % unit == 0);
    return equal_part(k, most, unit);
}

/// All rows of `part` times `Tiles` x 16 channels from n on.
template <class Lanes, class Levels, int Tiles>
void multiply_float_panel(const KernelCall& call, const Levels& field, const Rectangle& part, std::size_t n,
                          float* panel) {
    constexpr std::size_t rows_together = Lanes::tile_rows, stride = Tiles * tile_channels;
    const std::size_t chunk = float_chunk<Lanes>(call.w.k), k_all = call.w.k;
    NextPanel next = next_panel(call, part, n, stride, rows_together, chunk);
    const std::size_t x_words = call.x.stride_elements / Lanes::word_elements;
    for (std::size_t k = 0; k < k_all; k += chunk) {
        const std::size_t k_end = smaller(k_all, k + chunk);
        for (int t = 0; t < Tiles; ++t) {
            const std::size_t first = n + static_cast<std::size_t>(t) * tile_channels;
            fill_panel(call, StreamSource<Lanes, Levels>(call, field, first), k, k_end,
                       panel + static_cast<std::size_t>(t) * tile_channels, stride);
        }
        PanelPart words{panel, words_of<Lanes>(k_end - k), k == 0, k_end == k_all};
        for (std::size_t m = part.m_begin; m < part.m_end; m += rows_together) {
            const std::size_t rows = smaller(rows_together, part.m_end - m);
            const auto* const x =
                static_cast<const float*>(call.x.values) + m * x_words + k / Lanes::word_elements * rows;
            words.ahead = next.of_tile(words.count);
            with_constant<Lanes::tile_rows>(rows, [&](auto count) {
                multiply_words<Lanes, Tiles, count>(call.y, words, x, m, n, smaller(stride, call.w.n - n));
            });
        }
    }
}

// ----------------------------------------------------------------------------------------------------------

template <class Lanes, class Levels>
void float_products(const KernelCall& call, const Rectangle& part, void* scratch) {
    auto* const memory = static_cast<float*>(scratch);
    if (is_few<Lanes>(call)) {
        constexpr int bits = Levels::Steps::bits;
        if constexpr (Lanes::word_elements == 2 && bits <= 4)
            if (!call.w.has_zeros)
                return multiply_streams<Lanes, FoundWords<Lanes, bits>>(call, part, memory);
        return multiply_streams<Lanes, Levels>(call, part, memory);
    }
    const Levels field(call.w);
    constexpr std::size_t channels = Lanes::panel_tiles * tile_channels;
    for (std::size_t n = part.n_begin; n < part.n_end; n += channels)
        with_constant<Lanes::panel_tiles>(tiles_of(smaller(channels, part.n_end - n)), [&](auto tiles) {
            multiply_float_panel<Lanes, Levels, tiles>(call, field, part, n, memory);
        });
}

template <class Lanes>
std::size_t float_scratch_bytes(const KernelCall& call) noexcept {
    if (!is_few<Lanes>(call))
        return (float_chunk<Lanes>(call.w.k) + step_overhang) * Lanes::panel_tiles * tile_channels *
               sizeof(float);
    return call.w.has_offsets ? most_float_pieces(call.w) * call.x.m * sizeof(float) : 0;
}

// What kernel files export, for their Lanes.

template <class Lanes>
void integer_float_products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    with_field_bits(call.w.field_bits, [&](auto bits) {
        if constexpr (Lanes::finds_fast && bits == 4)
            if (!call.w.has_zeros)
                return float_products<Lanes, TableLevels<Lanes, bits>>(call, part, scratch);
        float_products<Lanes, IntegerLevels<Lanes, bits>>(call, part, scratch);
    });
}
template <class Lanes>
void codebook_float_products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    switch (call.w.kind) {
        case Codes::fp8_e4m3: return float_products<Lanes, E4m3Levels<Lanes>>(call, part, scratch);
        case Codes::fp8_e5m2: return float_products<Lanes, E5m2Levels<Lanes>>(call, part, scratch);
        default: return float_products<Lanes, TableLevels<Lanes>>(call, part, scratch);
    }
}
template <class Lanes>
constexpr KernelCode float_kernel(decltype(KernelCode::run) run) {
    return {run, 0, Lanes::tile_rows, tile_channels, float_scratch_bytes<Lanes>, Lanes::tile_rows, nullptr};
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
