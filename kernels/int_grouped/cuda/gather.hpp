// Rows of a matrix in order mma16 as floats, each by the number that stands for it: what an embedding does with tokens.
#pragma once

#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

/// Pointers are of the device.
struct GatherCall {
    const void* codes;    ///< stream of mma16
    const void* scales;   ///< (tile, group, g): pairs of `scale_type`
    const void* offsets;  ///< the same of zero points, u8 pairs, or of offsets in `scale_type`; else null
    const std::int32_t* rows;  ///< (m), or null: the first m
    void* y;                   ///< (m, k) of `y_type`
    std::uint64_t y_stride;    ///< elements
    std::uint32_t n, k;
    std::uint32_t chunks;             ///< of a tile
    std::uint32_t groups;             ///< of a row
    mma16::Divisor halves_per_group;  ///< group / 32
    Codes kind;
    Zero zero;
    Number scale_type, y_type;
    float table[16];  ///< of Codes::table4
};

/// Row block.index() of y: row call.rows[...] of the matrix, or NaN where it has no such row.
template <class Block>
FEWBIT_HOST_DEVICE void gather_row(const GatherCall& call, const Block& block) {
    using Math = typename Block::Warp::Math;
    const std::int32_t row =
        call.rows == nullptr ? static_cast<std::int32_t>(block.index()) : call.rows[block.index()];
    const bool there = row >= 0 && static_cast<std::uint32_t>(row) < call.n;
    const std::uint32_t tile = there ? static_cast<std::uint32_t>(row) / mma16::tile_channels : 0;
    const unsigned channel = static_cast<std::uint32_t>(row) % mma16::tile_channels, second = channel / 8;
    const unsigned bits = mma16::bits_of(call.kind), inputs = mma16::chunk_inputs(bits);
    block.each_thread([&](unsigned thread) {
        FEWBIT_ROLL
        for (std::uint32_t i = thread; i < call.k; i += threads_per_block) {
            float value = Math::from_bits(0x7FC00000u);
            if (there) {
                const unsigned bit = mma16::bit_at(call.kind, channel, i % inputs);
                const std::uint64_t at =
                    (std::uint64_t{tile} * call.chunks + i / inputs) * mma16::chunk_bytes + bit / 8;
                const unsigned code =
                    static_cast<const unsigned char*>(call.codes)[at] >> bit % 8 & ((1u << bits) - 1);
                const std::uint32_t group = call.halves_per_group.quotient(i / mma16::half_inputs);
                const std::uint64_t pair = (std::uint64_t{tile} * call.groups + group) * 8 + channel % 8;
                float scale[2], offset[2] = {};
                Math::load_pair(call.scales, call.scale_type, pair, scale);
                if (call.kind == Codes::table4) {
                    value = call.table[code] * (second == 0 ? scale[0] : scale[1]);
                } else if (call.kind == Codes::fp8) {
                    value = Math::from_e4m3(code) * (second == 0 ? scale[0] : scale[1]);
                } else {
                    std::uint32_t zero = call.zero == Zero::real ? 0 : 1u << (bits - 1);
                    if (call.zero == Zero::integer)
                        zero = Math::load_u16(call.offsets, pair) >> 8 * second & 0xFF;
                    if (call.zero == Zero::real) Math::load_pair(call.offsets, call.scale_type, pair, offset);
                    const auto level =
                        static_cast<float>(static_cast<std::int32_t>(code) - static_cast<std::int32_t>(zero));
                    value =
                        level * (second == 0 ? scale[0] : scale[1]) + (second == 0 ? offset[0] : offset[1]);
                }
            }
            Math::store_number(call.y, call.y_type, block.index() * call.y_stride + i, value);
        }
    });
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
