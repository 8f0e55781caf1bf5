// Float activations times tile16: templates over the registers of an instruction set (Lanes) and over what codes stand for
// (Levels, float_fields.hpp); README.md of this folder has the arithmetic and the bounds.
//
//   few rows    a tile of all rows x 16 channels straight from the stream: every weight becomes a float once
//   more        some tiles of channels x a chunk of K become floats in a panel, scales included, over which tiles of rows run
//
//   word        4 bytes of x: one element of f32, or two of bf16
//   panel       [word][tile][16 channels]
//   x           tiles of Lanes::tile_rows rows, [word][row]: a stream that is read in its order
//
// Sums run in ascending k, in parts that depend on the rows of the whole product alone.
#pragma once

#include "kernels/tile16/float_fields.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// What levels of a group are corrected by, for each register of a tile's channels.
template <class Lanes, class Levels>
struct LevelGroup {
    typename Levels::Zero zero[Lanes::registers];
    typename Lanes::Floats scale[Lanes::registers], offset[Lanes::registers];

    void read(const WeightsView& w, const StreamSource<Lanes, Levels>& source, std::size_t parameters,
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

/// The words that a vector holds for register c of the channels: out[i], of `Words` along K.
template <class Lanes, class Levels, int Word = 0>
[[gnu::always_inline]] inline void add_words(auto&& use, const Levels& field, typename Lanes::Bytes vector,
                                             const typename Levels::Zero& zero) {
    constexpr int per_word = static_cast<int>(Lanes::word_elements);
    if constexpr (Word * per_word < static_cast<int>(Levels::step_elements)) {
        typename Lanes::Floats levels[per_word];
        levels[0] = field.template level<Word * per_word>(vector, zero);
        if constexpr (per_word == 2) levels[1] = field.template level<Word * per_word + 1>(vector, zero);
        use(Word, levels);
        add_words<Lanes, Levels, Word + 1>(use, field, vector, zero);
    }
}

// --- few rows ---------------------------------------------------------------------------------------------

constexpr std::size_t longest_piece = 1024;  ///< of K in a chain of sums, or their roundings would add up

/// Adds what a vector has of the first `words` words; `x` at its first.
template <class Lanes, class Levels, int Parts, int Count, bool All>
[[gnu::always_inline]] inline void add_vector(const Levels& field, const std::uint8_t* codes,
                                              const LevelGroup<Lanes, Levels>& group, const float* x,
                                              std::size_t words,
                                              typename Lanes::Floats (&sum)[Parts][Count][Lanes::registers]) {
#pragma GCC unroll 2
    for (int c = 0; c < Lanes::registers; ++c)
        add_words<Lanes>(
            [&](int i, const auto& levels) {
                if (!All && static_cast<std::size_t>(i) >= words) return;
                const auto w = Lanes::pack_exact(levels);
#pragma GCC unroll 16
                for (int r = 0; r < Count; ++r)
                    sum[i % Parts][r][c] = Lanes::dot(sum[i % Parts][r][c], w, Lanes::word(x + i * Count + r));
            },
            field, Lanes::load_in_order(codes + c * static_cast<int>(4 * Lanes::channels)), group.zero[c]);
}

/// All `Count` rows of the product x 16 channels from n on. `x_sums`: with offsets, [piece][row].
template <class Lanes, class Levels, int Count>
void multiply_stream(const KernelCall& call, const Levels& field, const float* x_sums, std::size_t n) {
    constexpr int C = Lanes::registers;
    constexpr int parts = Count * C >= Lanes::chains ? 1 : 2 * Count * C >= Lanes::chains ? 2 : 4;
    constexpr std::size_t step = Levels::step_elements, step_words = step / Lanes::word_elements;
    const WeightsView& w = call.w;
    const StreamSource<Lanes, Levels> source(call, field, n);
    const auto* x = static_cast<const float*>(call.x.values);
    LevelGroup<Lanes, Levels> group;
    typename Lanes::Floats total[Count][C];
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) total[r][c] = Lanes::zero();
    group.read(w, source, 0, true);
    for (std::size_t k = 0; k < w.k;) {
        const std::size_t g = k / w.group_elements;
        const std::size_t end = smaller(smaller(w.k, (g + 1) * w.group_elements), k + longest_piece);
        const std::uint8_t* codes = source.codes(source.places().codes(g, k));
        group.read(w, source, source.places().parameters(g), w.has_zeros);
        typename Lanes::Floats sum[parts][Count][C];
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p)
#pragma GCC unroll 16
            for (int r = 0; r < Count; ++r)
#pragma GCC unroll 2
                for (int c = 0; c < C; ++c) sum[p][r][c] = Lanes::zero();
        for (; k + step <= end; k += step, codes += vector_bytes, x += step_words * Count)
            add_vector<Lanes, Levels, parts, Count, true>(field, codes, group, x, step_words, sum);
        if (k < end) {
            const std::size_t words = (end - k + Lanes::word_elements - 1) / Lanes::word_elements;
            add_vector<Lanes, Levels, parts, Count, false>(field, codes, group, x, words, sum);
            k = end;
        }
#pragma GCC unroll 16
        for (int r = 0; r < Count; ++r)
#pragma GCC unroll 2
            for (int c = 0; c < C; ++c) {
                if constexpr (parts == 4)
                    sum[0][r][c] = Lanes::add(Lanes::add(sum[0][r][c], sum[1][r][c]),
                                              Lanes::add(sum[2][r][c], sum[3][r][c]));
                else if constexpr (parts == 2)
                    sum[0][r][c] = Lanes::add(sum[0][r][c], sum[1][r][c]);
                total[r][c] = Lanes::multiply_add(sum[0][r][c], group.scale[c], total[r][c]);
                if (w.has_offsets)
                    total[r][c] = Lanes::multiply_add(Lanes::set(x_sums[r]), group.offset[c], total[r][c]);
            }
        x_sums += Count;
    }
    float* const y = call.y.values + n;
    const std::size_t count = smaller(tile_channels, w.n - n);
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) {
            if (call.y.bias != nullptr)
                total[r][c] = Lanes::add(total[r][c], load_some<Lanes>(call.y.bias + n, c, count));
            store_some<Lanes>(y + static_cast<std::size_t>(r) * call.y.stride_elements, c, count, total[r][c]);
        }
}

/// Sums of x over the pieces of multiply_stream: [piece][row].
template <class Lanes>
void sum_pieces(const KernelCall& call, float* sums) {
    const auto* x = static_cast<const float*>(call.x.values);
    const std::size_t rows = call.x.m;
    for (std::size_t k = 0; k < call.w.k; sums += rows) {
        const std::size_t group_end = (k / call.w.group_elements + 1) * call.w.group_elements;
        const std::size_t end = smaller(smaller(call.w.k, group_end), k + longest_piece);
        for (std::size_t r = 0; r < rows; ++r) {
            double sum[4] = {0, 0, 0, 0};
            for (std::size_t i = k; i < end; ++i)
                sum[i % 4] += static_cast<double>(
                    Lanes::element(x + i / Lanes::word_elements * rows + r, i % Lanes::word_elements));
            sums[r] = static_cast<float>((sum[0] + sum[1]) + (sum[2] + sum[3]));
        }
        k = end;
    }
}

template <class Lanes, class Levels, int Most>
void multiply_streams(const KernelCall& call, const Levels& field, const float* x_sums, const Rectangle& part) {
    if constexpr (Most > 1) {
        if (call.x.m != Most) return multiply_streams<Lanes, Levels, Most - 1>(call, field, x_sums, part);
    }
    for (std::size_t n = part.n_begin; n < part.n_end; n += tile_channels)
        multiply_stream<Lanes, Levels, Most>(call, field, x_sums, n);
}

// --- panels -----------------------------------------------------------------------------------------------

/// [k, k_end) of a tile's channels, as floats with their scales: word i at to[i * stride].
template <class Lanes, class Levels>
void fill_panel(const KernelCall& call, const StreamSource<Lanes, Levels>& source, std::size_t k,
                std::size_t k_end, float* to, std::size_t stride) {
    const WeightsView& w = call.w;
    LevelGroup<Lanes, Levels> group;
    while (k < k_end) {
        const std::size_t g = k / w.group_elements, end = smaller(k_end, (g + 1) * w.group_elements);
        group.read(w, source, source.places().parameters(g), true);
        const std::uint8_t* from = source.codes(source.places().codes(g, k));
        for (; k < end; k += Levels::step_elements, from += vector_bytes) {
#pragma GCC unroll 2
            for (int c = 0; c < Lanes::registers; ++c)
                add_words<Lanes>(
                    [&](int i, const auto& levels) {
                        typename Lanes::Floats value[Lanes::word_elements];
                        for (std::size_t j = 0; j < Lanes::word_elements; ++j)
                            value[j] = w.has_offsets
                                           ? Lanes::multiply_add(levels[j], group.scale[c], group.offset[c])
                                           : Lanes::multiply(levels[j], group.scale[c]);
                        Lanes::store(to + static_cast<std::size_t>(i) * stride +
                                         static_cast<std::size_t>(c) * Lanes::channels,
                                     Lanes::pack_word(value));
                    },
                    source.field(), Lanes::load_bytes(from + c * static_cast<int>(4 * Lanes::channels)),
                    group.zero[c]);
            to += Levels::step_elements / Lanes::word_elements * stride;
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
void multiply_words(const OutputView& out, const PanelPart& part, const float* x, std::size_t m, std::size_t n,
                    std::size_t channels) {
    constexpr int C = Tiles * Lanes::registers;
    constexpr std::size_t block = 32;
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
    for (; left >= block; left -= block) {
        for (std::size_t i = 0; i < ahead.lines && ahead.next < ahead.end; ++i, ahead.next += vector_bytes)
            Lanes::fetch_ahead(ahead.next);
        for (std::size_t i = 0; i < block; i += 4) {
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

template <class Lanes, int Tiles, int Most>
void multiply_word_rows(std::size_t rows, const OutputView& out, const PanelPart& part, const float* x,
                        std::size_t m, std::size_t n, std::size_t channels) {
    if constexpr (Most > 1) {
        if (rows != Most)
            return multiply_word_rows<Lanes, Tiles, Most - 1>(rows, out, part, x, m, n, channels);
    }
    multiply_words<Lanes, Tiles, Most>(out, part, x, m, n, channels);
}

/// Elements of K in a panel: equal parts, of at most Lanes::chunk_words words.
template <class Lanes>
std::size_t float_chunk(std::size_t k) {
    constexpr std::size_t most = Lanes::chunk_words * Lanes::word_elements, unit = 64;
    static_assert(most % unit == 0);
    const std::size_t chunks = (k + most - 1) / most;
    return smaller(most, ((k + chunks - 1) / chunks + unit - 1) / unit * unit);
}

/// All rows of `part` times `Tiles` x 16 channels from n on.
template <class Lanes, class Levels, int Tiles>
void multiply_float_panel(const KernelCall& call, const Levels& field, const Rectangle& part, std::size_t n,
                          float* panel) {
    constexpr std::size_t rows_together = Lanes::tile_rows, stride = Tiles * tile_channels;
    const std::size_t chunk = float_chunk<Lanes>(call.w.k), k_all = call.w.k;
    // The next panel's weights are fetched meanwhile, a part by each tile.
    const std::size_t next = n + stride;
    const std::size_t tiles =
        (part.m_end - part.m_begin + rows_together - 1) / rows_together * ((k_all + chunk - 1) / chunk);
    const std::size_t lines =
        next < part.n_end ? (Tiles * call.w.codes_stride_bytes / vector_bytes + tiles - 1) / tiles : 0;
    const std::uint8_t* ahead = call.w.codes + next / tile_channels * call.w.codes_stride_bytes;
    const std::size_t x_words = call.x.stride_elements / Lanes::word_elements;
    for (std::size_t k = 0; k < k_all; k += chunk) {
        const std::size_t k_end = smaller(k_all, k + chunk);
        for (int t = 0; t < Tiles; ++t) {
            const std::size_t first = n + static_cast<std::size_t>(t) * tile_channels;
            fill_panel(call, StreamSource<Lanes, Levels>(call, field, first), k, k_end,
                       panel + static_cast<std::size_t>(t) * tile_channels, stride);
        }
        PanelPart words{panel, (k_end - k + Lanes::word_elements - 1) / Lanes::word_elements, k == 0,
                        k_end == k_all};
        words.ahead.lines = (lines * 32 + words.count - 1) / words.count;
        for (std::size_t m = part.m_begin; m < part.m_end; m += rows_together) {
            const std::size_t rows = smaller(rows_together, part.m_end - m);
            words.ahead.next = ahead;
            words.ahead.end = ahead += lines * vector_bytes;
            multiply_word_rows<Lanes, Tiles, Lanes::tile_rows>(
                rows, call.y, words,
                static_cast<const float*>(call.x.values) + m * x_words + k / Lanes::word_elements * rows, m, n,
                smaller(stride, call.w.n - n));
        }
    }
}

/// The same for as many tiles as there are, up to Most; returns how many.
template <class Lanes, class Levels, int Most>
std::size_t multiply_float_panels(const KernelCall& call, const Levels& field, const Rectangle& part,
                                  std::size_t n, float* panel) {
    if constexpr (Most > 1) {
        if (part.n_end - n <= (Most - 1) * tile_channels)
            return multiply_float_panels<Lanes, Levels, Most - 1>(call, field, part, n, panel);
    }
    multiply_float_panel<Lanes, Levels, Most>(call, field, part, n, panel);
    return Most;
}

// ----------------------------------------------------------------------------------------------------------

template <class Lanes, class Levels>
void float_products(const KernelCall& call, const Rectangle& part, void* scratch) {
    const Levels field(call.w);
    auto* const memory = static_cast<float*>(scratch);
    if (call.x.m <= static_cast<std::size_t>(Lanes::tile_rows)) {
        if (call.w.has_offsets) sum_pieces<Lanes>(call, memory);
        return multiply_streams<Lanes, Levels, Lanes::tile_rows>(call, field, memory, part);
    }
    for (std::size_t n = part.n_begin; n < part.n_end;)
        n += tile_channels *
             multiply_float_panels<Lanes, Levels, Lanes::panel_tiles>(call, field, part, n, memory);
}

template <class Lanes>
std::size_t float_scratch_bytes(const KernelCall& call) noexcept {
    if (call.x.m > static_cast<std::size_t>(Lanes::tile_rows))
        return (float_chunk<Lanes>(call.w.k) + 8) * Lanes::panel_tiles * tile_channels * sizeof(float);
    return call.w.has_offsets ? (call.w.groups + call.w.k / longest_piece + 1) * call.x.m * sizeof(float) : 0;
}

// What kernel files export, for their Lanes.

template <class Lanes>
void integer_float_products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    call.w.bits <= 4 ? float_products<Lanes, NibbleLevels<Lanes>>(call, part, scratch)
                     : float_products<Lanes, ByteLevels<Lanes>>(call, part, scratch);
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
