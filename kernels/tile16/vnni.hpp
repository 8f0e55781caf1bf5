// int8 activations times tile16 with one instruction for four products (VNNI): unsigned codes of weights times signed
// ones of activations, added up in int32. Templates over the registers of an instruction set (Lanes) and over how codes
// lie in the stream (Field); README.md of this folder has the arithmetic and the bounds.
//
//   few rows    a tile of all rows x 16 channels straight from the stream: every weight is unpacked once
//   more        codes of 16 channels are unpacked into a panel that the L1 or L2 cache holds, then tiles of Lanes::rows
//
// sum_k (u - z) a = sum_k u a - z sum_k a: accumulators start at -z times the sum of the activations, so that zero
// points cost nothing. Products between two scales ("a piece") are exact; pieces are added in ascending order in f32,
// whatever the tile, so that no cut of the work changes a bit.
//
// All of it has internal linkage, because Lanes and Field lie in the unnamed namespace of a kernel file.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/tile16/constants.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Where things stand in the stream of one tile (drawn in fewbit/pack/layout.hpp).
struct Stream {
    std::size_t scales, zeros, parameters, group, step_elements;

    Stream(const WeightsView& w, std::size_t elements_of_step)
        : scales(w.per_tensor ? 0 : tile_channels * scalar_bytes(w.scale)),
          zeros(!w.has_zeros || w.per_tensor ? 0
                : elements_of_step == 8      ? tile_channels / 2
                                             : tile_channels),
          parameters(scales + zeros + (w.has_offsets ? scales : 0)),
          group(parameters + (w.group_elements + elements_of_step - 1) / elements_of_step * vector_bytes),
          step_elements(elements_of_step) {}
};

/// Scale, zero and offset of a group, for 16 channels.
template <class Lanes>
struct Parameters {
    typename Lanes::Floats scale[Lanes::registers], offset[Lanes::registers];
    typename Lanes::Ints zero[Lanes::registers];
};

template <class Lanes>
Parameters<Lanes> load_parameters(const WeightsView& w, const Stream& stream, const std::uint8_t* p,
                                  float unit) {
    Parameters<Lanes> out;
    for (int c = 0; c < Lanes::registers; ++c) {
        const std::size_t at = static_cast<std::size_t>(c) * Lanes::channels;
        out.scale[c] = w.per_tensor ? Lanes::broadcast(w.scales, w.scale) : Lanes::load(p, w.scale, at);
        if (unit != 1.0f) out.scale[c] = Lanes::multiply(out.scale[c], Lanes::set(unit));
        if (w.has_zeros)
            out.zero[c] = w.per_tensor                ? Lanes::set_int(w.zeros[0] & ((1 << w.bits) - 1))
                          : stream.step_elements == 8 ? Lanes::nibbles_to_ints(p + stream.scales, at)
                                                      : Lanes::bytes_to_ints(p + stream.scales + at);
        if (w.has_offsets)
            out.offset[c] = w.per_tensor ? Lanes::broadcast(w.offsets, w.scale)
                                         : Lanes::load(p + stream.scales + stream.zeros, w.scale, at);
    }
    return out;
}

/// Walks over the pieces of [k, limit): runs that cross neither a group of weights nor one of activations. The sums of
/// activations are those of pieces. Divides once, not for every piece.
class Pieces {
public:
    Pieces(const KernelCall& call, std::size_t k, std::size_t limit)
        : group(k / call.w.group_elements),
          x_group(k / call.x.group_elements),
          sum(k / call.x.sum_group_elements),
          begin(k),
          call_(call),
          limit_(limit),
          group_end_((group + 1) * call.w.group_elements),
          x_end_((x_group + 1) * call.x.group_elements) {
        end = smaller(limit_, smaller(group_end_, x_end_));
    }
    [[nodiscard]] bool done() const { return begin >= limit_; }
    void next() {
        begin = end;
        ++sum;
        if (begin == group_end_) {
            ++group;
            group_end_ += call_.w.group_elements;
        }
        if (begin == x_end_) {
            ++x_group;
            x_end_ += call_.x.group_elements;
        }
        end = smaller(limit_, smaller(group_end_, x_end_));
    }

    std::size_t group, x_group, sum, begin, end;

private:
    const KernelCall& call_;
    std::size_t limit_, group_end_, x_end_;
};

/// Int32 sums of a tile, perhaps in several parts: [part][row][register].
template <class Lanes, int Parts, int Rows>
using Sums = typename Lanes::Ints[Parts][Rows][Lanes::registers];

/// One vector of codes times four (or eight) activations of each row, added to parts first, first + 1, ...
template <class Lanes, class Field, int Parts, int Rows>
[[gnu::always_inline]] inline void add_vector(const Field& field, const std::uint8_t* codes,
                                              const std::int8_t* x, std::size_t stride, int first,
                                              Sums<Lanes, Parts, Rows>& sums) {
    constexpr int C = Lanes::registers;
    typename Lanes::Bytes vector[C], w[C];
    for (int c = 0; c < C; ++c)
        vector[c] = Lanes::load_bytes(codes + static_cast<std::size_t>(c) * 4 * Lanes::channels);
    for (int q = 0; q < Field::quads; ++q) {
        for (int c = 0; c < C; ++c) w[c] = field.quad(vector[c], q);
        for (int r = 0; r < Rows; ++r) {
            const auto a =
                Lanes::quad(x + static_cast<std::size_t>(r) * stride + static_cast<std::size_t>(4 * q));
            for (int c = 0; c < C; ++c) {
                auto& sum = sums[(first + q) % Parts][r][c];
                sum = Lanes::dot(sum, w[c], a);
            }
        }
    }
}

/// The same for `steps` vectors, four products of K at a time in different parts.
template <class Lanes, class Field, int Parts, int Rows>
[[gnu::always_inline]] inline void add_vectors(const Field& field, const std::uint8_t* codes,
                                               std::size_t steps, const std::int8_t* x, std::size_t stride,
                                               Sums<Lanes, Parts, Rows>& sums) {
    constexpr std::size_t x_step = 4 * Field::quads, unrolled = 4;
    for (; steps >= unrolled; steps -= unrolled, codes += unrolled * vector_bytes, x += unrolled * x_step)
#pragma GCC unroll 4
        for (std::size_t i = 0; i < unrolled; ++i)
            add_vector<Lanes, Field, Parts, Rows>(field, codes + i * vector_bytes, x + i * x_step, stride,
                                                  static_cast<int>(i) * Field::quads, sums);
    for (; steps != 0; --steps, codes += vector_bytes, x += x_step)
        add_vector<Lanes, Field, Parts, Rows>(field, codes, x, stride, 0, sums);
}

/// Adds products of `steps` vectors at `codes` with the rows of x to the sums.
template <class Lanes, class Field, int Rows>
[[gnu::always_inline]] inline void add_products(const Field& field, const std::uint8_t* codes,
                                                std::size_t steps, const std::int8_t* x, std::size_t stride,
                                                Sums<Lanes, 1, Rows>& sums) {
    if constexpr (Rows > 3) {
        add_vectors<Lanes, Field, 1, Rows>(field, codes, steps, x, stride, sums);
    } else {
        // So few rows have too few sums to hide the latency of their instruction: each gets several parts.
        constexpr int parts = Rows == 1 ? 4 : 2, C = Lanes::registers;
        Sums<Lanes, parts, Rows> part;
        for (int i = 0; i < parts; ++i)
            for (int r = 0; r < Rows; ++r)
                for (int c = 0; c < C; ++c) part[i][r][c] = i == 0 ? sums[0][r][c] : Lanes::zero_ints();
        add_vectors<Lanes, Field, parts, Rows>(field, codes, steps, x, stride, part);
        for (int r = 0; r < Rows; ++r)
            for (int c = 0; c < C; ++c) {
                sums[0][r][c] = part[0][r][c];
                for (int i = 1; i < parts; ++i) sums[0][r][c] = Lanes::add(sums[0][r][c], part[i][r][c]);
            }
    }
}

/// What is multiplied by: the scale of the weights' group, that of the activations, or both. The one that is the same
/// for all of K is left to the end.
enum class Scaling { weights, activations, both };

/// rows [m, m + Rows) x channels [n, n + 16) over [k, k_end): y = (k == 0 ? 0 : y) + products; at the end of K the last
/// scale and the bias.
template <class Lanes, class Source, int Rows>
void multiply_tile(const KernelCall& call, const Source& source, Scaling how, std::size_t m, std::size_t n,
                   std::size_t k, std::size_t k_end) {
    constexpr int C = Lanes::registers;
    const WeightsView& w = call.w;
    const ActivationsView& x = call.x;
    const auto* const rows = static_cast<const std::int8_t*>(x.values) + m * x.stride_elements;
    const float* const x_scales = x.scales + m * x.groups;
    const std::int32_t* const x_sums = x.sums + m * x.sum_groups;
    float* const y = call.y.values + m * call.y.stride_elements + n;
    const std::size_t count = smaller(tile_channels, w.n - n);

    typename Lanes::Floats total[Rows][C];
    for (int r = 0; r < Rows; ++r)
        for (int c = 0; c < C; ++c)
            total[r][c] =
                k == 0 ? Lanes::zero()
                       : Lanes::load_part(y + static_cast<std::size_t>(r) * call.y.stride_elements, c, count);
    Parameters<Lanes> group;
    std::size_t loaded = ~std::size_t{0};
    for (Pieces piece(call, k, k_end); !piece.done(); piece.next()) {
        if (piece.group != loaded) {
            group = source.parameters(piece.group);
            loaded = piece.group;
        }
        Sums<Lanes, 1, Rows> sums;
        for (int r = 0; r < Rows; ++r) {
            const std::int32_t sum = x_sums[static_cast<std::size_t>(r) * x.sum_groups + piece.sum];
            for (int c = 0; c < C; ++c)
                sums[0][r][c] = w.has_zeros ? Lanes::multiply_ints(group.zero[c], Lanes::set_int(-sum))
                                            : Lanes::set_int(-source.zero() * sum);
        }
        source.template add<Rows>(piece.group, piece.begin, piece.end, rows + piece.begin, x.stride_elements,
                                  sums);
        const auto add_scaled = [&](auto factor) __attribute__((always_inline)) {
            for (int r = 0; r < Rows; ++r)
                for (int c = 0; c < C; ++c)
                    total[r][c] =
                        Lanes::multiply_add(Lanes::to_floats(sums[0][r][c]), factor(r, c), total[r][c]);
        };
        const auto x_scale = [&](int r) __attribute__((always_inline)) {
            return Lanes::set(x_scales[static_cast<std::size_t>(r) * x.groups + piece.x_group]);
        };
        if (how == Scaling::weights)
            add_scaled([&](int, int c) { return group.scale[c]; });
        else if (how == Scaling::activations)
            add_scaled([&](int r, int) { return x_scale(r); });
        else
            add_scaled([&](int r, int c) { return Lanes::multiply(group.scale[c], x_scale(r)); });
        if (w.has_offsets)
            for (int r = 0; r < Rows; ++r) {
                const auto row = static_cast<std::size_t>(r);
                float sum = static_cast<float>(x_sums[row * x.sum_groups + piece.sum]);
                if (how != Scaling::weights) sum *= x_scales[row * x.groups + piece.x_group];
                for (int c = 0; c < C; ++c)
                    total[r][c] = Lanes::multiply_add(Lanes::set(sum), group.offset[c], total[r][c]);
            }
    }
    const bool last = k_end == w.k;
    for (int r = 0; r < Rows; ++r)
        for (int c = 0; c < C; ++c) {
            if (last && how == Scaling::weights)
                total[r][c] = Lanes::multiply(total[r][c],
                                              Lanes::set(x_scales[static_cast<std::size_t>(r) * x.groups]));
            if (last && how == Scaling::activations)
                total[r][c] = Lanes::multiply(total[r][c], group.scale[c]);
            if (last && call.y.bias != nullptr)
                total[r][c] = Lanes::add(total[r][c], Lanes::load_part(call.y.bias + n, c, count));
            Lanes::store_part(y + static_cast<std::size_t>(r) * call.y.stride_elements, c, count,
                              total[r][c]);
        }
}

/// Codes where the packed matrix has them: tile `n` of the stream.
template <class Lanes, class Field>
class StreamSource {
public:
    StreamSource(const KernelCall& call, const Field& field, std::size_t n)
        : w_(call.w),
          field_(field),
          stream_(call.w, Field::step_elements),
          tile_(call.w.codes + n / tile_channels * call.w.codes_stride_bytes) {}

    [[nodiscard]] Parameters<Lanes> parameters(std::size_t group) const {
        return load_parameters<Lanes>(w_, stream_, tile_ + group * stream_.group, field_.unit());
    }
    /// The code of 0 where groups have none of their own.
    [[nodiscard]] std::int32_t zero() const { return Field::bias + (w_.has_offsets ? 0 : w_.middle_code); }
    [[nodiscard]] const std::uint8_t* codes(std::size_t group, std::size_t k) const {
        return tile_ + group * stream_.group + stream_.parameters +
               (k - group * w_.group_elements) / Field::step_elements * vector_bytes;
    }
    template <int Rows>
    void add(std::size_t group, std::size_t k, std::size_t end, const std::int8_t* x, std::size_t stride,
             Sums<Lanes, 1, Rows>& sums) const {
        add_products<Lanes, Field, Rows>(field_, codes(group, k),
                                         (end - k + Field::step_elements - 1) / Field::step_elements, x,
                                         stride, sums);
    }

private:
    const WeightsView& w_;
    const Field& field_;
    Stream stream_;
    const std::uint8_t* tile_;
};

/// Codes of 8 bits side by side, four of K per channel.
struct PanelField {
    static constexpr int quads = 1;
    template <class Bytes>
    Bytes quad(Bytes vector, int) const {
        return vector;
    }
};

constexpr std::size_t chunk_elements =
    1024;  ///< of K in a panel, unless more share two scales: 16 KiB, half of L1
constexpr std::size_t max_panel_groups = chunk_elements / 8 + 1;

/// 16 channels x a chunk of K, unpacked: codes, then scales, zeros and offsets of its groups.
template <class Lanes>
class PanelSource {
public:
    static std::size_t bytes(std::size_t chunk) {
        return chunk * tile_channels + 3 * max_panel_groups * tile_channels * sizeof(float);
    }

    /// `memory`: bytes() of it, aligned to 64.
    PanelSource(const KernelCall& call, void* memory)
        : w_(call.w),
          scales_(static_cast<float*>(memory)),
          offsets_(scales_ + max_panel_groups * tile_channels),
          zeros_(reinterpret_cast<std::int32_t*>(offsets_ + max_panel_groups * tile_channels)),
          codes_(reinterpret_cast<std::uint8_t*>(zeros_ + max_panel_groups * tile_channels)) {}

    template <class Field>
    void fill(const StreamSource<Lanes, Field>& source, const Field& field, std::size_t k,
              std::size_t k_end) {
        first_k_ = k;
        first_group_ = k / w_.group_elements;
        zero_ = source.zero();
        while (k < k_end) {
            const std::size_t group = k / w_.group_elements, place = (group - first_group_) * tile_channels;
            const std::size_t end = smaller(k_end, (group + 1) * w_.group_elements);
            const Parameters<Lanes> p = source.parameters(group);
            for (int c = 0; c < Lanes::registers; ++c) {
                const std::size_t at = place + static_cast<std::size_t>(c) * Lanes::channels;
                Lanes::store(scales_ + at, p.scale[c]);
                if (w_.has_offsets) Lanes::store(offsets_ + at, p.offset[c]);
                if (w_.has_zeros) Lanes::store_ints(zeros_ + at, p.zero[c]);
            }
            const std::uint8_t* from = source.codes(group, k);
            std::uint8_t* to = codes_ + (k - first_k_) * tile_channels;
            for (std::size_t i = k; i < end; i += Field::step_elements, from += vector_bytes)
                for (int c = 0; c < Lanes::registers; ++c) {
                    const std::size_t at = static_cast<std::size_t>(c) * 4 * Lanes::channels;
                    const auto vector = Lanes::load_bytes(from + at);
                    for (int q = 0; q < Field::quads; ++q)
                        Lanes::store_bytes(
                            to + (i - k) * tile_channels + static_cast<std::size_t>(q) * vector_bytes + at,
                            field.quad(vector, q));
                }
            k = end;
        }
    }

    [[nodiscard]] Parameters<Lanes> parameters(std::size_t group) const {
        const std::size_t place = (group - first_group_) * tile_channels;
        Parameters<Lanes> out;
        for (int c = 0; c < Lanes::registers; ++c) {
            const std::size_t at = place + static_cast<std::size_t>(c) * Lanes::channels;
            out.scale[c] = Lanes::load(scales_ + at);
            if (w_.has_offsets) out.offset[c] = Lanes::load(offsets_ + at);
            if (w_.has_zeros) out.zero[c] = Lanes::load_ints(zeros_ + at);
        }
        return out;
    }
    [[nodiscard]] std::int32_t zero() const { return zero_; }
    template <int Rows>
    void add(std::size_t, std::size_t k, std::size_t end, const std::int8_t* x, std::size_t stride,
             Sums<Lanes, 1, Rows>& sums) const {
        add_products<Lanes, PanelField, Rows>({}, codes_ + (k - first_k_) * tile_channels, (end - k + 3) / 4,
                                              x, stride, sums);
    }

private:
    const WeightsView& w_;
    float *scales_, *offsets_;
    std::int32_t* zeros_;
    std::uint8_t* codes_;
    std::size_t first_k_ = 0, first_group_ = 0;
    std::int32_t zero_ = 0;
};

/// multiply_tile for a number of rows that is known when it runs: 1 to Most.
template <class Lanes, int Most, class Source>
void multiply_rows(std::size_t rows, const KernelCall& call, const Source& source, Scaling how, std::size_t m,
                   std::size_t n, std::size_t k, std::size_t k_end) {
    if constexpr (Most > 1) {
        if (rows != Most) return multiply_rows<Lanes, Most - 1>(rows, call, source, how, m, n, k, k_end);
    }
    multiply_tile<Lanes, Source, Most>(call, source, how, m, n, k, k_end);
}

/// Elements of K that are multiplied before the next: whole pieces, about chunk_elements.
constexpr std::size_t chunk_of(const KernelCall& call) {
    const std::size_t a = call.w.group_elements, b = call.x.group_elements;
    const std::size_t small = smaller(a, b), large = a < b ? b : a;
    const std::size_t unit = large <= chunk_elements ? large : small;
    const std::size_t chunk = unit <= chunk_elements ? chunk_elements / unit * unit : unit;
    return smaller(chunk, call.w.k);
}

/// Rows [begin, end) in tiles of at most Lanes::rows that differ by one at most.
template <class Lanes, class Source>
void multiply_tiles(const KernelCall& call, const Source& source, Scaling how, std::size_t begin,
                    std::size_t end, std::size_t n, std::size_t k, std::size_t k_end) {
    constexpr auto most = static_cast<std::size_t>(Lanes::rows);
    const std::size_t rows = end - begin, tiles = (rows + most - 1) / most;
    for (std::size_t t = 0; t < tiles; ++t) {
        const std::size_t from = t * rows / tiles, to = (t + 1) * rows / tiles;
        multiply_rows<Lanes, Lanes::rows>(to - from, call, source, how, begin + from, n, k, k_end);
    }
}

template <class Lanes, class Field>
void int8_products(const KernelCall& call, const Rectangle& part, void* scratch) {
    const bool one_x = call.x.groups == 1, one_w = call.w.groups == 1 && !call.w.has_offsets;
    const Scaling how = one_x ? Scaling::weights : one_w ? Scaling::activations : Scaling::both;
    const Field field(call.w);
    constexpr auto most = static_cast<std::size_t>(Lanes::rows);
    if (call.x.m <= most) {  // of the call, not of this part
        for (std::size_t n = part.n_begin; n < part.n_end; n += tile_channels) {
            const StreamSource<Lanes, Field> source(call, field, n);
            multiply_rows<Lanes, Lanes::rows>(part.m_end - part.m_begin, call, source, how, part.m_begin, n,
                                              0, call.w.k);
        }
        return;
    }
    // A block of rows of x that L2 keeps, a chunk of K of it and of W at a time.
    constexpr std::size_t l2_bytes = 384 * 1024;
    const std::size_t chunk = chunk_of(call);
    const std::size_t fitting = l2_bytes / chunk, block = fitting < 48 ? 48 : fitting;
    const std::size_t blocks = (part.m_end - part.m_begin + block - 1) / block;
    PanelSource<Lanes> panel(call, scratch);
    for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t rows = part.m_end - part.m_begin;
        const std::size_t m_begin = part.m_begin + b * rows / blocks,
                          m_end = part.m_begin + (b + 1) * rows / blocks;
        for (std::size_t k = 0; k < call.w.k; k += chunk) {
            const std::size_t k_end = smaller(call.w.k, k + chunk);
            for (std::size_t n = part.n_begin; n < part.n_end; n += tile_channels) {
                const StreamSource<Lanes, Field> source(call, field, n);
                if constexpr (Field::quads == 1) {  // already as a panel has them
                    multiply_tiles<Lanes>(call, source, how, m_begin, m_end, n, k, k_end);
                } else {
                    panel.fill(source, field, k, k_end);
                    multiply_tiles<Lanes>(call, panel, how, m_begin, m_end, n, k, k_end);
                }
            }
        }
    }
}

template <class Lanes>
std::size_t int8_scratch_bytes(const KernelCall& call) noexcept {
    if (call.x.m <= static_cast<std::size_t>(Lanes::rows)) return 0;
    return PanelSource<Lanes>::bytes((chunk_of(call) + 7) / 8 * 8);
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
