// Up to 64 rows of x times codes on tensor cores: decode.hpp's arithmetic with another division of labour, so that x is
// read once for 256 channels instead of 16.
//
// A warp has 32 channels of its own (two tiles of 16) and the sums of all rows in registers; the eight warps of a block
// walk along K side by side and find each other's x in L1. Codes are unpacked once for all rows. Blocks that share 256
// channels leave their sums lane by lane and are added in the order of K, as in decode.hpp.
#pragma once

#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

inline constexpr unsigned tiles_per_warp = 2;
inline constexpr unsigned tiles_per_block = tiles_per_warp * warps_per_block;

/// What blocks that share their channels leave for each other: (tile, row of x, channel).
template <unsigned TokenTiles>
inline constexpr unsigned batch_part_floats = tiles_per_block* TokenTiles * 8 * mma16::tile_channels;

/// 4-byte words of shared memory: sums on their way out, then the table.
template <Codes Kind>
inline constexpr unsigned batch_shared_words = warps_per_block* staged_words +
                                               (Kind == Codes::table4 ? mma16::table_words : 0);

/// The sums of a warp over chunks [first, last).
template <Codes Kind, Half Type, Zero Offset, unsigned TokenTiles>
struct BatchAccumulator : Weights<Kind, Type, Offset> {
    using Weights<Kind, Type, Offset>::Bits;
    using Weights<Kind, Type, Offset>::call;

    static constexpr unsigned halves = mma16::halves_per_chunk(Bits);

    template <class Warp>
    using Codes16 = typename Warp::template Value<mma16::Words>;
    template <class Warp>
    using WarpSums = typename Warp::template Value<Sums<TokenTiles>>;

    template <class Warp>
    FEWBIT_HOST_DEVICE void load(const Warp& warp, std::uint32_t tile, std::uint32_t chunk,
                                 std::uint32_t last, Codes16<Warp> (&codes)[tiles_per_warp]) const {
        FEWBIT_UNROLL
        for (unsigned i = 0; i < tiles_per_warp; ++i)
            if (has(tile + i) && chunk < last)
                codes[i] = warp.load_codes(call.codes, std::uint64_t{tile + i} * call.chunks + chunk);
    }

    /// The last warp may have a tile that is not there: it multiplies zeros with the parameters of its first.
    [[nodiscard]] FEWBIT_HOST_DEVICE bool has(std::uint32_t tile) const {
        return std::uint64_t{tile} * mma16::tile_channels < call.n;
    }
    [[nodiscard]] FEWBIT_HOST_DEVICE std::uint64_t pair(std::uint32_t tile, unsigned i,
                                                        std::uint32_t group) const {
        return pair_of(call, has(tile + i) ? tile + i : tile, group);
    }

    /// Chunks whose codes are on their way while one is multiplied.
    static constexpr unsigned ahead = 2;

    /// `tile`: the first of the warp's.
    template <class Warp>
    FEWBIT_HOST_DEVICE void run(const Warp& warp, std::uint32_t tile, std::uint32_t first, std::uint32_t last,
                                WarpSums<Warp> (&sums)[tiles_per_warp]) const {
        if (!has(tile)) return;
        Codes16<Warp> codes[ahead + 1][tiles_per_warp]{};
        FEWBIT_UNROLL
        for (unsigned i = 0; i < ahead; ++i) load(warp, tile, first + i, last, codes[i]);
        FEWBIT_ROLL
        for (std::uint32_t chunk = first; chunk < last; ++chunk) {
            load(warp, tile, chunk + ahead, last, codes[ahead]);
            const std::uint32_t at = chunk * halves, group = call.halves_per_group.quotient(at);
            const std::uint32_t last_group = call.halves_per_group.quotient(at + halves - 1);
            if (halves == 2 && group == last_group) {
                multiply<halves>(warp, tile, group, at, 0, codes[0], sums);
            } else {
                multiply<1>(warp, tile, group, at, 0, codes[0], sums);
                if constexpr (halves == 2) multiply<1>(warp, tile, last_group, at + 1, 1, codes[0], sums);
            }
            FEWBIT_UNROLL
            for (unsigned j = 0; j < ahead; ++j) {
                FEWBIT_UNROLL
                for (unsigned i = 0; i < tiles_per_warp; ++i) codes[j][i] = codes[j + 1][i];
            }
        }
    }

    /// Adds `Together` halves of one group, from half `at` of K, `half` of the chunk.
    template <unsigned Together, class Warp>
    FEWBIT_HOST_DEVICE void multiply(const Warp& warp, std::uint32_t tile, std::uint32_t group,
                                     std::uint32_t at, unsigned half,
                                     const Codes16<Warp> (&codes)[tiles_per_warp],
                                     WarpSums<Warp> (&sums)[tiles_per_warp]) const {
        using Math = typename Warp::Math;
        typename Warp::template Value<mma16::FragmentA> a[tiles_per_warp][2 * Together];
        FEWBIT_UNROLL
        for (unsigned i = 0; i < tiles_per_warp; ++i) FEWBIT_UNROLL
        for (unsigned s = 0; s < 2 * Together; ++s)
            a[i][s] = warp.template map<mma16::FragmentA>(
                [&](unsigned lane, const mma16::Words& words) {
                    return this->template fragment<Math>(lane, words, half + s / 2, s % 2,
                                                         pair(tile, i, group));
                },
                codes[i]);
        FEWBIT_UNROLL
        for (unsigned tile8 = 0; tile8 < TokenTiles; ++tile8) {
            if (8 * tile8 >= call.m) break;
            typename Warp::template Value<Sums<1>> part[tiles_per_warp]{}, of_x{};
            FEWBIT_UNROLL
            for (unsigned h = 0; h < Together; ++h) {
                const auto b = warp.template map<FragmentsB<1>>([&](unsigned lane) {
                    const unsigned token = 8 * tile8 + lane / 4;
                    mma16::Words words{};
                    if (token < call.m)
                        words = Math::load_x(
                            call.x, token * call.x_stride + (at + h) * mma16::half_inputs + 8 * (lane % 4));
                    return FragmentsB<1>{{{words.w[0], words.w[1], words.w[2], words.w[3]}}};
                });
                FEWBIT_UNROLL
                for (unsigned step = 0; step < 2; ++step) {
                    FEWBIT_UNROLL
                    for (unsigned i = 0; i < tiles_per_warp; ++i)
                        warp.template multiply<Type>(a[i][2 * h + step], b, 0, step, part[i]);
                    if constexpr (Offset == Zero::real) {
                        const auto one =
                            warp.template map<mma16::FragmentA>([](unsigned) { return ones<Type>(); });
                        warp.template multiply<Type>(one, b, 0, step, of_x);
                    }
                }
            }
            FEWBIT_UNROLL
            for (unsigned i = 0; i < tiles_per_warp; ++i)
                warp.update(
                    [&](unsigned lane, Sums<TokenTiles>& sum, const Sums<1>& products,
                        const Sums<1>& x_sums) {
                        float scale[2], offset[2] = {};
                        const std::uint64_t at_pair = pair(tile, i, group) + lane / 4;
                        Math::load_pair(call.scales, call.scale_type, at_pair, scale);
                        if constexpr (Offset == Zero::real)
                            Math::load_pair(call.offsets, call.scale_type, at_pair, offset);
                        FEWBIT_UNROLL
                        for (unsigned c = 0; c < 4; ++c) {
                            float& to = sum.c[tile8][c];
                            to = Math::fma_f32(scale[c >> 1], products.c[0][c], to);
                            if constexpr (Offset == Zero::real)
                                to = Math::fma_f32(offset[c >> 1], x_sums.c[0][c], to);
                        }
                    },
                    sums[i], part[i], of_x);
        }
    }
};

/// The work of one block of threads. Tiles of the partition are 256 channels, units chunks_per_unit chunks.
template <Codes Kind, Half Type, Zero Offset, unsigned TokenTiles, class Block>
FEWBIT_HOST_DEVICE void batch(const Call& call, Block& block) {
    const mma16::Partition& work = call.partition;
    std::uint32_t* const pairs = block.words() + warps_per_block * staged_words;
    if constexpr (Kind == Codes::table4) {
        fill_table(call, block, pairs);
        block.barrier();
    }
    const std::uint64_t end = work.first_unit(block.index() + 1);
    for (std::uint64_t unit = work.first_unit(block.index()); unit < end;) {
        const mma16::Run run = work.run_at(unit, end);
        const std::uint32_t tile = run.tile;
        const std::uint32_t last_chunk =
            run.last * chunks_per_unit < call.chunks ? run.last * chunks_per_unit : call.chunks;
        const auto part_of = [&](std::uint32_t b) {
            return call.parts + std::uint64_t{work.slot(b, tile)} * batch_part_floats<TokenTiles>;
        };
        block.each_warp([&]<class Warp>(const Warp& warp, unsigned warp_index) {
            typename Warp::template Value<Sums<TokenTiles>> sums[tiles_per_warp]{};
            const std::uint32_t own = (tile * warps_per_block + warp_index) * tiles_per_warp;
            BatchAccumulator<Kind, Type, Offset, TokenTiles>{{call, pairs}}.run(
                warp, own, run.first * chunks_per_unit, last_chunk, sums);
            FEWBIT_UNROLL
            for (unsigned i = 0; i < tiles_per_warp; ++i)
                each_staged<TokenTiles>(
                    warp, sums[i], block.shared() + warp_index * staged_words,
                    [&](unsigned token, unsigned channel, float sum) {
                        const unsigned within = warp_index * tiles_per_warp + i;
                        if (run.whole)
                            block.store(call, token,
                                        (tile * tiles_per_block + within) * mma16::tile_channels + channel,
                                        sum);
                        else
                            part_of(block.index())[(within * 8 * TokenTiles + token) * mma16::tile_channels +
                                                   channel] = sum;
                    });
        });
        if (!run.whole &&
            block.comes_last(call.counters + tile, work.last_block(tile) - work.first_block(tile)))
            block.each_thread([&](unsigned thread) {
                FEWBIT_ROLL
                for (unsigned at = thread; at < batch_part_floats<TokenTiles>; at += threads_per_block) {
                    float sum = 0;
                    FEWBIT_ROLL
                    for (std::uint32_t b = work.first_block(tile); b <= work.last_block(tile); ++b)
                        sum += block.read_part(part_of(b) + at);
                    const unsigned within = at / (8 * TokenTiles * mma16::tile_channels);
                    block.store(
                        call, at / mma16::tile_channels % (8 * TokenTiles),
                        (tile * tiles_per_block + within) * mma16::tile_channels + at % mma16::tile_channels,
                        sum);
                }
            });
        unit += run.last - run.first;
    }
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
