// x of 8 bits, a scale for each row, times codes of 8 bits, a scale for each channel, on tensor cores:
//
//   int8   y[m][n] = sx[m] sw[n] (sum_k (u[n][k] - z[n]) c[m][k]) + bias[n]          sums in int32, exact
//   fp8    y[m][n] = sx[m] sw[n]  sum_k  u[n][k] c[m][k]          + bias[n]          e4m3 both, sums in f32
//
//   rounded x   (block of 128 rows, chunks of 32 inputs, 2 units, 128 rows, 16 bytes)
//   unit R      byte 4 t + e: input 8 t + 4 R + e of the 32, where register R of B has it in lane t
//
// as wgmma reads it (mma16/wgmma.hpp). round_rows makes it from floats. The tiles are those of prompt.hpp; how a stage is
// multiplied: w8a8_mma.hpp, w8a8_wgmma.hpp.
#pragma once

#include "kernels/int_grouped/cuda/prompt.hpp"
#include "kernels/mma16/scale.hpp"
#include "kernels/mma16/wgmma.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

/// What products of two operands of 8 bits add up to.
template <Codes Kind>
struct ByteSumOf {
    using Type = std::int32_t;
};
template <>
struct ByteSumOf<Codes::fp8> {
    using Type = float;
};
template <Codes Kind>
using ByteSum = typename ByteSumOf<Kind>::Type;

inline constexpr unsigned byte_units = 2;  ///< of 16 bytes, of 32 inputs of a row
inline constexpr unsigned byte_chunk_words = byte_units * prompt_block_rows * 4;  ///< of rounded x

/// Bytes of rounded x.
FEWBIT_HOST_DEVICE constexpr std::uint64_t rounded_bytes(std::uint64_t rows, std::uint64_t padded_k) {
    return (rows + prompt_block_rows - 1) / prompt_block_rows * prompt_block_rows * padded_k;
}

/// A chunk's codes as registers of A of mma.m16n8k32 (of wgmma, four warps of it): channel g + 8 (r & 1), inputs
/// 8 t + 4 (r >> 1) + e. Integers less 128, signed.
template <Codes Kind, class Math>
FEWBIT_HOST_DEVICE mma16::FragmentA byte_fragment(const mma16::Words& words) {
    mma16::FragmentA out{};
    FEWBIT_UNROLL
    for (unsigned r = 0; r < 4; ++r) {
        out.r[r] = Math::select_bytes(words.w[2 * (r >> 1)], words.w[2 * (r >> 1) + 1],
                                      (r & 1) == 0 ? 0x5410u : 0x7632u);
        if constexpr (Kind == Codes::int8) out.r[r] ^= 0x80808080u;
    }
    return out;
}

/// What the ways of W8A8 share. `Stages`: each of `Chunks` chunks.
template <Codes Kind, unsigned Stages, unsigned Chunks>
struct ByteWay {
    using Sum = ByteSum<Kind>;
    using Memory = PromptMemory<Kind, Stages, Chunks, 1>;

    /// The thread's copies of x to the stage at word `at`: a piece of memory as it is.
    template <class Block>
    FEWBIT_HOST_DEVICE static void copy_x(const Call& call, Block& block, PromptTile of, std::uint32_t chunk,
                                          unsigned at, unsigned thread) {
        constexpr unsigned units = byte_chunk_words / 4,
                           apart = units < threads_per_block ? units : threads_per_block;
        static_assert(units == apart, "a copy of each thread for each chunk");
        const std::uint64_t first =
            (std::uint64_t{of.row / prompt_block_rows} * call.chunks + chunk) * units + thread;
        FEWBIT_UNROLL
        for (unsigned c = 0; c < Chunks; ++c)
            block.copy16(at + Memory::code_words + (c * units + thread) * 4, call.x, (first + c * units) * 16,
                         chunk + c < call.chunks);
    }
    /// y less its bias: what stands at the head of this file.
    template <class Math>
    FEWBIT_HOST_DEVICE static float value(const Call& call, Sum sum, std::uint32_t token,
                                          std::uint32_t channel) {
        if (call.chunks == 0) return 0;  // without inputs there are no scales either
        const std::uint32_t tile = channel / mma16::tile_channels, within = channel % mma16::tile_channels;
        const std::uint64_t pair = std::uint64_t{tile} * 8 + within % 8;
        const unsigned second = within / 8;
        float scale[2];
        Math::load_pair(call.scales, call.scale_type, pair, scale);
        const float of_w = second == 0 ? scale[0] : scale[1];
        if constexpr (Kind == Codes::fp8) {
            return sum * of_w * call.x_scales[token];
        } else {
            float offset[2] = {};
            if (call.zero == Zero::integer) {
                const std::uint32_t both = Math::load_u16(call.offsets, pair);
                sum += (128 - static_cast<std::int32_t>(both >> 8 * second & 0xFF)) * call.x_sums[token];
            }
            if (call.zero == Zero::real) {
                Math::load_pair(call.offsets, call.scale_type, pair, offset);
                sum += 128 * call.x_sums[token];
            }
            float value = static_cast<float>(sum) * of_w;
            if (call.zero == Zero::real)
                value = Math::fma_f32(static_cast<float>(call.x_sums[token]),
                                      second == 0 ? offset[0] : offset[1], value);
            return value * call.x_scales[token];
        }
    }
};

/// Rows of floats that become bytes.
struct RoundCall {
    const void* x;         ///< (m, k) of `type`
    void* rounded;         ///< rounded_bytes(m, padded k), 16-byte aligned
    float* scales;         ///< (m)
    std::int32_t* sums;    ///< (m), of integers; null for fp8
    std::uint64_t stride;  ///< of x, elements
    std::uint32_t m, k, padded_k;
    Number type;
};

/// Row `row` by one warp: scale = max |x| / 127 (fp8: 448), code = x / scale rounded to nearest, ties to even. A row that holds NaN
/// or infinity gets the scale NaN.
template <Codes Kind, class Warp>
FEWBIT_HOST_DEVICE void round_row(const RoundCall& call, const Warp& warp, std::uint32_t row) {
    using Math = typename Warp::Math;
    const auto x_at = [&](std::uint32_t k) {
        return Math::load_number(call.x, call.type, row * call.stride + k);
    };
    const float scale = mma16::scale_of_largest(warp, call.k, Kind == Codes::fp8 ? 448.0f : 127.0f, x_at);
    const std::uint32_t chunks = call.padded_k / mma16::half_inputs;
    const std::uint64_t first =
        std::uint64_t{row / prompt_block_rows} * chunks * byte_chunk_words + row % prompt_block_rows * 4;
    const std::int32_t sum = warp.sum(warp.template map<std::int32_t>([&](unsigned lane) {
        std::int32_t total = 0;
        FEWBIT_ROLL
        for (std::uint32_t word = lane; word < call.padded_k / 4; word += mma16::lanes) {
            std::uint32_t codes = 0;
            FEWBIT_UNROLL
            for (unsigned e = 0; e < 4; ++e) {
                const std::uint32_t k = 4 * word + e;
                if (!(k < call.k && scale > 0)) continue;  // behind the row, or the row is 0, or not finite
                if constexpr (Kind == Codes::fp8) {
                    codes |= Math::e4m3(Math::divide(x_at(k), scale)) << 8 * e;
                } else {
                    const std::int32_t code = mma16::code_of_int8<Math>(x_at(k), scale);
                    codes |= (static_cast<std::uint32_t>(code) & 0xFF) << 8 * e;
                    total += code;
                }
            }
            // Word t of unit R: inputs 8 t + 4 R and the next three.
            const std::uint32_t chunk = word / 8, t = word % 8 / 2, unit = word % 2;
            static_cast<std::uint32_t*>(
                call.rounded)[first + (std::uint64_t{chunk} * byte_units + unit) * prompt_block_rows * 4 +
                              t] = codes;
        }
        return total;
    }));
    warp.once([&] {
        call.scales[row] = scale;
        if (call.sums != nullptr) call.sums[row] = sum;
    });
}

template <Codes Kind, class Block>
FEWBIT_HOST_DEVICE void round_rows(const RoundCall& call, const Block& block) {
    block.each_warp([&]<class Warp>(const Warp& warp, unsigned warp_index) {
        const std::uint32_t row = block.index() * warps_per_block + warp_index;
        if (row < call.m) round_row<Kind>(call, warp, row);
    });
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
