// x of int8, a scale for each row, times codes of 8 bits, a scale for each channel, on tensor cores:
//
//   y[m][n] = sx[m] sw[n] (sum_k (u[n][k] - z[n]) x[m][k]) + bias[n]          sums in int32, exact
//
// For many rows: what limits it is mma.m16n8k32. A warp has 64 channels x 64 rows, a block of threads 4 x 2 of its warps; what
// they share of x and of the codes they find in L1. Codes are in order mma16, whose bytes two prmt a register make operands.
// quantize_rows makes x from floats as the CPU does, bit for bit (formats/activation_format.hpp, int8-row).
#pragma once

#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

inline constexpr unsigned int8_warp_tiles = 4;   ///< of 16 channels
inline constexpr unsigned int8_warp_tokens = 8;  ///< of 8 rows of x
inline constexpr unsigned int8_block_tiles = 4 * int8_warp_tiles;
inline constexpr unsigned int8_block_rows = 2 * 8 * int8_warp_tokens;

/// One product. Pointers are of the device.
struct Int8Call {
    const void* codes;      ///< stream of mma16, 16-byte aligned
    const void* scales;     ///< (tile, g): pairs of `scale_type`
    const void* offsets;    ///< the same of zero points, u8 pairs, or of offsets in `scale_type`; else null
    const std::int8_t* x;   ///< (m, padded k), rows 8-byte aligned, zeros behind k
    const float* x_scales;  ///< (m)
    const std::int32_t* x_sums;  ///< (m), of the codes; read where `zero` is not Zero::middle
    const float* bias;           ///< (n) or null
    void* y;                     ///< (m, n) of `y_type`
    std::uint64_t x_stride;      ///< elements
    std::uint64_t y_stride;      ///< elements
    std::uint32_t m, n;
    std::uint32_t chunks;  ///< of a tile
    Number scale_type, y_type;
    Zero zero;

    /// Blocks of threads: for all rows, then for the next channels, so that blocks that run together share codes.
    [[nodiscard]] FEWBIT_HOST_DEVICE constexpr std::uint32_t blocks_of_rows() const {
        return (m + int8_block_rows - 1) / int8_block_rows;
    }
    [[nodiscard]] FEWBIT_HOST_DEVICE constexpr std::uint32_t blocks() const {
        return blocks_of_rows() * ((n + int8_block_tiles * mma16::tile_channels - 1) /
                                   (int8_block_tiles * mma16::tile_channels));
    }
};

/// Sums of a lane: register i of C for each 8 rows of x.
struct IntSums {
    std::int32_t c[int8_warp_tokens][4] = {};
};
/// Operands of 32 inputs for a lane.
struct Int8Operands {
    std::uint32_t r[int8_warp_tokens][2];
};

/// The signed bytes u - 128 of a chunk as registers of A of mma.m16n8k32: channel g + 8 (r & 1), inputs 8 t + 4 (r >> 1) ...
template <class Math>
FEWBIT_HOST_DEVICE mma16::FragmentA int8_fragment(const mma16::Words& words) {
    mma16::FragmentA out{};
    FEWBIT_UNROLL
    for (unsigned r = 0; r < 4; ++r)
        out.r[r] = Math::select_bytes(words.w[2 * (r >> 1)], words.w[2 * (r >> 1) + 1],
                                      (r & 1) == 0 ? 0x5410u : 0x7632u) ^
                   0x80808080u;
    return out;
}

/// What a warp multiplies: tiles [tile, tile + int8_warp_tiles), rows [row, row + 64) of x.
template <class Warp>
struct Int8Accumulator {
    using Math = typename Warp::Math;
    template <class T>
    using Value = typename Warp::template Value<T>;

    const Int8Call& call;
    const Warp& warp;
    std::uint32_t tile, row;

    [[nodiscard]] FEWBIT_HOST_DEVICE bool has(unsigned i) const {
        return std::uint64_t{tile + i} * mma16::tile_channels < call.n;
    }
    FEWBIT_HOST_DEVICE void load(std::uint32_t chunk, Value<mma16::Words> (&codes)[int8_warp_tiles],
                                 Value<Int8Operands>& x) const {
        if (chunk >= call.chunks) return;
        FEWBIT_UNROLL
        for (unsigned i = 0; i < int8_warp_tiles; ++i)
            if (has(i))
                codes[i] = warp.load_shared_codes(call.codes, std::uint64_t{tile + i} * call.chunks + chunk);
        x = warp.template map<Int8Operands>([&](unsigned lane) {
            Int8Operands out{};
            FEWBIT_UNROLL
            for (unsigned t = 0; t < int8_warp_tokens; ++t) {
                const std::uint32_t token = row + 8 * t + lane / 4;
                if (token < call.m)
                    Math::load_int8(
                        call.x + token * call.x_stride + chunk * mma16::half_inputs + 8 * (lane % 4),
                        out.r[t]);
            }
            return out;
        });
    }
    FEWBIT_HOST_DEVICE void run(Value<IntSums> (&sums)[int8_warp_tiles]) const {
        Value<mma16::Words> codes[int8_warp_tiles]{}, next_codes[int8_warp_tiles]{};
        Value<Int8Operands> x{}, next_x{};
        load(0, codes, x);
        FEWBIT_ROLL
        for (std::uint32_t chunk = 0; chunk < call.chunks; ++chunk) {
            load(chunk + 1, next_codes, next_x);
            FEWBIT_UNROLL
            for (unsigned i = 0; i < int8_warp_tiles; ++i) {
                const auto a = warp.template map<mma16::FragmentA>(
                    [](unsigned, const mma16::Words& words) { return int8_fragment<Math>(words); }, codes[i]);
                FEWBIT_UNROLL
                for (unsigned t = 0; t < int8_warp_tokens; ++t) warp.multiply_int8(a, x, t, sums[i]);
                codes[i] = next_codes[i];
            }
            x = next_x;
        }
    }
};

/// y of one sum: what stands at the head of this file.
template <class Math>
FEWBIT_HOST_DEVICE float int8_value(const Int8Call& call, std::int32_t sum, std::uint32_t token,
                                    std::uint32_t channel) {
    const std::uint32_t tile = channel / mma16::tile_channels, within = channel % mma16::tile_channels;
    const std::uint64_t pair = std::uint64_t{tile} * 8 + within % 8;
    const unsigned second = within / 8;
    float scale[2], offset[2] = {};
    Math::load_pair(call.scales, call.scale_type, pair, scale);
    const float of_x = call.x_scales[token];
    if (call.zero == Zero::integer) {
        const std::uint32_t both = Math::load_u16(call.offsets, pair);
        sum += (128 - static_cast<std::int32_t>(both >> 8 * second & 0xFF)) * call.x_sums[token];
    }
    if (call.zero == Zero::real) {
        Math::load_pair(call.offsets, call.scale_type, pair, offset);
        sum += 128 * call.x_sums[token];
    }
    float value = static_cast<float>(sum) * scale[second];
    if (call.zero == Zero::real)
        value = Math::fma_f32(static_cast<float>(call.x_sums[token]), offset[second], value);
    const float bias = call.bias != nullptr ? call.bias[channel] : 0.0f;
    return Math::fma_f32(value, of_x, bias);
}

/// The work of one block of threads.
template <class Block>
FEWBIT_HOST_DEVICE void int8_product(const Int8Call& call, const Block& block) {
    const std::uint32_t of_rows = block.index() % call.blocks_of_rows(),
                        of_tiles = block.index() / call.blocks_of_rows();
    block.each_warp([&]<class Warp>(const Warp& warp, unsigned warp_index) {
        const std::uint32_t tile = of_tiles * int8_block_tiles + warp_index % 4 * int8_warp_tiles;
        const std::uint32_t row = of_rows * int8_block_rows + warp_index / 4 * 8 * int8_warp_tokens;
        if (std::uint64_t{tile} * mma16::tile_channels >= call.n || row >= call.m) return;
        typename Warp::template Value<IntSums> sums[int8_warp_tiles]{};
        Int8Accumulator<Warp>{call, warp, tile, row}.run(sums);
        FEWBIT_UNROLL
        for (unsigned i = 0; i < int8_warp_tiles; ++i)
            warp.update(
                [&](unsigned lane, const IntSums& sum) {
                    FEWBIT_UNROLL
                    for (unsigned t = 0; t < int8_warp_tokens; ++t) FEWBIT_UNROLL
                    for (unsigned c = 0; c < 4; ++c) {
                        const std::uint32_t token = row + 8 * t + lane % 4 * 2 + (c & 1);
                        const std::uint32_t channel =
                            (tile + i) * mma16::tile_channels + lane / 4 + 8 * (c >> 1);
                        if (token < call.m && channel < call.n)
                            block.store(call.y, call.y_type, token * call.y_stride + channel,
                                        int8_value<typename Warp::Math>(call, sum.c[t][c], token, channel));
                    }
                },
                sums[i]);
    });
}

/// Rows of floats that become int8.
struct QuantizeCall {
    const void* x;         ///< (m, k) of `type`
    std::int8_t* codes;    ///< (m, padded k)
    float* scales;         ///< (m)
    std::int32_t* sums;    ///< (m)
    std::uint64_t stride;  ///< of x, elements
    std::uint32_t m, k, padded_k;
    Number type;
};

/// Row `row` by one warp: scale = max |x| / 127, code = round(x / scale), ties to even. A row that holds NaN or infinity gets
/// the scale NaN.
template <class Warp>
FEWBIT_HOST_DEVICE void quantize_row(const QuantizeCall& call, const Warp& warp, std::uint32_t row) {
    using Math = typename Warp::Math;
    constexpr std::uint32_t infinity = 0x7F800000u;
    const auto x_at = [&](std::uint32_t k) {
        return Math::load_number(call.x, call.type, row * call.stride + k);
    };
    // Magnitudes are ordered like the integers that they are stored as, NaN above infinity.
    const std::uint32_t largest = warp.largest(warp.template map<std::uint32_t>([&](unsigned lane) {
        std::uint32_t most = 0;
        FEWBIT_ROLL
        for (std::uint32_t k = lane; k < call.k; k += mma16::lanes) {
            const std::uint32_t magnitude = Math::bits(x_at(k)) & 0x7FFFFFFFu;
            most = magnitude > most ? magnitude : most;
        }
        return most;
    }));
    const float scale =
        largest >= infinity ? Math::from_bits(0x7FC00000u) : Math::divide(Math::from_bits(largest), 127.0f);
    const std::int32_t sum = warp.sum(warp.template map<std::int32_t>([&](unsigned lane) {
        std::int32_t codes = 0;
        FEWBIT_ROLL
        for (std::uint32_t k = lane; k < call.padded_k; k += mma16::lanes) {
            const bool some = k < call.k && scale > 0;  // else the row is 0, or not finite
            const std::int32_t code = some ? Math::nearest(Math::divide(x_at(k), scale)) : 0;
            const std::int32_t held = code > 127 ? 127 : code < -127 ? -127 : code;
            call.codes[std::uint64_t{row} * call.padded_k + k] = static_cast<std::int8_t>(held);
            codes += held;
        }
        return codes;
    }));
    warp.once([&] {
        call.scales[row] = scale;
        call.sums[row] = sum;
    });
}

template <class Block>
FEWBIT_HOST_DEVICE void quantize_rows(const QuantizeCall& call, const Block& block) {
    block.each_warp([&]<class Warp>(const Warp& warp, unsigned warp_index) {
        const std::uint32_t row = block.index() * warps_per_block + warp_index;
        if (row < call.m) quantize_row(call, warp, row);
    });
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
