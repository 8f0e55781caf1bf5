// Packing for tensor cores: integer codes, in fields of 4 and 8 bits, and codes of tables of 16 in the order of mma16_order.hpp, with scales, zero points and offsets beside
// them. Rows and columns are padded to whole tiles and chunks: behind N scales are 0, behind K x is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/pack/layout.hpp"
#include "fewbit/pack/mma16_order.hpp"

namespace fewbit::inline v0 {

/// A matrix in order mma16, on the host or on a device.
struct Mma16Matrix {
    Format format;  ///< mma16_format of the matrix's
    std::size_t n = 0, k = 0;
    std::size_t tiles = 0;             ///< of 16 channels
    std::size_t chunks = 0;            ///< of a tile
    std::size_t groups = 0;            ///< of a row, as many as the padded row has
    std::size_t halves_per_group = 1;  ///< runs of 32 input channels that share a scale
    Tensor codes;                      ///< u8 (tiles, chunks, 512)
    Tensor scales;   ///< of format.scale (tiles, groups, 16): channels g, g + 8 side by side
    Tensor offsets;  ///< zero points as u8, or offsets, in the order of scales; or empty

    [[nodiscard]] mma16::Codes kind() const noexcept {
        return format.is_codebook() ? mma16::Codes::table4
               : format.bits == 8   ? mma16::Codes::int8
                                    : mma16::Codes::int4;
    }
    /// Input channels with the padding.
    [[nodiscard]] std::size_t padded_k() const noexcept {
        return chunks * mma16::chunk_inputs(static_cast<unsigned>(format.bits));
    }
    [[nodiscard]] std::size_t size_bytes() const noexcept {
        return codes.size_bytes() + scales.size_bytes() + offsets.size_bytes();
    }
};

/// What the order holds of a format: the same values. Blocks of ggml become codes with scales beside them, of f32 where they have two
/// levels, and doubly quantized scales bf16. Integer codes of 2 and 3 bits lie in fields of 4, those of 5 to 7 in fields of 8, with their
/// zero points stored.
[[nodiscard]] inline Format mma16_format(const Format& format) noexcept {
    Format held = tile16_format(format);
    if (held.element != Element::integer || held.bits == 4 || held.bits == 8) return held;
    held.bits = held.bits < 4 ? 4 : 8;
    held.narrow = false;
    if (held.offset == Offset::none) held.offset = Offset::integer;
    return held;
}

/// Why order mma16 cannot hold a format; empty: it can.
[[nodiscard]] inline std::string mma16_refuses(const Format& format) {
    const Format held = mma16_format(format);
    if (held.element != Element::integer && !(held.is_codebook() && held.bits == 4))
        return "holds integer codes and tables of 16 only";
    if (held.granularity == Granularity::group && held.group % mma16::half_inputs != 0)
        return text("needs groups of a multiple of ", mma16::half_inputs, ", not of ", held.group);
    if (held.scale != Scalar::f32 && held.scale != Scalar::f16 && held.scale != Scalar::bf16 &&
        held.scale != Scalar::e8m0)
        return text("has no scales of ", name(held.scale));
    return {};
}

/// Errors: a format that mma16_refuses; no memory.
[[nodiscard]] inline Result<Mma16Matrix> pack_mma16(const QuantizedMatrix& w) {
    if (const std::string why = mma16_refuses(w.format()); !why.empty())
        return fail(ErrorKind::unsupported, "order mma16 ", why, " (", name(w.format()), ")");
    const Format format = mma16_format(w.format());
    // mxfp4 has scales of half the size for a table of twice.
    const float ratio = w.format().is_block() && format.is_codebook()
                            ? w.format().codebook()[7] / format.codebook()[7]
                            : 1.0f;
    Mma16Matrix out;
    const auto bits = static_cast<unsigned>(format.bits);
    const std::size_t chunk = mma16::chunk_inputs(bits);
    out.format = format;
    out.n = w.n(), out.k = w.k();
    out.tiles = ceil_div(out.n, mma16::tile_channels);
    out.chunks = ceil_div(out.k, chunk);
    const std::size_t halves = out.padded_k() / mma16::half_inputs;
    out.halves_per_group = format.granularity == Granularity::group ? format.group / mma16::half_inputs
                                                                    : std::max<std::size_t>(1, halves);
    out.groups = ceil_div(halves, out.halves_per_group);

    const auto zeroed = [](Scalar type, Tensor::Shape shape) {
        auto tensor = Tensor::allocate(type, std::move(shape));
        if (tensor) std::ranges::fill(tensor->mutable_bytes(), std::byte{0});
        return tensor;
    };
    auto codes = zeroed(Scalar::u8, {out.tiles, out.chunks, mma16::chunk_bytes});
    if (!codes) return Unexpected{std::move(codes).error()};
    auto scales = zeroed(format.scale, {out.tiles, out.groups, mma16::tile_channels});
    if (!scales) return Unexpected{std::move(scales).error()};
    out.codes = *std::move(codes), out.scales = *std::move(scales);
    if (format.offset != Offset::none) {
        auto offsets = zeroed(format.offset == Offset::integer ? Scalar::u8 : format.scale,
                              {out.tiles, out.groups, mma16::tile_channels});
        if (!offsets) return Unexpected{std::move(offsets).error()};
        out.offsets = *std::move(offsets);
    }

    const std::size_t element = size_bytes(format.scale);
    std::vector<std::uint8_t> rows(mma16::tile_channels * out.padded_k());
    auto* const to = reinterpret_cast<std::uint8_t*>(out.codes.mutable_bytes().data());
    for (std::size_t tile = 0; tile < out.tiles; ++tile) {
        std::ranges::fill(rows, std::uint8_t{0});
        for (std::size_t c = 0; c < mma16::tile_channels && tile * mma16::tile_channels + c < out.n; ++c) {
            const std::size_t r = tile * mma16::tile_channels + c;
            w.unpack(r, 0, {rows.data() + c * out.padded_k(), out.k});
            for (std::size_t g = 0; g < w.groups_per_row(); ++g) {
                const std::size_t at = (tile * out.groups + g) * mma16::tile_channels + c % 8 * 2 + c / 8;
                store_float(format.scale, ratio * w.scale(r, g),
                            out.scales.mutable_bytes().data() + at * element);
                if (format.offset == Offset::integer)
                    out.offsets.mutable_bytes()[at] = static_cast<std::byte>(w.zero(r, g));
                if (format.offset == Offset::real)
                    store_float(format.scale, w.offset(r, g),
                                out.offsets.mutable_bytes().data() + at * element);
            }
        }
        for (std::size_t b = 0; b < out.chunks; ++b) {
            std::uint8_t* const block = to + (tile * out.chunks + b) * mma16::chunk_bytes;
            for (unsigned lane = 0; lane < mma16::lanes; ++lane)
                for (unsigned half = 0; half < mma16::halves_per_chunk(bits); ++half)
                    for (unsigned i = 0; i < 16; ++i) {
                        const unsigned step = i >> 3, reg = i >> 1 & 3, e = i & 1;
                        const mma16::Place place = mma16::place_of(lane, half, step, reg, e);
                        const unsigned bit = mma16::bit_of(out.kind(), lane, half, step, reg, e);
                        const std::uint8_t code =
                            rows[place.channel * out.padded_k() + b * chunk + place.input];
                        block[bit / 8] = static_cast<std::uint8_t>(block[bit / 8] | code << bit % 8);
                    }
        }
    }
    return out;
}

}  // namespace fewbit::inline v0
