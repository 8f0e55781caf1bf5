// Few rows of x times codes on tensor cores: the work of one block of threads, written once for the device and
// for the host, which runs it lane by lane (tests/cuda/host_warp.hpp). README.md has the arithmetic and the bounds.
//
//   y (M, N) = x (M, K) W^T + bias,  W = scale (code - zero), scale code + offset or scale table[code], in order mma16
//
// Weights are A, so that no tensor core works for rows of x that are not there: 16 channels times 8 rows of x.
// For each 32 input channels:  part = codes x (exact products, f32 sums),  sum += scale part (+ offset sum of x)
// The warps of a block take chunks in turn and are added in their order; blocks that share a tile, in theirs (partition.hpp).
#pragma once

#include "kernels/mma16/partition.hpp"
#include "kernels/mma16/unpack.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

using mma16::Codes;
using mma16::Half;

enum class Zero : std::uint8_t { middle, integer, real };
enum class Number : std::uint8_t { f32, f16, bf16, e8m0 };

inline constexpr unsigned warps_per_block = 8;
inline constexpr unsigned threads_per_block = warps_per_block * mma16::lanes;

/// One product. Pointers are of the device; everything that a kernel reads or writes is here.
struct DecodeCall {
    const void* codes;        ///< stream of mma16, 16-byte aligned
    const void* scales;       ///< (tile, group, g): pairs of `scale_type`
    const void* offsets;      ///< the same of zero points, u8 pairs, or of offsets in `scale_type`; else null
    const void* x;            ///< (m, padded k) of f16 or bf16, rows 16-byte aligned, zeros behind k
    const float* bias;        ///< (n) or null
    void* y;                  ///< (m, n) of `y_type`
    float* parts;             ///< 2 * blocks parts of 16 channels x rows of x
    std::uint32_t* counters;  ///< (tiles), all 0; left so
    std::uint64_t x_stride;   ///< elements
    std::uint64_t y_stride;   ///< elements
    std::uint32_t m, n;
    std::uint32_t chunks;             ///< of a tile
    std::uint32_t groups;             ///< of a row
    mma16::Divisor halves_per_group;  ///< group / 32
    mma16::Partition partition;
    Number scale_type, y_type;
    std::uint16_t table[16];  ///< of Codes::table4, in the type of x
};

/// Rows of x that one pass serves.
template <unsigned TokenTiles>
inline constexpr unsigned tokens = 8 * TokenTiles;

/// Shared memory: the sums of all warps, by (warp, token, channel). A stride of 20 keeps the lanes of a store in different banks.
inline constexpr unsigned token_stride = 20;
template <unsigned TokenTiles>
inline constexpr unsigned warp_stride = tokens<TokenTiles>* token_stride;
template <unsigned TokenTiles>
inline constexpr unsigned sum_floats = warps_per_block* warp_stride<TokenTiles>;

/// 4-byte words of shared memory: sums, then the table.
template <Codes Kind, unsigned TokenTiles>
inline constexpr unsigned shared_words = sum_floats<TokenTiles> +
                                         (Kind == Codes::table4 ? mma16::table_words : 0);

/// A lane's sums: register i of C for each 8 tokens.
template <unsigned TokenTiles>
struct Sums {
    float c[TokenTiles][4] = {};
};

/// The operands of 32 input channels for a lane.
template <unsigned TokenTiles>
struct FragmentsB {
    std::uint32_t r[TokenTiles][4];  ///< registers 0, 1 of step 0 and of step 1
};

/// What the warps of a block add up for one tile, over units [first, last) of it; a unit is one chunk for each warp.
template <Codes Kind, Half Type, Zero Offset, unsigned TokenTiles>
struct Accumulator {
    const DecodeCall& call;
    const std::uint32_t* pairs;  ///< of the table; else not read

    static constexpr unsigned Bits = mma16::bits_of(Kind);

    /// Chunks whose codes are in flight at once: 64 bytes of each lane.
    static constexpr unsigned in_flight = 4;

    template <class Warp>
    FEWBIT_HOST_DEVICE void run(const Warp& warp, unsigned warp_index, std::uint32_t tile,
                                std::uint32_t first, std::uint32_t last,
                                typename Warp::template Value<Sums<TokenTiles>>& sums) const {
        std::uint32_t chunk = first * warps_per_block + warp_index;
        const std::uint32_t end = last * warps_per_block < call.chunks ? last * warps_per_block : call.chunks;
        for (; chunk < end; chunk += in_flight * warps_per_block) {
            typename Warp::template Value<mma16::Words> codes[in_flight];
            for (unsigned i = 0; i < in_flight; ++i)
                if (chunk + i * warps_per_block < end)
                    codes[i] = warp.load_codes(
                        call.codes, std::uint64_t{tile} * call.chunks + chunk + i * warps_per_block);
            for (unsigned i = 0; i < in_flight; ++i)
                if (chunk + i * warps_per_block < end)
                    multiply(warp, tile, chunk + i * warps_per_block, codes[i], sums);
        }
    }

    /// Registers of A for one step of a half; `pair`: of its group's parameters.
    template <class Math>
    FEWBIT_HOST_DEVICE mma16::FragmentA fragment(unsigned lane, const mma16::Words& words, unsigned half,
                                                 unsigned step, std::uint64_t pair) const {
        if constexpr (Kind == Codes::table4) {
            return mma16::look_up(words.w[2 * half + step], pairs, lane);
        } else {
            std::uint32_t z0 = Offset == Zero::real ? 0 : 1u << (Bits - 1), z1 = z0;
            if constexpr (Offset == Zero::integer) {
                const std::uint32_t both = Math::load_u16(call.offsets, pair + lane / 4);
                z0 = both & 0xFF, z1 = both >> 8;
            }
            const auto zeros = mma16::Zeros<Bits, Type>::of(z0, z1);
            if constexpr (Kind == Codes::int4)
                return mma16::unpack4<Math, Type>(words.w[2 * half + step], zeros);
            else
                return mma16::unpack8<Math, Type>(words.w[2 * step], words.w[2 * step + 1], zeros);
        }
    }

    template <class Warp>
    FEWBIT_HOST_DEVICE void multiply(const Warp& warp, std::uint32_t tile, std::uint32_t chunk,
                                     const typename Warp::template Value<mma16::Words>& codes,
                                     typename Warp::template Value<Sums<TokenTiles>>& sums) const {
        using Math = typename Warp::Math;
        typename Warp::template Value<Sums<TokenTiles>> part{}, ones{};
        for (unsigned half = 0; half < mma16::halves_per_chunk(Bits); ++half) {
            const std::uint32_t at = chunk * mma16::halves_per_chunk(Bits) + half;  // in halves of K
            const std::uint32_t group = call.halves_per_group.quotient(at);
            const std::uint64_t pair = (std::uint64_t{tile} * call.groups + group) * 8;
            const auto b = warp.template map<FragmentsB<TokenTiles>>([&](unsigned lane) {
                FragmentsB<TokenTiles> out;
                for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8) {
                    const unsigned token = 8 * tile8 + lane / 4;
                    const std::uint64_t from =
                        token * call.x_stride + at * mma16::half_inputs + 8 * (lane % 4);
                    mma16::Words words{};
                    if (token < call.m) words = Math::load_x(call.x, from);
                    for (unsigned i = 0; i < 4; ++i) out.r[tile8][i] = words.w[i];
                }
                return out;
            });
            for (unsigned step = 0; step < 2; ++step) {
                const auto a = warp.template map<mma16::FragmentA>(
                    [&](unsigned lane, const mma16::Words& words) {
                        return fragment<Math>(lane, words, half, step, pair);
                    },
                    codes);
                for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8)
                    warp.template multiply<Type>(a, b, tile8, step, part);
                if constexpr (Offset == Zero::real) {  // the sum of x, in the same places
                    const auto one = warp.template map<mma16::FragmentA>([&](unsigned) {
                        constexpr std::uint32_t pair_of_ones = Type == Half::f16 ? 0x3C003C00u : 0x3F803F80u;
                        return mma16::FragmentA{{pair_of_ones, pair_of_ones, pair_of_ones, pair_of_ones}};
                    });
                    for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8)
                        warp.template multiply<Type>(one, b, tile8, step, ones);
                }
            }
            if (half + 1 < mma16::halves_per_chunk(Bits) && call.halves_per_group.quotient(at + 1) == group)
                continue;
            warp.update(
                [&](unsigned lane, Sums<TokenTiles>& sum, const Sums<TokenTiles>& products,
                    const Sums<TokenTiles>& of_x) {
                    float scale[2], offset[2] = {};
                    Math::load_pair(call.scales, call.scale_type, pair + lane / 4, scale);
                    if constexpr (Offset == Zero::real)
                        Math::load_pair(call.offsets, call.scale_type, pair + lane / 4, offset);
                    for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8)
                        for (unsigned i = 0; i < 4; ++i) {
                            sum.c[tile8][i] =
                                Math::fma_f32(scale[i >> 1], products.c[tile8][i], sum.c[tile8][i]);
                            if constexpr (Offset == Zero::real)
                                sum.c[tile8][i] =
                                    Math::fma_f32(offset[i >> 1], of_x.c[tile8][i], sum.c[tile8][i]);
                        }
                },
                sums, part, ones);
            part = {};
            ones = {};
        }
    }
};

/// The work of one block of threads: Block gives warps, shared memory, a barrier and the counting of who comes last.
template <Codes Kind, Half Type, Zero Offset, unsigned TokenTiles, class Block>
FEWBIT_HOST_DEVICE void decode(const DecodeCall& call, Block& block) {
    using Accumulator = Accumulator<Kind, Type, Offset, TokenTiles>;
    static_assert(Kind != Codes::table4 || Offset == Zero::middle, "tables have no zero points");
    const mma16::Partition& work = call.partition;
    float* const shared = block.shared();
    std::uint32_t* const pairs = block.words() + sum_floats<TokenTiles>;
    if constexpr (Kind == Codes::table4) {
        block.each_thread([&](unsigned thread) {
            for (unsigned i = thread; i < mma16::table_words; i += threads_per_block)
                pairs[i] = mma16::table_pair(call.table, i / mma16::lanes);
        });
        block.barrier();
    }
    constexpr unsigned part_floats = mma16::tile_channels * tokens<TokenTiles>;
    const std::uint64_t end = work.first_unit(block.index() + 1);
    for (std::uint64_t unit = work.first_unit(block.index()); unit < end;) {
        const auto tile = static_cast<std::uint32_t>(unit / work.units_per_tile);
        const auto first = static_cast<std::uint32_t>(unit % work.units_per_tile);
        const std::uint64_t rest = end - unit;
        const std::uint32_t last = rest < work.units_per_tile - first
                                       ? first + static_cast<std::uint32_t>(rest)
                                       : work.units_per_tile;

        block.each_warp([&]<class Warp>(const Warp& warp, unsigned warp_index) {
            typename Warp::template Value<Sums<TokenTiles>> sums{};
            Accumulator{call, pairs}.run(warp, warp_index, tile, first, last, sums);
            warp.update(
                [&](unsigned lane, const Sums<TokenTiles>& sum) {
                    float* const to = shared + warp_index * warp_stride<TokenTiles>;
                    for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8)
                        for (unsigned i = 0; i < 4; ++i)
                            to[(8 * tile8 + lane % 4 * 2 + (i & 1)) * token_stride + lane / 4 +
                               8 * (i >> 1)] = sum.c[tile8][i];
                },
                sums);
        });
        block.barrier();

        const bool whole = first == 0 && last == work.units_per_tile;
        float* const mine = call.parts + std::uint64_t{work.slot(block.index(), tile)} * part_floats;
        block.each_thread([&](unsigned thread) {
            for (unsigned i = thread; i < part_floats; i += threads_per_block) {
                const unsigned channel = i % mma16::tile_channels, token = i / mma16::tile_channels;
                float sum = 0;
                for (unsigned w = 0; w < warps_per_block; ++w)
                    sum += shared[w * warp_stride<TokenTiles> + token * token_stride + channel];
                if (whole)
                    block.store(call, token, tile * mma16::tile_channels + channel, sum);
                else
                    mine[i] = sum;
            }
        });
        if (!whole &&
            block.comes_last(call.counters + tile, work.last_block(tile) - work.first_block(tile))) {
            block.each_thread([&](unsigned thread) {
                for (unsigned i = thread; i < part_floats; i += threads_per_block) {
                    float sum = 0;
                    for (std::uint32_t b = work.first_block(tile); b <= work.last_block(tile); ++b)
                        sum +=
                            block.read_part(call.parts + std::uint64_t{work.slot(b, tile)} * part_floats + i);
                    block.store(call, i / mma16::tile_channels,
                                tile * mma16::tile_channels + i % mma16::tile_channels, sum);
                }
            });
        }
        block.barrier();  // the sums of warps are read before the next tile's are written
        unit += last - first;
    }
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
