// Pieces of W as tiles of AMX (int8_matrices.hpp): codes of 32 channels as signed bytes, their zero points taken off. Codes of 8 bits
// are tiles as they stand in the stream, unsigned.
//
//   panel    codes    [step][channels / 16][step elements / 4][16][4]   of one piece
//            scales   [32]   f32; offsets and zero points (int32) of codes of 8 bits likewise
#pragma once

#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/matrix_pieces.hpp"

namespace fewbit::inline v0::kernels {
namespace {

constexpr std::size_t matrix_channels = 2 * tile_channels;

/// Codes of 8 bits are tiles as they stand; others are unpacked, and their zero points taken off then.
template <class Source>
constexpr bool is_tile = Source::Codes::Steps::bits == 8;

/// A piece of W, unpacked.
struct MatrixPanel {
    std::uint8_t* codes;
    float *scales, *offsets;
    std::int32_t* zeros;
};

struct MatrixScratch {
    MatrixScratch(const KernelCall& call, std::byte* memory)
        : cut(call),
          pieces(cut.pieces(call.w.k)),
          rows(block_rows(call, cut.is_long())),
          part_bytes(tile_channels * cut.step()) {
        ScratchMemory scratch(memory);
        for (MatrixPanel& panel : panels)
            panel = {scratch.take<std::uint8_t>(2 * cut.steps() * part_bytes),
                     scratch.take<float>(matrix_channels), scratch.take<float>(matrix_channels),
                     scratch.take<std::int32_t>(matrix_channels)};
        for (std::int32_t*& of_tile : sums) of_tile = scratch.take<std::int32_t>(amx_rows * matrix_channels);
        totals = scratch.take<float>(rows * matrix_channels);
        const std::size_t tiles = rows / amx_rows;
        x = {scratch.take<std::int8_t>(tiles * MatrixRows::code_bytes(cut, pieces)),
             scratch.take<float>(tiles * pieces * amx_rows),
             scratch.take<std::int32_t>(tiles * pieces * amx_rows),
             scratch.take<float>(tiles * pieces * amx_rows), pieces};
        bytes = scratch.bytes();
    }

    MatrixCut cut;
    std::size_t pieces;      ///< of a row
    std::size_t rows;        ///< of a block: whole tiles
    std::size_t part_bytes;  ///< of a step of 16 channels
    // Of two in turn: while one is multiplied, the other is scaled.
    MatrixPanel panels[2];
    std::int32_t* sums[4];  // (with long pieces, of two tiles of rows)
    float* totals;
    MatrixRows x;
    std::size_t bytes;

private:
    /// Rows whose activations stay in L2 while all channels pass, and whose totals stay in L1 (long pieces touch them seldom).
    static std::size_t block_rows(const KernelCall& call, bool is_long) {
        const std::size_t block_bytes = (is_long ? 1024 : 512) * 1024, most = is_long ? 256 : 128;
        const std::size_t least = call.w.k <= 65536 ? 64 : amx_rows;
        const std::size_t tiles = smaller(block_bytes / call.w.k, most) / amx_rows;
        const std::size_t rows = tiles * amx_rows < least ? least : tiles * amx_rows;
        return smaller(rows, (call.x.m + amx_rows - 1) / amx_rows * amx_rows);
    }
};

/// Where tiles of W are loaded from.
struct MatrixCodes {
    const std::uint8_t* parts[2];  ///< of 16 channels
    std::size_t step_bytes;        ///< from a step to the next
};

/// Codes of [begin, end), from `from` in the stream of `source`, as signed bytes without their zero points.
template <class Source>
void unpack_codes(const Source& source, const std::uint8_t* from, LanesAmx::Bytes taken_off,
                  std::size_t begin, std::size_t end, const MatrixScratch& scratch, std::uint8_t* to) {
    using Steps = typename Source::Codes::Steps;
    const auto field = source.field();
    const std::size_t step_elements = scratch.cut.step();
    for (std::size_t k = begin; k < end; k += step_elements, to += 2 * scratch.part_bytes) {
        const std::size_t step_end = smaller(end, k + step_elements);
        std::uint8_t* vector_to = to;
        for (std::size_t at = k; at < step_end; at += Steps::step_elements, from += Steps::step_bytes) {
            for (std::size_t line = 0; line < Steps::step_bytes; line += vector_bytes)
                LanesAmx::fetch_ahead(from + stream_ahead + line);
            const auto step = Steps::read(from, 0, LanesAmx::load_in_order);
            for_each<Steps::vectors>([&](auto v) {
                const auto vector = Steps::template vector<v>(step);
                for_each<Source::Codes::quads>([&](auto q) {
                    LanesAmx::store_bytes(vector_to,
                                          LanesAmx::subtract_bytes(field.quad(vector, q), taken_off));
                    vector_to += vector_bytes;
                });
            });
        }
    }
}

/// [begin, end) of the tile of channels of `source`, as `part` of two: its numbers go to the panel, and its codes where they are
/// not tiles where they are (or not whole ones).
template <class Source>
void prepare_piece(const WeightsView& w, const Source& source, std::size_t begin, std::size_t end,
                   const MatrixScratch& scratch, const MatrixPanel& panel, std::size_t part,
                   MatrixCodes& codes) {
    const std::size_t group = begin / w.group_elements, numbers = part * tile_channels;
    const ParametersPlace parameters = source.places().parameters(group);
    const std::size_t place = source.places().codes(parameters, group, begin);
    LanesAmx::store(panel.scales + numbers, source.scale(parameters, 0));
    if (w.has_offsets) LanesAmx::store(panel.offsets + numbers, source.offset(parameters, 0));
    const auto zero = w.has_zeros ? source.zero(parameters, 0) : LanesAmx::set_int(source.middle());
    if (is_tile<Source> && w.has_zeros) LanesAmx::store_ints(panel.zeros + numbers, zero);
    if (begin % w.group_elements == 0)
        source.each_line_of(parameters, place,
                            [](const std::uint8_t* line) { LanesAmx::fetch_ahead(line + stream_ahead); });
    const std::uint8_t* const from = source.codes(place);
    if (is_tile<Source> && (end - begin) % scratch.cut.step() == 0) {
        codes.parts[part] = from;
        codes.step_bytes = scratch.part_bytes;
        for (std::size_t line = 0; line < (end - begin) * tile_channels; line += vector_bytes)
            LanesAmx::fetch_ahead(from + stream_ahead + line);
        return;
    }
    codes.parts[part] = panel.codes + part * scratch.part_bytes;
    codes.step_bytes = 2 * scratch.part_bytes;
    unpack_codes(source, from, is_tile<Source> ? LanesAmx::zero_ints() : LanesAmx::repeat_byte(zero), begin,
                 end, scratch, panel.codes + part * scratch.part_bytes);
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
