// Weights in Layout::tile16 as tiles of kernels read them: straight from the stream of one tile of channels, or from a
// panel, a chunk of K of several tiles side by side, unpacked once for many rows of x.
//
//   panel   codes       [k / 4][tile][64]         bytes, four of K for each channel
//                                                 (products of words: [k / 4][tile][128], k and k + 2 of 8 channels, k + 1 and k + 3)
//           scales      [group][tile][16]         f32; offsets and zeros (int32) likewise
//
// For products of matrices (Lanes::rows == 2) codes are [k / 8][tile][128], eight of K for each channel, and each pair of
// scales stands twice.
#pragma once

#include "kernels/tile16/stream.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Whether x takes two bytes for each code, made of it beside the products (Chunk::words).
template <class Lanes>
constexpr bool widens_x = sizeof(typename Lanes::X) == 2;
/// Whether codes of W are words of 16 bits too; and bytes of a code in a panel.
template <class Lanes>
constexpr bool multiplies_words = requires {
    typename Lanes::Words;
};
template <class Lanes>
constexpr int panel_code_bytes = multiplies_words<Lanes> ? 2 : 1;

/// Codes of a panel, unpacked.
template <class Lanes>
struct PanelField {
    using Operand = typename Lanes::Bytes;
    struct Steps : Fields<Lanes, 8> {
        static constexpr std::size_t step_elements = Lanes::depth;
    };
    static constexpr int quads = 1;
};

/// Codes of a panel as words.
template <class Lanes>
requires multiplies_words<Lanes>
struct PanelField<Lanes> {
    using Operand = typename Lanes::Words;
    struct Steps {
        using Step = Operand;
        static constexpr int vectors = 1;
        static constexpr std::size_t step_elements = Lanes::depth, step_bytes = 2 * vector_bytes;
        [[gnu::always_inline]] static Step read(const std::uint8_t* step, int c, auto load) {
            const std::uint8_t* const at = step + 2 * c * static_cast<int>(Lanes::register_bytes);
            return {load(at), load(at + Lanes::register_bytes)};
        }
    };
    static constexpr int quads = 1;
};

/// `Tiles` x 16 channels x a chunk of K.
template <class Lanes, int Tiles>
class PanelSource {
public:
    static constexpr int tiles = Tiles;
    static constexpr bool is_panel = true;
    static constexpr Scales known = Scales::any;
    static constexpr bool is_often(int rows) {
        return Tiles == Lanes::panel_tiles && rows == static_cast<int>(activation_tile_rows);
    }
    static constexpr std::size_t channels = Tiles * tile_channels;
    static constexpr std::size_t code_bytes = panel_code_bytes<Lanes> * channels;  ///< for each of K
    static constexpr std::size_t numbers = Lanes::rows * channels;                 ///< scales of a group
    using Codes = PanelField<Lanes>;

    /// Bytes of the memory that it needs, aligned to 64, for chunks of `chunk` elements of K.
    static constexpr std::size_t bytes(const WeightsView& w, std::size_t chunk) {
        return (chunk + step_overhang) * code_bytes + 3 * groups(w, chunk) * numbers * sizeof(float);
    }

    PanelSource(const KernelCall& call, std::size_t chunk, void* memory)
        : w_(call.w),
          codes_(static_cast<std::uint8_t*>(memory)),
          scales_(reinterpret_cast<float*>(codes_ + (chunk + step_overhang) * code_bytes)),
          offsets_(scales_ + groups(call.w, chunk) * numbers),
          zeros_(reinterpret_cast<std::int32_t*>(offsets_ + groups(call.w, chunk) * numbers)) {}

    /// Unpacks [k, k_end) of channels [n, n + 16 * Tiles); k is where a step begins.
    template <class Field>
    void fill(const KernelCall& call, const Field& field, std::size_t n, std::size_t k, std::size_t k_end) {
        const Places to = places(w_, k);
        for (int tile = 0; tile < Tiles; ++tile)
            fill_tile(
                StreamSource<Lanes, Field>(call, field, n + static_cast<std::size_t>(tile) * tile_channels),
                to, static_cast<std::size_t>(tile), k, k_end);
    }

    /// Where things stand in a panel from k on: codes in bytes, parameters in numbers.
    struct Places {
        std::size_t first_k, first_group;

        [[nodiscard]] ParametersPlace parameters(std::size_t group) const {
            return {static_cast<std::uint32_t>((group - first_group) * numbers)};
        }
        [[nodiscard]] std::size_t codes(ParametersPlace, std::size_t, std::size_t k) const {
            return (k - first_k) * code_bytes;
        }
    };
    static Places places(const WeightsView& w, std::size_t k) { return {k, k / w.group_elements}; }

    // Of a group, for register c of its channels; `at`: where its parameters are.
    [[nodiscard]] typename Lanes::Floats scale(ParametersPlace at, int c) const {
        return Lanes::load(scales_ + at.group + channel(c));
    }
    [[nodiscard]] typename Lanes::Floats offset(ParametersPlace at, int c) const {
        return Lanes::load(offsets_ + at.group + channel(c));
    }
    [[nodiscard]] typename Lanes::Ints zero(ParametersPlace at, int c) const {
        return Lanes::load_ints(zeros_ + at.group + channel(c));
    }
    [[nodiscard]] static bool has_two_levels() { return false; }
    [[nodiscard]] std::int32_t middle() const { return middle_; }
    [[nodiscard]] const std::uint8_t* codes(std::size_t at) const { return codes_ + at; }
    [[nodiscard]] static std::size_t apart() { return 0; }
    [[nodiscard]] static std::size_t across() { return tile_channels; }
    [[nodiscard]] PanelField<Lanes> field() const { return {}; }

private:
    static constexpr std::size_t groups(const WeightsView& w, std::size_t chunk) {
        return chunk / w.group_elements + 2;  // both ends of a chunk may cut one
    }
    static std::size_t channel(int c) { return static_cast<std::size_t>(c) * Lanes::channels * Lanes::rows; }

    template <class Field>
    void fill_tile(const StreamSource<Lanes, Field>& source, const Places& places, std::size_t tile,
                   std::size_t k, std::size_t k_end) {
        middle_ = source.middle();
        for (std::size_t group = k / w_.group_elements; k < k_end; ++group) {
            const ParametersPlace parameters = source.places().parameters(group),
                                  stored = places.parameters(group);
            const std::size_t end = smaller(k_end, (group + 1) * w_.group_elements);
            for (int c = 0; c < Lanes::registers; ++c) {
                const std::size_t at = stored.group + tile * tile_channels * Lanes::rows + channel(c);
                Lanes::store(scales_ + at, source.scale(parameters, c));
                if (w_.has_offsets) Lanes::store(offsets_ + at, source.offset(parameters, c));
                if (w_.has_zeros) Lanes::store_ints(zeros_ + at, source.zero(parameters, c));
            }
            const std::uint8_t* from = source.codes(source.places().codes(parameters, group, k));
            constexpr std::size_t wide = multiplies_words<Lanes> ? 2 : 1;
            std::uint8_t* to =
                codes_ + places.codes(stored, group, k) + wide * tile * tile_channels * Lanes::depth;
            if constexpr (Lanes::depth == 8) {
                fill_runs<Field>(source.field(), from, to, k, end);
                k = end;
                continue;
            }
            for (; k < end; k += Field::Steps::step_elements, from += Field::Steps::step_bytes) {
                constexpr int parts = Field::quads;
                constexpr std::size_t part_bytes = wide * Tiles * vector_bytes;
                constexpr std::size_t written = parts * Field::Steps::vectors * part_bytes;
                for (std::size_t line = 0; line < written; line += Tiles * vector_bytes)
                    Lanes::fetch(to + 16 * part_bytes + line);
                for (int c = 0; c < Lanes::registers; ++c) {
                    const auto step = Field::Steps::read(from, c, Lanes::load_bytes);
                    std::uint8_t* at = to + c * static_cast<int>(wide * Lanes::register_bytes);
                    for_each<Field::Steps::vectors>([&](auto v) {
                        const auto vector = Field::Steps::template vector<v>(step);
                        for (int part = 0; part < parts; ++part, at += part_bytes)
                            Lanes::store_bytes(at, source.field().quad(vector, part));
                    });
                }
                to += written;
            }
            k = end;
        }
    }

    /// Runs of eight from fours of K, which stand in one step or in two. (Four that W lacks at the end of a row are
    /// others: they meet zeros of x.)
    template <class Field>
    static void fill_runs(const Field& field, const std::uint8_t* from, std::uint8_t* to, std::size_t k,
                          std::size_t end) {
        using Steps = typename Field::Steps;
        constexpr int registers = vector_bytes / Lanes::register_bytes, quads = Steps::vectors * Field::quads;
        constexpr std::size_t run_bytes = 2 * Tiles * vector_bytes;
        if constexpr (quads == 1) {
            for (; k < end; k += 8, from += 2 * vector_bytes, to += run_bytes) {
                const std::uint8_t* const second = k + 4 < end ? from + vector_bytes : from;
                for (int c = 0; c < registers; ++c)
                    Lanes::store_runs(to + 2 * c * static_cast<int>(Lanes::register_bytes),
                                      field.quad(Steps::read(from, c, Lanes::load_bytes), 0),
                                      field.quad(Steps::read(second, c, Lanes::load_bytes), 0));
            }
        } else {
            for (; k < end; k += Steps::step_elements, from += Steps::step_bytes, to += quads / 2 * run_bytes)
                for (int c = 0; c < registers; ++c) {
                    const auto step = Steps::read(from, c, Lanes::load_bytes);
                    for_each<quads / 2>([&](auto run) {
                        constexpr int first = 2 * run, second = first + 1;
                        Lanes::store_runs(
                            to + run * run_bytes + 2 * c * static_cast<int>(Lanes::register_bytes),
                            field.quad(Steps::template vector<first / Field::quads>(step),
                                       first % Field::quads),
                            field.quad(Steps::template vector<second / Field::quads>(step),
                                       second % Field::quads));
                    });
                }
        }
    }

    const WeightsView& w_;
    std::uint8_t* codes_;
    float *scales_, *offsets_;
    std::int32_t* zeros_;
    std::int32_t middle_ = 0;
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
