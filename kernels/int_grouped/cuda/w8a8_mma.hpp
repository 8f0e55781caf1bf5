// W8A8 by mma.m16n8k32, from sm_80 on (fp8: sm_89): a warp has 64 channels x 64 rows of prompt.hpp's tile.
#pragma once

#include "kernels/int_grouped/cuda/prompt_mma.hpp"
#include "kernels/int_grouped/cuda/w8a8.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

/// Three stages of 64 inputs: 72 KB.
template <Codes Kind>
using MmaByteWay = ByteWay<Kind, 3, 2>;

/// Operands of 32 inputs for a lane: registers of B for 8 rows of x.
struct ByteOperands {
    std::uint32_t r[byte_units];
};

/// What one warp does with a stage.
template <Codes Kind, class Warp>
struct MmaByteWarp : MmaPlace {
    using Math = typename Warp::Math;
    using Memory = typename MmaByteWay<Kind>::Memory;
    template <class T>
    using Value = typename Warp::template Value<T>;

    struct Kept {
        Value<Sums<mma_warp_tokens, ByteSum<Kind>>> tile[mma_warp_tiles]{};
    };
    static constexpr unsigned tiles = mma_warp_tiles, tokens = mma_warp_tokens;

    const Call& call;
    const Warp& warp;
    PromptTile of;

    FEWBIT_HOST_DEVICE MmaByteWarp(const Call& a_call, const std::uint32_t*, const Warp& a_warp,
                                   unsigned warp_index, PromptTile tile)
        : MmaPlace(warp_index), call(a_call), warp(a_warp), of(tile) {}

    [[nodiscard]] FEWBIT_HOST_DEVICE unsigned tile_of(unsigned i) const { return first_tile + i; }
    [[nodiscard]] FEWBIT_HOST_DEVICE bool has_work() const { return MmaPlace::has_work(call, of); }
    FEWBIT_HOST_DEVICE void multiply(const std::uint32_t* stage, std::uint32_t, Kept& kept) const {
        FEWBIT_ROLL
        for (unsigned c = 0; c < Memory::chunks; ++c) FEWBIT_UNROLL
        for (unsigned i = 0; i < mma_warp_tiles; i += at_once)
            multiply_chunk(i, stage + c * Memory::chunk_code_words,
                           stage + Memory::code_words + c * byte_chunk_words, kept);
    }

private:
    /// Tiles that are multiplied with what is loaded of x: products of fp8 need registers beside the sums.
    static constexpr unsigned at_once = Kind == Codes::fp8 ? 1 : mma_warp_tiles;

    FEWBIT_HOST_DEVICE void multiply_chunk(unsigned first, const std::uint32_t* codes, const std::uint32_t* x,
                                           Kept& kept) const {
        Value<mma16::FragmentA> a[at_once];
        FEWBIT_UNROLL
        for (unsigned i = 0; i < at_once; ++i)
            a[i] = warp.template map<mma16::FragmentA>([&](unsigned lane) {
                mma16::Words words{};
                Math::load_staged(codes + ((first_tile + first + i) * mma16::lanes + lane) * 4, words.w);
                return byte_fragment<Kind, Math>(words);
            });
        // Of fp8 hidden, so that x is loaded again for other tiles rather than kept.
        const unsigned x_row = Kind == Codes::fp8 ? Math::hidden(first_row) : first_row;
        FEWBIT_UNROLL
        for (unsigned t = 0; t < mma_warp_tokens; ++t) {
            const auto b = warp.template map<ByteOperands>([&](unsigned lane) {
                ByteOperands out{};
                FEWBIT_UNROLL
                for (unsigned unit = 0; unit < byte_units; ++unit)
                    out.r[unit] = x[(unit * prompt_block_rows + x_row + 8 * t + lane / 4) * 4 + lane % 4];
                return out;
            });
            FEWBIT_UNROLL
            for (unsigned i = 0; i < at_once; ++i) {
                if constexpr (Kind == Codes::fp8) {
                    // Tensor cores add fp8 with few bits: sums of more than 32 inputs are f32 of our own.
                    Value<Sums<1>> part{};
                    warp.template multiply_bytes<Kind>(a[i], b, 0, part);
                    warp.update(
                        [&](unsigned, Sums<mma_warp_tokens>& to, const Sums<1>& from) {
                            FEWBIT_UNROLL
                            for (unsigned c = 0; c < 4; ++c) to.c[t][c] += from.c[0][c];
                        },
                        kept.tile[first + i], part);
                } else {
                    warp.template multiply_bytes<Kind>(a[i], b, t, kept.tile[first + i]);
                }
            }
        }
    }
};

template <Codes Kind>
struct W8A8Mma : MmaByteWay<Kind> {
    template <class Warp>
    using Worker = MmaByteWarp<Kind, Warp>;

    /// A thread's own copies are there.
    template <class Block>
    FEWBIT_HOST_DEVICE static void copied(const Block&) {}
};

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
