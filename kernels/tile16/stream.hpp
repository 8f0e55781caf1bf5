// Weights in Layout::tile16 as tiles of kernels read them: straight from the stream of one tile of channels, or from a
// panel, a chunk of K of several tiles side by side, unpacked once for many rows of x.
//
//   panel   codes       [k / e][tile][16 e]   bytes, e of K for each channel: 4, or what a product of matrices takes, 8
//           scales      [group][tile][16]     f32; offsets and zeros (int32) likewise; where registers hold several rows
//                                             of x, as many times
#pragma once

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

/// Codes where the packed matrix has them: the tile of channel n.
template <class Lanes, class Field>
class StreamSource {
public:
    static constexpr int tiles = 1;
    static constexpr bool is_panel = false;
    using Codes = Field;

    StreamSource(const KernelCall& call, const Field& field, std::size_t n)
        : w_(call.w),
          field_(field),
          stream_(call.w, Field::step_elements),
          tile_(call.w.codes + n / tile_channels * call.w.codes_stride_bytes) {}

    // Of a group, for register c of its channels.
    [[nodiscard]] typename Lanes::Floats scale(std::size_t group, int c) const {
        const auto scale = w_.per_tensor ? Lanes::broadcast(w_.scales, w_.scale)
                                         : Lanes::load(at(group), w_.scale, channel(c));
        return field_.unit() == 1.0f ? scale : Lanes::multiply(scale, Lanes::set(field_.unit()));
    }
    [[nodiscard]] typename Lanes::Floats offset(std::size_t group, int c) const {
        return w_.per_tensor ? Lanes::broadcast(w_.offsets, w_.scale)
                             : Lanes::load(at(group) + stream_.scales + stream_.zeros, w_.scale, channel(c));
    }
    [[nodiscard]] typename Lanes::Ints zero(std::size_t group, int c) const {
        const std::uint8_t* const p = at(group) + stream_.scales;
        const auto zero = w_.per_tensor               ? Lanes::set_int(w_.zeros[0] & ((1 << w_.bits) - 1))
                          : Field::step_elements == 8 ? Lanes::nibbles_to_ints(p, channel(c))
                                                      : Lanes::bytes_to_ints(p + channel(c));
        return Lanes::add(zero, Lanes::set_int(Field::bias));
    }
    /// The code of 0 where groups have none of their own.
    [[nodiscard]] std::int32_t middle() const { return Field::bias + (w_.has_offsets ? 0 : w_.middle_code); }
    [[nodiscard]] const std::uint8_t* codes(std::size_t group, std::size_t k) const {
        return at(group) + stream_.parameters +
               (k - group * w_.group_elements) / Field::step_elements * vector_bytes;
    }
    [[nodiscard]] const Field& field() const { return field_; }

private:
    [[nodiscard]] const std::uint8_t* at(std::size_t group) const { return tile_ + group * stream_.group; }
    static std::size_t channel(int c) { return static_cast<std::size_t>(c) * Lanes::channels; }

    const WeightsView& w_;
    const Field& field_;
    Stream stream_;
    const std::uint8_t* tile_;
};

/// Codes of a panel.
template <class Lanes>
struct PanelField {
    static constexpr std::size_t step_elements = Lanes::run;
    static constexpr int quads = 1;
    template <class Bytes>
    Bytes quad(Bytes vector, int) const {
        return vector;
    }
};

/// `Tiles` x 16 channels x a chunk of K.
template <class Lanes, int Tiles>
class PanelSource {
public:
    static constexpr int tiles = Tiles;
    static constexpr bool is_panel = true;
    static constexpr std::size_t channels = Tiles * tile_channels;
    static constexpr std::size_t numbers = channels * Lanes::rows;  ///< scales of a group
    using Codes = PanelField<Lanes>;

    /// Bytes of the memory that it needs, aligned to 64, for chunks of `chunk` elements of K.
    static constexpr std::size_t bytes(const WeightsView& w, std::size_t chunk) {
        return (chunk + 8) * channels + 3 * groups(w, chunk) * numbers * sizeof(float);
    }

    PanelSource(const KernelCall& call, std::size_t chunk, void* memory)
        : w_(call.w),
          codes_(static_cast<std::uint8_t*>(memory)),
          scales_(reinterpret_cast<float*>(codes_ + (chunk + 8) * channels)),
          offsets_(scales_ + groups(call.w, chunk) * numbers),
          zeros_(reinterpret_cast<std::int32_t*>(offsets_ + groups(call.w, chunk) * numbers)) {}

    /// Unpacks [k, k_end) of channels [n, n + 16 * Tiles); k is a multiple of 8.
    template <class Field>
    void fill(const KernelCall& call, const Field& field, std::size_t n, std::size_t k, std::size_t k_end) {
        first_k_ = k;
        first_group_ = k / w_.group_elements;
        for (int tile = 0; tile < Tiles; ++tile)
            fill_tile(
                StreamSource<Lanes, Field>(call, field, n + static_cast<std::size_t>(tile) * tile_channels),
                static_cast<std::size_t>(tile), k, k_end);
    }

    // Of a group, for register c of its channels.
    [[nodiscard]] typename Lanes::Floats scale(std::size_t group, int c) const {
        return Lanes::load(scales_ + place(group, c));
    }
    [[nodiscard]] typename Lanes::Floats offset(std::size_t group, int c) const {
        return Lanes::load(offsets_ + place(group, c));
    }
    [[nodiscard]] typename Lanes::Ints zero(std::size_t group, int c) const {
        return Lanes::load_ints(zeros_ + place(group, c));
    }
    [[nodiscard]] std::int32_t middle() const { return middle_; }
    [[nodiscard]] const std::uint8_t* codes(std::size_t, std::size_t k) const {
        return codes_ + (k - first_k_) * channels;
    }
    [[nodiscard]] PanelField<Lanes> field() const { return {}; }

private:
    static constexpr std::size_t groups(const WeightsView& w, std::size_t chunk) {
        return chunk / w.group_elements + 2;  // both ends of a chunk may cut one
    }
    [[nodiscard]] std::size_t place(std::size_t group, int c) const {
        return (group - first_group_) * numbers + static_cast<std::size_t>(c) * Lanes::channels * Lanes::rows;
    }

    template <class Field>
    void fill_tile(const StreamSource<Lanes, Field>& source, std::size_t tile, std::size_t k,
                   std::size_t k_end) {
        middle_ = source.middle();
        while (k < k_end) {
            const std::size_t group = k / w_.group_elements;
            const std::size_t end = smaller(k_end, (group + 1) * w_.group_elements);
            for (int c = 0; c < Lanes::registers; ++c) {
                const std::size_t at = place(group, c) + tile * tile_channels * Lanes::rows;
                Lanes::store(scales_ + at, source.scale(group, c));
                if (w_.has_offsets) Lanes::store(offsets_ + at, source.offset(group, c));
                if (w_.has_zeros) Lanes::store_ints(zeros_ + at, source.zero(group, c));
            }
            const std::uint8_t* from = source.codes(group, k);
            std::uint8_t* to = codes_ + (k - first_k_) * channels + tile * Lanes::run / 4 * vector_bytes;
            if constexpr (Lanes::run == 8) {
                fill_runs<Field>(source.field(), from, to, k, end);
                k = end;
                continue;
            }
            for (; k < end; k += Field::step_elements, from += vector_bytes) {
                for (int q = 0; q < Field::quads; ++q) Lanes::fetch(to + (8 + q) * Tiles * vector_bytes);
                for (int q = 0; q < Field::quads; ++q, to += Tiles * vector_bytes)
                    for (int c = 0; c < Lanes::registers; ++c) {
                        const std::size_t at = static_cast<std::size_t>(c) * 4 * Lanes::channels;
                        Lanes::store_bytes(to + at, source.field().quad(Lanes::load_bytes(from + at), q));
                    }
            }
            k = end;
        }
    }

    /// Runs of eight from fours of K, which stand in one vector or in two. (Four that W lacks at the end of a row are
    /// others: they meet zeros of x.)
    template <class Field>
    static void fill_runs(const Field& field, const std::uint8_t* from, std::uint8_t* to, std::size_t k,
                          std::size_t end) {
        constexpr bool two_vectors = Field::quads == 1;
        for (; k < end;
             k += 8, from += (two_vectors ? 2 : 1) * vector_bytes, to += 2 * Tiles * vector_bytes) {
            const std::uint8_t* const second = two_vectors && k + 4 < end ? from + vector_bytes : from;
            for (std::size_t at = 0; at < vector_bytes; at += Lanes::register_bytes)
                Lanes::store_runs(to + 2 * at, field.quad(Lanes::load_bytes(from + at), 0),
                                  field.quad(Lanes::load_bytes(second + at), Field::quads - 1));
        }
    }

    const WeightsView& w_;
    std::uint8_t* codes_;
    float *scales_, *offsets_;
    std::int32_t* zeros_;
    std::size_t first_k_ = 0, first_group_ = 0;
    std::int32_t middle_ = 0;
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
