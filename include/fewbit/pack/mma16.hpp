// Packing for tensor cores: integer codes, in fields of 4 and 8 bits, codes of tables of 16 and fp8-e4m3 in the order of
// mma16_order.hpp, with scales, zero points and offsets beside them. Rows and columns are padded to whole tiles and chunks: behind N scales are 0, behind K x is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/core/executor.hpp"
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
        if (format.is_codebook()) return format.bits == 8 ? mma16::Codes::fp8 : mma16::Codes::table4;
        return format.bits == 8 ? mma16::Codes::int8 : mma16::Codes::int4;
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
    if (held.element != Element::integer && held.element != Element::fp8_e4m3 &&
        !(held.is_codebook() && held.bits == 4))
        return "holds integer codes, tables of 16 and fp8-e4m3 only";
    if (held.granularity == Granularity::group && held.group % mma16::half_inputs != 0)
        return text("needs groups of a multiple of ", mma16::half_inputs, ", not of ", held.group);
    if (held.scale != Scalar::f32 && held.scale != Scalar::f16 && held.scale != Scalar::bf16 &&
        held.scale != Scalar::e8m0)
        return text("has no scales of ", name(held.scale));
    return {};
}

namespace detail {

/// For each code of a chunk, in the order of its bits: where it stands among rows of `stride` codes.
[[nodiscard]] inline std::vector<std::uint32_t> mma16_sources(mma16::Codes kind, std::size_t stride) {
    const unsigned bits = mma16::bits_of(kind), inputs = mma16::chunk_inputs(bits);
    std::vector<std::uint32_t> sources(mma16::chunk_bytes * 8 / bits);
    for (unsigned channel = 0; channel < mma16::tile_channels; ++channel)
        for (unsigned input = 0; input < inputs; ++input)
            sources[mma16::bit_at(kind, channel, input) / bits] =
                static_cast<std::uint32_t>(channel * stride + input);
    return sources;
}

/// Where `out` keeps the parameters of group g of channel r.
[[nodiscard]] inline std::size_t mma16_parameter(const Mma16Matrix& out, std::size_t r, std::size_t g) {
    const std::size_t c = r % mma16::tile_channels;
    return (r / mma16::tile_channels * out.groups + g) * mma16::tile_channels + c % 8 * 2 + c / 8;
}

/// A matrix of `stored`, n x k, without codes, its parameters 0. Errors: as pack_mma16.
[[nodiscard]] inline Result<Mma16Matrix> mma16_frame(const Format& stored, std::size_t n, std::size_t k) {
    if (const std::string why = mma16_refuses(stored); !why.empty())
        return fail(ErrorKind::unsupported, "order mma16 ", why, " (", name(stored), ")");
    Mma16Matrix out;
    const Format format = mma16_format(stored);
    out.format = format;
    out.n = n, out.k = k;
    out.tiles = ceil_div(n, mma16::tile_channels);
    out.chunks = ceil_div(k, std::size_t{mma16::chunk_inputs(static_cast<unsigned>(format.bits))});
    const std::size_t halves = out.padded_k() / mma16::half_inputs;
    out.halves_per_group = format.granularity == Granularity::group ? format.group / mma16::half_inputs
                                                                    : std::max<std::size_t>(1, halves);
    out.groups = ceil_div(halves, out.halves_per_group);
    if (out.padded_k() > std::numeric_limits<std::uint32_t>::max() / mma16::tile_channels)
        return fail(ErrorKind::unsupported, "rows of ", k, " are too long for order mma16");
    const auto zeroed = [&](Scalar type) {
        auto tensor = Tensor::allocate(type, {out.tiles, out.groups, mma16::tile_channels});
        if (tensor) std::ranges::fill(tensor->mutable_bytes(), std::byte{0});
        return tensor;
    };
    auto scales = zeroed(format.scale);
    if (!scales) return Unexpected{std::move(scales).error()};
    out.scales = *std::move(scales);
    if (format.offset != Offset::none) {
        auto offsets = zeroed(format.offset == Offset::integer ? Scalar::u8 : format.scale);
        if (!offsets) return Unexpected{std::move(offsets).error()};
        out.offsets = *std::move(offsets);
    }
    return out;
}

/// The parameters of group g of channel r. `zero`: the code of 0.
inline void set_mma16_parameters(Mma16Matrix& out, std::size_t r, std::size_t g, float scale, int zero,
                                 float offset) {
    const std::size_t element = size_bytes(out.format.scale), at = mma16_parameter(out, r, g);
    store_float(out.format.scale, scale, out.scales.mutable_bytes().data() + at * element);
    if (out.format.offset == Offset::integer) out.offsets.mutable_bytes()[at] = static_cast<std::byte>(zero);
    if (out.format.offset == Offset::real)
        store_float(out.format.scale, offset, out.offsets.mutable_bytes().data() + at * element);
}

/// Those of all groups of channel r.
inline void pack_mma16_scales(const QuantizedMatrix& w, std::size_t r, Mma16Matrix& out) {
    // mxfp4 has scales of half the size for a table of twice.
    const float ratio = w.format().is_block() && out.format.is_codebook()
                            ? w.format().codebook()[7] / out.format.codebook()[7]
                            : 1.0f;
    for (std::size_t g = 0; g < w.groups_per_row(); ++g)
        set_mma16_parameters(out, r, g, ratio * w.scale(r, g),
                             out.format.offset == Offset::integer ? w.zero(r, g) : 0,
                             out.format.offset == Offset::real ? w.offset(r, g) : 0.0f);
}

}  // namespace detail

/// Errors: a format that mma16_refuses; rows that are too long to count; no memory.
[[nodiscard]] inline Result<Mma16Matrix> pack_mma16(const QuantizedMatrix& w, ExecutionContext context = {}) {
    auto frame = detail::mma16_frame(w.format(), w.n(), w.k());
    if (!frame) return frame;
    Mma16Matrix out = *std::move(frame);
    auto codes = Tensor::allocate(Scalar::u8, {out.tiles, out.chunks, mma16::chunk_bytes});
    if (!codes) return Unexpected{std::move(codes).error()};
    std::ranges::fill(codes->mutable_bytes(), std::byte{0});
    out.codes = *std::move(codes);

    // A row is copied up to here, so that every chunk of a tile is a square of codes.
    const std::size_t stride = out.padded_k();
    const auto bits = static_cast<unsigned>(out.format.bits);
    const std::size_t chunk = mma16::chunk_inputs(bits);
    const std::vector<std::uint32_t> sources = detail::mma16_sources(out.kind(), stride);
    auto memory = Tensor::allocate(Scalar::u8, {context.workers(), mma16::tile_channels, stride});
    if (!memory) return Unexpected{std::move(memory).error()};
    auto* const to = reinterpret_cast<std::uint8_t*>(out.codes.mutable_bytes().data());
    context.parallel_for(out.tiles, [&](std::size_t tile, std::size_t worker) {
        const auto rows = memory->as_mutable<std::uint8_t>().subspan(worker * mma16::tile_channels * stride,
                                                                     mma16::tile_channels * stride);
        std::ranges::fill(rows, std::uint8_t{0});
        for (std::size_t c = 0; c < mma16::tile_channels && tile * mma16::tile_channels + c < out.n; ++c) {
            const std::size_t r = tile * mma16::tile_channels + c;
            w.unpack(r, 0, rows.subspan(c * stride, out.k));
            detail::pack_mma16_scales(w, r, out);
        }
        for (std::size_t b = 0; b < out.chunks; ++b) {
            std::uint8_t* const block = to + (tile * out.chunks + b) * mma16::chunk_bytes;
            const std::uint8_t* const from = rows.data() + b * chunk;
            for (std::size_t i = 0; i < mma16::chunk_bytes; ++i)
                block[i] =
                    bits == 8
                        ? from[sources[i]]
                        : static_cast<std::uint8_t>(from[sources[2 * i]] | from[sources[2 * i + 1]] << 4);
        }
    });
    return out;
}

}  // namespace fewbit::inline v0
