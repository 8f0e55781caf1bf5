// Weights become codes in order mma16 on a CUDA device: their ranges, group by group; codes of floats on grids that the host has
// found from those, or codes that there are already; 16 bytes of a lane by each thread (pack/mma16_order.hpp).
#pragma once

#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::kernels::encode_cuda {

using int_grouped_cuda::Number;
using int_grouped_cuda::threads_per_block;
using int_grouped_cuda::warps_per_block;
using mma16::Codes;

/// The smallest and the largest weight of each group.
struct RangeCall {
    const void* weights;   ///< (n, k) of `type`
    float* ranges;         ///< (n, groups, 2); NaN where a weight is not finite
    std::uint64_t stride;  ///< elements
    std::uint32_t k, group, groups;
    std::uint64_t all;  ///< n * groups
    Number type;
};

/// A warp for each group.
template <class Block>
FEWBIT_HOST_DEVICE void find_ranges(const RangeCall& call, const Block& block) {
    block.each_warp([&]<class Warp>(const Warp& warp, unsigned warp_index) {
        using Math = typename Warp::Math;
        const std::uint64_t at = std::uint64_t{block.index()} * warps_per_block + warp_index;
        if (at >= call.all) return;
        const std::uint64_t row = at / call.groups * call.stride;
        const std::uint32_t first = static_cast<std::uint32_t>(at % call.groups) * call.group;
        const std::uint32_t last = first + call.group < call.k ? first + call.group : call.k;
        // The largest of key(bits) over the group.
        const auto most = [&](auto&& key) {
            return warp.largest(warp.template map<std::uint32_t>([&](unsigned lane) {
                std::uint32_t found = 0;
                FEWBIT_ROLL
                for (std::uint32_t i = first + lane; i < last; i += mma16::lanes) {
                    const std::uint32_t own =
                        key(Math::bits(Math::load_number(call.weights, call.type, row + i)));
                    found = own > found ? own : found;
                }
                return found;
            }));
        };
        // Integers in the order of the numbers whose bits they come from.
        const auto ordered = [](std::uint32_t bits) { return bits >> 31 != 0 ? ~bits : bits | 0x80000000u; };
        const auto number = [](std::uint32_t key) {
            return Math::from_bits(key >> 31 != 0 ? key & 0x7FFFFFFFu : ~key);
        };
        const bool finite = most([](std::uint32_t bits) { return bits & 0x7FFFFFFFu; }) < 0x7F800000u;
        const float nan = Math::from_bits(0x7FC00000u), high = number(most(ordered)),
                    low = number(~most([&](std::uint32_t bits) { return ~ordered(bits); }));
        warp.once([&] {
            call.ranges[2 * at] = finite ? low + 0.0f : nan;  // -0 counts as 0
            call.ranges[2 * at + 1] = finite ? high + 0.0f : nan;
        });
    });
}

/// The grid of a group, as GroupGrid has it.
struct Grid {
    float scale, offset;
    std::int32_t zero;
};

enum class Levels : std::uint8_t { steps, table, e4m3 };

/// Where codes come from, and where they go.
struct OrderCall {
    void* codes;           ///< the stream
    const void* from;      ///< weights (n, k) of `type`, or rows of codes of `bits` bits, lowest bits first
    std::uint64_t stride;  ///< of a row: elements of weights, bytes of codes
    std::uint32_t n, k, chunks;
    std::uint64_t all;  ///< of lanes' 16 bytes
    std::uint32_t bits;
    // Of weights.
    const Grid* grids;  ///< (n, groups)
    std::uint32_t group, groups;
    Number type;
    Levels levels;
    std::int32_t min_code, max_code;
    double borders[15];  ///< of a table in ascending order: above borders[i] is sorted[i + 1]
    std::uint8_t sorted[16];
};

/// To the nearest integer, ties to even, for |x| < 2^51.
FEWBIT_HOST_DEVICE inline double round_half_even(double x) {
    constexpr double shift = 6755399441055744.0;
    return (x + shift) - shift;
}

/// The code of a weight: what fewbit::encode chooses (quantize/grid.hpp), in the same arithmetic.
template <class Math>
FEWBIT_HOST_DEVICE std::uint32_t code_of(const OrderCall& call, std::uint32_t row, std::uint32_t k) {
    const Grid grid = call.grids[std::uint64_t{row} * call.groups + k / call.group];
    if (grid.scale == 0) return static_cast<std::uint32_t>(grid.zero);
    const double w = static_cast<double>(Math::load_number(call.from, call.type, row * call.stride + k));
    const double scale = static_cast<double>(grid.scale);
    if (call.levels == Levels::table) {
        const double x = w / scale;
        std::uint32_t found = call.sorted[0];
        FEWBIT_UNROLL
        for (unsigned i = 0; i < 15; ++i) found = x > call.borders[i] ? call.sorted[i + 1] : found;
        return found;
    }
    if (call.levels == Levels::e4m3) {
        // The unit of the binade that x lies in, of those below 2^-6 that of the smallest.
        const double x = w / scale;
        const std::uint64_t exponent = Math::bits_of_double(x) & 0x7FF0000000000000u,
                            smallest = std::uint64_t{1023 - 6} << 52;
        const double unit = Math::double_of_bits(exponent > smallest ? exponent : smallest) * 0.125;
        const double level = round_half_even(x / unit) * unit;
        const double held = level > 448 ? 448 : level < -448 ? -448 : level;
        // A number of e4m3 by now: below 2^-6 a count of 2^-9, else its exponent and the first three bits behind the point.
        const std::uint32_t bits = Math::bits(static_cast<float>(held)), magnitude = bits & 0x7FFFFFFFu;
        if (magnitude == 0) return 0;  // of zeros the positive one
        const std::uint32_t normal = (magnitude >> 20) - ((127 - 7) << 3);
        const double counted = (held < 0 ? -held : held) * 512;
        return (bits >> 24 & 0x80) | (counted < 8 ? static_cast<std::uint32_t>(counted) : normal);
    }
    const double low = call.min_code - grid.zero, high = call.max_code - grid.zero;
    const double steps = round_half_even((w - static_cast<double>(grid.offset)) / scale);
    const double held = steps < low ? low : steps > high ? high : steps;
    return static_cast<std::uint32_t>(static_cast<std::int32_t>(held) + grid.zero);
}

/// A code of a row of `bits` bits each.
FEWBIT_HOST_DEVICE inline std::uint32_t code_at(const OrderCall& call, std::uint32_t row, std::uint32_t k) {
    const auto* const from = static_cast<const unsigned char*>(call.from) + row * call.stride;
    const std::uint64_t bit = std::uint64_t{k} * call.bits;
    const unsigned within = static_cast<unsigned>(bit % 8);
    std::uint32_t word = from[bit / 8];
    if (within + call.bits > 8) word |= std::uint32_t{from[bit / 8 + 1]} << 8;
    return word >> within & ((1u << call.bits) - 1);
}

/// 16 bytes of a lane of a chunk by each thread. `FromWeights`: codes are found, else read. Behind N and K they are 0.
template <Codes Kind, bool FromWeights, class Block>
FEWBIT_HOST_DEVICE void order_codes(const OrderCall& call, const Block& block) {
    using Math = typename Block::Warp::Math;
    constexpr unsigned bits = mma16::bits_of(Kind);
    block.each_thread([&](unsigned thread) {
        const std::uint64_t at = std::uint64_t{block.index()} * threads_per_block + thread;
        if (at >= call.all) return;
        const auto lane = static_cast<unsigned>(at % mma16::lanes);
        const std::uint64_t piece = at / mma16::lanes;
        const auto tile = static_cast<std::uint32_t>(piece / call.chunks),
                   chunk = static_cast<std::uint32_t>(piece % call.chunks);
        mma16::Words words{};
        FEWBIT_UNROLL
        for (unsigned i = 0; i < 128 / bits; ++i) {
            const unsigned half = i / 16, step = i / 8 % 2, r = i / 2 % 4, e = i % 2;
            const mma16::Place place = mma16::place_of(lane, half, step, r, e);
            const std::uint32_t row = tile * mma16::tile_channels + place.channel,
                                k = chunk * mma16::chunk_inputs(bits) + place.input;
            if (row >= call.n || k >= call.k) continue;
            std::uint32_t code;
            if constexpr (FromWeights)
                code = code_of<Math>(call, row, k);
            else
                code = code_at(call, row, k);
            const unsigned bit = mma16::bit_of(Kind, 0, half, step, r, e);
            words.w[bit / 32] |= code << bit % 32;
        }
        Math::store_words(call.codes, at, words);
    });
}

/// f<codes>(), whichever they are.
template <class F>
decltype(auto) with_codes(Codes codes, F&& f) {
    switch (codes) {
        case Codes::int4: return f.template operator()<Codes::int4>();
        case Codes::table4: return f.template operator()<Codes::table4>();
        default: return f.template operator()<Codes::int8>();  // fp8 lies alike
    }
}

}  // namespace fewbit::inline v0::kernels::encode_cuda
