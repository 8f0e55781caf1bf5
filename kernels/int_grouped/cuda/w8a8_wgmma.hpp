// W8A8 by wgmma, on sm_90a: four warps multiply 64 channels, whose codes are registers of A, with 128 rows of x in shared memory,
// 128 inputs for each stage of 48 KB. A group of four warps has two times 64 channels.
#pragma once

#include "kernels/int_grouped/cuda/prompt_wgmma.hpp"
#include "kernels/int_grouped/cuda/w8a8.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

inline constexpr unsigned wgmma_byte_chunks = 4;
static_assert(wgmma_byte_chunks == chunks_per_unit, "stages start where units do");

template <Codes Kind>
using WgmmaByteWay = ByteWay<Kind, 4, wgmma_byte_chunks>;

/// What one warp does with a stage.
template <Codes Kind, class Warp>
struct WgmmaByteWarp {
    using Math = typename Warp::Math;
    using Memory = typename WgmmaByteWay<Kind>::Memory;
    using WarpSums = typename Warp::template Value<Sums<wgmma_warp_tokens, ByteSum<Kind>>>;
    template <class T>
    using Value = typename Warp::template Value<T>;

    struct Kept {
        WarpSums tile[wgmma_warp_tiles]{};
        WarpSums part{};  ///< of fp8; here, so that it has the same registers each time
    };
    static constexpr unsigned tiles = wgmma_warp_tiles, tokens = wgmma_warp_tokens;
    static constexpr unsigned first_row = 0;

    const Call& call;
    const Warp& warp;
    WgmmaPlace place;
    PromptTile of;

    FEWBIT_HOST_DEVICE WgmmaByteWarp(const Call& a_call, const std::uint32_t*, const Warp& a_warp,
                                     unsigned warp_index, PromptTile tile)
        : call(a_call), warp(a_warp), place(warp_index), of(tile) {}

    [[nodiscard]] FEWBIT_HOST_DEVICE unsigned tile_of(unsigned i) const { return place.tile_of(i); }
    [[nodiscard]] FEWBIT_HOST_DEVICE bool has_work() const { return place.has_work(call, of); }
    FEWBIT_HOST_DEVICE void multiply(const std::uint32_t* stage, std::uint32_t, Kept& kept) const {
        FEWBIT_UNROLL
        for (unsigned i = 0; i < wgmma_warp_tiles; ++i) {
            // Of fp8 hidden, so that no codes of the next tile are there while the sums of this one need the registers.
            const unsigned tile = Kind == Codes::fp8 ? Math::hidden(tile_of(i)) : tile_of(i);
            Value<mma16::FragmentA> a[wgmma_byte_chunks];
            FEWBIT_UNROLL
            for (unsigned c = 0; c < wgmma_byte_chunks; ++c)
                a[c] = warp.template map<mma16::FragmentA>([&](unsigned lane) {
                    mma16::Words words{};
                    Math::load_staged(stage + c * Memory::chunk_code_words + (tile * mma16::lanes + lane) * 4,
                                      words.w);
                    return byte_fragment<Kind, Math>(words);
                });
            const std::uint32_t* const x = stage + Memory::code_words;
            if constexpr (Kind == Codes::fp8) {
                // Tensor cores add fp8 with few bits: sums of more than 128 inputs are f32 of our own.
                warp.template multiply_staged_bytes<Kind>(a, x, false, kept.part);
                warp.update(
                    [](unsigned, Sums<wgmma_warp_tokens>& to, const Sums<wgmma_warp_tokens>& from) {
                        FEWBIT_UNROLL
                        for (unsigned t = 0; t < wgmma_warp_tokens; ++t) FEWBIT_UNROLL
                        for (unsigned c = 0; c < 4; ++c) to.c[t][c] += from.c[t][c];
                    },
                    kept.tile[i], kept.part);
            } else {
                warp.template multiply_staged_bytes<Kind>(a, x, true, kept.tile[i]);
            }
        }
    }
};

template <Codes Kind>
struct W8A8Wgmma : WgmmaByteWay<Kind> {
    template <class Warp>
    using Worker = WgmmaByteWarp<Kind, Warp>;

    /// A thread's own copies are there: for the tensor cores, too, which read by another way.
    template <class Block>
    FEWBIT_HOST_DEVICE static void copied(const Block& block) {
        block.show_to_tensor_cores();
    }
};

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
