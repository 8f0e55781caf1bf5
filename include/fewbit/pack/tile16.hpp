// Writing a tile of Layout::tile16 (drawn in layout.hpp) from a matrix of rows or of ggml's blocks: parameters here, codes by
// tile16_codes.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/pack/tile16_codes.hpp"

namespace fewbit::inline v0::detail {

/// Writes one channel of a tile of a matrix of blocks, whose codes take `Bits` there; missing channels are cleared beforehand.
/// Groups divide blocks and blocks K, so that all groups are full.
template <int Bits>
void pack_tile16_channel(const QuantizedMatrix& source, const Tile16Shape& shape, std::size_t row,
                         std::size_t c, std::uint8_t* out) noexcept {
    // What stays the same is copied: what is written might be any of it, as far as compilers know.
    const Format twin = tile16_format(source.format());
    const ggml::BlockTraits t = ggml::traits(source.format().block);
    const ggml::HalfPlaces halves = ggml::half_places(t.type);
    const std::size_t blocks = source.k() / t.elements, groups = t.elements / t.group;
    const int group_bits = std::countr_zero(t.group);  // a power of two: divisions take too long
    const std::size_t group_bytes = shape.group_bytes, parameter_bytes = shape.parameter_bytes;
    const std::size_t super_bytes = shape.super_parameter_bytes, scale_bytes = size_bytes(twin.scale);
    const bool has_offsets = twin.offset == Offset::real;
    // mxfp4 and nvfp4 have scales of half the size for tables of twice.
    const float ratio = twin.is_codebook() ? source.format().codebook()[7] / twin.codebook()[7] : 1.0f;
    const bool stored_halves = twin.scale == Scalar::f16 && ratio == 1.0f;  // as they are in the block
    const auto* block = reinterpret_cast<const std::uint8_t*>(source.blocks.bytes().data()) +
                        row * ggml::row_bytes(t.type, source.k());
    for (std::size_t b = 0; b < blocks; ++b, block += t.bytes) {
        if (super_bytes != 0) {
            std::memcpy(out + 2 * c, block + *halves.scale, 2);
            if (halves.minimum) {
                std::uint8_t* const minimum = out + 2 * (tile16_channels + c);
                std::memcpy(minimum, block + *halves.minimum, 2);
                minimum[1] ^= 0x80;  // its sign
            }
            out += super_bytes;
        }
        for (std::size_t g = 0; g < groups; ++g) {
            std::uint8_t* const to = out + g * group_bytes;
            auto* const scale = reinterpret_cast<std::byte*>(to + c * scale_bytes);
            auto* const offset = reinterpret_cast<std::byte*>(to + (tile16_channels + c) * scale_bytes);
            if (super_bytes != 0) {
                const auto factors = ggml::group_factors(t.type, block, g);
                to[c] = static_cast<std::uint8_t>(factors.scale);
                if (halves.minimum) to[tile16_channels + c] = static_cast<std::uint8_t>(factors.minimum);
            } else if (stored_halves) {
                std::memcpy(scale, block + *halves.scale, sizeof(std::uint16_t));
                if (has_offsets) std::memcpy(offset, block + *halves.minimum, sizeof(std::uint16_t));
            } else {
                const auto parameters = ggml::group_parameters(t.type, block, g);
                store_float(twin.scale, ratio * parameters.scale, scale);
                if (has_offsets) store_float(twin.scale, parameters.offset, offset);
            }
        }
        if constexpr (Bits == 4) {
            ggml::detail::each_eight_nibbles(t.type, block, [&](std::size_t i, std::uint64_t codes) {
                put_word(halves_together(codes), out + (i >> group_bits) * group_bytes + parameter_bytes +
                                                     (i & (t.group - 1)) * tile16_channels / 2 + 4 * c);
            });
        } else {
            std::uint8_t codes[ggml::max_block_elements];
            ggml::unpack_codes(t.type, block, codes);
            if (t.type == ggml::BlockType::q1_0)  // codes 0 and 1: -1 and 1, which are 1 and 3 of int2
                for (std::uint8_t& code : std::span(codes, t.elements))
                    code = static_cast<std::uint8_t>(2 * code + 1);
            for (std::size_t g = 0; g < groups; ++g)
                write_tile16_bytes<Bits>(codes + (g << group_bits), t.group, c,
                                         out + g * group_bytes + parameter_bytes);
        }
        out += groups * group_bytes;
    }
}

/// Numbers that stand `stride` bytes apart, side by side.
template <std::size_t Bytes>
void copy_column(const std::byte* from, std::size_t stride, std::size_t count, std::uint8_t* to) noexcept {
    for (std::size_t i = 0; i < count; ++i) std::memcpy(to + i * Bytes, from + i * stride, Bytes);
}
inline void copy_column(const std::byte* from, std::size_t stride, std::size_t count, std::size_t bytes,
                        std::uint8_t* to) noexcept {
    switch (bytes) {
        case 1: return copy_column<1>(from, stride, count, to);
        case 2: return copy_column<2>(from, stride, count, to);
        default: copy_column<4>(from, stride, count, to);
    }
}

/// Writes codes [k, k + count), a group or what there is of it, of `channels` rows from `first` on.
template <int Bits>
void pack_tile16_codes(const BitMatrix& codes, std::size_t first, std::size_t channels, std::size_t k,
                       std::size_t count, std::uint8_t* out) noexcept {
    // Some steps at a time, all channels: what is written stays in the nearest cache.
    constexpr std::size_t block = 256, step = tile16_step<Bits>,
                          step_bytes = tile16_channels * step * Bits / 8;
    for (const std::size_t end = k + count; k < end; k += block, out += block / step * step_bytes) {
        const std::size_t part = std::min(block, end - k);
        const std::size_t whole = codes.bits() == Bits ? part / step : 0, rest = part - whole * step;
        // Groups are a multiple of 8, so that they begin with a byte.
        const std::uint8_t* row = codes.row(first) + k * static_cast<unsigned>(codes.bits()) / 8;
        for (std::size_t c = 0; c < channels; ++c, row += codes.row_bytes()) {
            write_tile16_row<Bits>(row, whole, c, out);
            if (rest == 0) continue;
            std::uint8_t bytes[block + tile16_plane_elements];
            codes.unpack(first + c, k + whole * step, {bytes, rest});
            std::memset(bytes + rest, 0, tile16_plane_elements);
            write_tile16_bytes<Bits>(bytes, rest, c, out + whole * step_bytes);
        }
    }
}

/// Writes tile `tile` of layout tile16 (drawn in layout.hpp).
inline void pack_tile16(const QuantizedMatrix& source, const Tile16Shape& shape, std::size_t tile,
                        std::uint8_t* out) noexcept {
    const Format& format = source.format();
    const std::size_t first = tile * tile16_channels;
    const std::size_t channels = std::min(tile16_channels, source.n() - first);
    if (format.is_block()) {
        std::memset(out, 0, shape.tile_bytes);
        with_field_bits(shape.field_bits, [&]<int Bits>() {
            for (std::size_t c = 0; c < channels; ++c)
                pack_tile16_channel<Bits>(source, shape, first + c, c, out);
        });
        return;
    }
    const Format twin = tile16_format(format);
    const std::size_t scale_bytes = size_bytes(twin.scale), row_bytes = shape.groups * scale_bytes;
    const auto copy_parameters = [&](const Tensor& from, std::size_t g, std::uint8_t* to) {
        copy_column(from.bytes().data() + first * row_bytes + g * scale_bytes, row_bytes, channels,
                    scale_bytes, to);
    };
    for (std::size_t g = 0; g < shape.groups; ++g) {
        std::memset(out, 0, shape.parameter_bytes);
        if (format.granularity != Granularity::tensor) {
            if (format.double_quantized())
                for (std::size_t c = 0; c < channels; ++c)
                    store_float(twin.scale, source.scale(first + c, g),
                                reinterpret_cast<std::byte*>(out + c * scale_bytes));
            else
                copy_parameters(source.scales, g, out);
            std::uint8_t* const second = out + tile16_channels * scale_bytes;
            if (format.offset == Offset::real) copy_parameters(source.offsets, g, second);
            for (std::size_t c = 0; format.offset == Offset::integer && c < channels; ++c) {
                const unsigned zero = source.zeros.code(first + c, g);
                if (format.bits <= 4)
                    second[c / 2] = static_cast<std::uint8_t>(second[c / 2] | zero << (4 * (c % 2)));
                else
                    second[c] = static_cast<std::uint8_t>(zero);
            }
            out += shape.parameter_bytes;
        }
        const std::size_t k_begin = g * shape.group_elements;
        const std::size_t count = std::min(shape.group_elements, source.k() - k_begin);
        const std::size_t steps = ceil_div(count, shape.step_elements);
        if (channels < tile16_channels) std::memset(out, 0, steps * shape.step_bytes);
        with_field_bits(shape.field_bits, [&]<int Bits>() {
            pack_tile16_codes<Bits>(source.codes, first, channels, k_begin, count, out);
        });
        out += steps * shape.step_bytes;
    }
}

}  // namespace fewbit::inline v0::detail
