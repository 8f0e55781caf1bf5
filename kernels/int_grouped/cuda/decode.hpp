// Few rows of x times codes on tensor cores: the work of one block of threads, written once for the device and
// for the host, which runs it lane by lane (tests/cuda/host_warp.hpp). README.md has the arithmetic and the bounds.
//
//   y (M, N) = x (M, K) W^T + bias,  W = scale (code - zero), scale code + offset or scale table[code], in order mma16
//
// Weights are A, so that no tensor core works for rows of x that are not there: 16 channels times 8 rows of x.
// For each 32 input channels:  part = codes x (exact products, f32 sums),  sum += scale part (+ offset sum of x)
// The warps of a block take chunks in turn and are added in their order; blocks that share a tile, in theirs (partition.hpp).
#pragma once

#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

/// Rows of x that one pass serves.
template <unsigned TokenTiles>
inline constexpr unsigned tokens = 8 * TokenTiles;

/// What blocks that share a tile leave for each other.
template <unsigned TokenTiles>
inline constexpr unsigned part_floats = mma16::tile_channels* tokens<TokenTiles>;

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

/// What the warps of a block add up for one tile, over units [first, last) of it; a unit is one chunk for each warp.
template <Codes Kind, Half Type, Zero Offset, unsigned TokenTiles>
struct Accumulator : Weights<Kind, Type, Offset> {
    using Weights<Kind, Type, Offset>::Bits;
    using Weights<Kind, Type, Offset>::call;

    /// Chunks whose codes are in flight at once: 64 bytes of each lane.
    static constexpr unsigned in_flight = 4;

    template <class Warp>
    FEWBIT_HOST_DEVICE void run(const Warp& warp, unsigned warp_index, std::uint32_t tile,
                                std::uint32_t first, std::uint32_t last,
                                typename Warp::template Value<Sums<TokenTiles>>& sums) const {
        std::uint32_t chunk = first * warps_per_block + warp_index;
        const std::uint32_t end = last * warps_per_block < call.chunks ? last * warps_per_block : call.chunks;
        FEWBIT_ROLL
        for (; chunk < end; chunk += in_flight * warps_per_block) {
            typename Warp::template Value<mma16::Words> codes[in_flight];
            FEWBIT_UNROLL
            for (unsigned i = 0; i < in_flight; ++i)
                if (chunk + i * warps_per_block < end)
                    codes[i] = warp.load_codes(
                        call.codes, std::uint64_t{tile} * call.chunks + chunk + i * warps_per_block);
            FEWBIT_UNROLL
            for (unsigned i = 0; i < in_flight; ++i)
                if (chunk + i * warps_per_block < end)
                    multiply(warp, tile, chunk + i * warps_per_block, codes[i], sums);
        }
    }

    template <class Warp>
    FEWBIT_HOST_DEVICE void multiply(const Warp& warp, std::uint32_t tile, std::uint32_t chunk,
                                     const typename Warp::template Value<mma16::Words>& codes,
                                     typename Warp::template Value<Sums<TokenTiles>>& sums) const {
        using Math = typename Warp::Math;
        typename Warp::template Value<Sums<TokenTiles>> part{}, of_x{};
        FEWBIT_UNROLL
        for (unsigned half = 0; half < mma16::halves_per_chunk(Bits); ++half) {
            const std::uint32_t at = chunk * mma16::halves_per_chunk(Bits) + half;  // in halves of K
            const std::uint32_t group = call.halves_per_group.quotient(at);
            const std::uint64_t pair = pair_of(call, tile, group);
            const auto b = warp.template map<FragmentsB<TokenTiles>>([&](unsigned lane) {
                FragmentsB<TokenTiles> out;
                FEWBIT_UNROLL
                for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8) {
                    const unsigned token = 8 * tile8 + lane / 4;
                    const std::uint64_t from =
                        token * call.x_stride + at * mma16::half_inputs + 8 * (lane % 4);
                    mma16::Words words{};
                    if (token < call.m) words = Math::load_x(call.x, from);
                    FEWBIT_UNROLL
                    for (unsigned i = 0; i < 4; ++i) out.r[tile8][i] = words.w[i];
                }
                return out;
            });
            FEWBIT_UNROLL
            for (unsigned step = 0; step < 2; ++step) {
                const auto a = warp.template map<mma16::FragmentA>(
                    [&](unsigned lane, const mma16::Words& words) {
                        return this->template fragment<Math>(lane, words, half, step, pair);
                    },
                    codes);
                FEWBIT_UNROLL
                for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8)
                    warp.template multiply<Type>(a, b, tile8, step, part);
                if constexpr (Offset == Zero::real) {  // the sum of x, in the same places
                    const auto one =
                        warp.template map<mma16::FragmentA>([](unsigned) { return ones<Type>(); });
                    FEWBIT_UNROLL
                    for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8)
                        warp.template multiply<Type>(one, b, tile8, step, of_x);
                }
            }
            if (half + 1 < mma16::halves_per_chunk(Bits) && call.halves_per_group.quotient(at + 1) == group)
                continue;
            warp.update(
                [&](unsigned lane, Sums<TokenTiles>& sum, const Sums<TokenTiles>& products,
                    const Sums<TokenTiles>& x_sums) {
                    float scale[2], offset[2] = {};
                    Math::load_pair(call.scales, call.scale_type, pair + lane / 4, scale);
                    if constexpr (Offset == Zero::real)
                        Math::load_pair(call.offsets, call.scale_type, pair + lane / 4, offset);
                    FEWBIT_UNROLL
                    for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8) FEWBIT_UNROLL
                    for (unsigned i = 0; i < 4; ++i) {
                        sum.c[tile8][i] = Math::fma_f32(scale[i >> 1], products.c[tile8][i], sum.c[tile8][i]);
                        if constexpr (Offset == Zero::real)
                            sum.c[tile8][i] =
                                Math::fma_f32(offset[i >> 1], x_sums.c[tile8][i], sum.c[tile8][i]);
                    }
                },
                sums, part, of_x);
            part = {};
            of_x = {};
        }
    }
};

/// The work of one block of threads: Block gives warps, shared memory, a barrier and the counting of who comes last.
template <Codes Kind, Half Type, Zero Offset, unsigned TokenTiles, class Block>
FEWBIT_HOST_DEVICE void decode(const Call& call, Block& block) {
    const mma16::Partition& work = call.partition;
    float* const shared = block.shared();
    std::uint32_t* const pairs = block.words() + sum_floats<TokenTiles>;
    if constexpr (Kind == Codes::table4) {
        fill_table(call, block, pairs);
        block.barrier();
    }
    const std::uint64_t end = work.first_unit(block.index() + 1);
    for (std::uint64_t unit = work.first_unit(block.index()); unit < end;) {
        const mma16::Run run = work.run_at(unit, end);
        const std::uint32_t tile = run.tile;

        block.each_warp([&]<class Warp>(const Warp& warp, unsigned warp_index) {
            typename Warp::template Value<Sums<TokenTiles>> sums{};
            Accumulator<Kind, Type, Offset, TokenTiles>{{call, pairs}}.run(warp, warp_index, tile, run.first,
                                                                           run.last, sums);
            warp.update(
                [&](unsigned lane, const Sums<TokenTiles>& sum) {
                    float* const to = shared + warp_index * warp_stride<TokenTiles>;
                    FEWBIT_UNROLL
                    for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8) FEWBIT_UNROLL
                    for (unsigned i = 0; i < 4; ++i)
                        to[(8 * tile8 + lane % 4 * 2 + (i & 1)) * token_stride + lane / 4 + 8 * (i >> 1)] =
                            sum.c[tile8][i];
                },
                sums);
        });
        block.barrier();

        const auto part_of = [&](std::uint32_t b) {
            return call.parts + std::uint64_t{work.slot(b, tile)} * part_floats<TokenTiles>;
        };
        block.each_thread([&](unsigned thread) {
            for (unsigned i = thread; i < part_floats<TokenTiles>; i += threads_per_block) {
                const unsigned channel = i % mma16::tile_channels, token = i / mma16::tile_channels;
                float sum = 0;
                for (unsigned w = 0; w < warps_per_block; ++w)
                    sum += shared[w * warp_stride<TokenTiles> + token * token_stride + channel];
                if (run.whole)
                    block.store(call, token, tile * mma16::tile_channels + channel, sum);
                else
                    part_of(block.index())[i] = sum;
            }
        });
        if (!run.whole &&
            block.comes_last(call.counters + tile, work.last_block(tile) - work.first_block(tile))) {
            block.each_thread([&](unsigned thread) {
                for (unsigned i = thread; i < part_floats<TokenTiles>; i += threads_per_block) {
                    float sum = 0;
                    for (std::uint32_t b = work.first_block(tile); b <= work.last_block(tile); ++b)
                        sum += block.read_part(part_of(b) + i);
                    block.store(call, i / mma16::tile_channels,
                                tile * mma16::tile_channels + i % mma16::tile_channels, sum);
                }
            });
        }
        block.barrier();  // the sums of warps are read before the next tile's are written
        unit += run.last - run.first;
    }
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
