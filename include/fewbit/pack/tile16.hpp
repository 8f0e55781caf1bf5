// Writing a tile of Layout::tile16 (drawn in layout.hpp) from a matrix of rows or of ggml's blocks: parameters here, codes by
// tile16_codes.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/pack/tile16_codes.hpp"

namespace fewbit::inline v0::detail {

/// Scales of one byte, as tile16 has them: for a table of half the size, twice as large.
template <class Stored>
[[nodiscard]] constexpr std::array<Stored, 256> stored_scales(float (*scale)(std::uint8_t),
                                                              Stored (*store)(float)) noexcept {
    std::array<Stored, 256> stored{};
    for (std::size_t byte = 0; byte < stored.size(); ++byte) {
        const float half = scale(static_cast<std::uint8_t>(byte));
        stored[byte] = store(half < 0x1p127f ? 2 * half : std::numeric_limits<float>::infinity());
    }
    return stored;
}
inline constexpr auto stored_mxfp4_scales = stored_scales(ggml::detail::mxfp4_scale, e8m0_from_float);
inline constexpr auto stored_nvfp4_scales = stored_scales(ggml::detail::nvfp4_scale, f16_from_float);

/// A block of each of 16 channels in a tile. Groups divide blocks and blocks K, so that all groups are full.
template <ggml::BlockType Type>
struct BlockInTile16 {
    static constexpr ggml::BlockTraits t = ggml::traits(Type);
    static constexpr ggml::HalfPlaces halves = ggml::half_places(Type);
    static constexpr bool two_levels = ggml::has_two_levels(Type), minima = t.grid == ggml::Grid::real;
    static constexpr int bits = t.bits == 1 ? 2 : t.bits;
    static constexpr std::size_t scale_bytes = two_levels || Type == ggml::BlockType::mxfp4 ? 1
                                               : Type == ggml::BlockType::q8_k              ? 4
                                                                                            : 2;
    static constexpr std::size_t parameter_bytes = tile16_channels * scale_bytes * (minima ? 2 : 1);
    static constexpr std::size_t group_bytes = parameter_bytes + tile16_channels * t.group * bits / 8;
    static constexpr std::size_t above_bytes = two_levels ? 2 * parameter_bytes : 0;  ///< before the groups
    static constexpr std::size_t bytes = above_bytes + t.elements / t.group * group_bytes;

    /// Scales and minima of channel c.
    static void write_parameters(const std::uint8_t* block, std::size_t c, std::uint8_t* out) noexcept {
        using ggml::BlockType;
        if constexpr (two_levels) {
            std::memcpy(out + 2 * c, block + *halves.scale, 2);
            if constexpr (minima) {
                std::uint8_t* const minimum = out + 2 * (tile16_channels + c);
                std::memcpy(minimum, block + *halves.minimum, 2);
                minimum[1] ^= 0x80;  // its sign
            }
        }
        for (std::size_t g = 0; g < t.elements / t.group; ++g) {
            std::uint8_t* const scale = out + above_bytes + g * group_bytes + c * scale_bytes;
            if constexpr (two_levels) {
                const auto factors = ggml::group_factors(Type, block, g);
                scale[0] = static_cast<std::uint8_t>(factors.scale);
                if constexpr (minima) scale[tile16_channels] = static_cast<std::uint8_t>(factors.minimum);
            } else if constexpr (Type == BlockType::mxfp4) {
                scale[0] = stored_mxfp4_scales[block[0]];
            } else if constexpr (Type == BlockType::nvfp4) {
                std::memcpy(scale, &stored_nvfp4_scales[block[g]], 2);
            } else {
                std::memcpy(scale, block + halves.scale.value_or(0), scale_bytes);
                if constexpr (minima)
                    std::memcpy(scale + tile16_channels * scale_bytes, block + *halves.minimum, 2);
            }
        }
    }

    /// Codes of channel c, or of it and three more.
    static void write_codes(auto block, std::size_t c, std::uint8_t* out) noexcept {
        out += above_bytes + parameter_bytes;
        ggml::detail::each_sixteen<Type>(block, [&](std::size_t i, auto codes) {
            if constexpr (Type == ggml::BlockType::q1_0)  // 0 and 1: -1 and 1, which are 1 and 3 of int2
                codes = codes << 1 ^ ggml::detail::in_each_byte;
            write_tile16_sixteen<bits>(
                codes.first, codes.second, c,
                out + i / t.group * group_bytes + i % t.group * tile16_channels * bits / 8);
        });
    }
};

/// Writes a tile of a matrix of blocks: `channels` rows of `blocks`. Missing channels are cleared beforehand.
template <ggml::BlockType Type>
void pack_tile16_blocks(const std::uint8_t* rows, std::size_t blocks, std::size_t channels,
                        std::uint8_t* out) noexcept {
    using Block = BlockInTile16<Type>;
    const std::size_t row_bytes = blocks * Block::t.bytes;
    for (; blocks != 0; --blocks, rows += Block::t.bytes, out += Block::bytes) {
        std::size_t c = 0;
        for (; Block::t.bits != 1 && c + 4 <= channels; c += 4)  // single bits spread best by multiplication
            Block::write_codes(FourRows{rows + c * row_bytes, row_bytes}, c, out);
        for (; c < channels; ++c) Block::write_codes(rows + c * row_bytes, c, out);
        for (c = 0; c < channels; ++c) Block::write_parameters(rows + c * row_bytes, c, out);
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
template <int Bits, int Stored>
void pack_tile16_codes(const BitMatrix& codes, std::size_t first, std::size_t channels, std::size_t k,
                       std::size_t count, std::uint8_t* out) noexcept {
    // Some steps at a time, all channels: what is written stays in the nearest cache.
    constexpr std::size_t block = 256, step = tile16_step<Bits>,
                          step_bytes = tile16_channels * step * Bits / 8;
    constexpr std::size_t unit = Bits == 8 && Stored != 8 ? 2 : 1;  // steps that eight codes fill
    for (const std::size_t end = k + count; k < end; k += block, out += block / step * step_bytes) {
        const std::size_t part = std::min(block, end - k);
        const std::size_t whole = part / (step * unit) * unit, rest = part - whole * step;
        const auto row = [&](std::size_t c) {
            // Groups are a multiple of 8, so that they begin with a byte.
            return codes.row(first + c) + k * static_cast<std::size_t>(Stored) / 8;
        };
        std::size_t c = 0;
        for (; c + 4 <= channels; c += 4)
            write_tile16_row<Bits, Stored>(FourRows{row(c), codes.row_bytes()}, whole, c, out);
        for (; c < channels; ++c) write_tile16_row<Bits, Stored>(row(c), whole, c, out);
        for (c = 0; rest != 0 && c < channels; ++c) {
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
        const auto* const blocks = reinterpret_cast<const std::uint8_t*>(source.blocks.bytes().data());
        const std::size_t row_bytes = ggml::row_bytes(format.block, source.k());
        ggml::with_type(format.block, [&]<ggml::BlockType Type>() {
            pack_tile16_blocks<Type>(blocks + first * row_bytes, source.k() / ggml::traits(Type).elements,
                                     channels, out);
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
            with_stored_bits<Bits>(source.codes.bits(), [&]<int Stored>() {
                pack_tile16_codes<Bits, Stored>(source.codes, first, channels, k_begin, count, out);
            });
        });
        out += steps * shape.step_bytes;
    }
}

}  // namespace fewbit::inline v0::detail
