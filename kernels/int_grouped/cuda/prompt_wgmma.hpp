// prompt.hpp's tiles by wgmma, on sm_90a: four warps multiply 64 channels at once, whose codes are registers of A, with 128 rows of x that the
// tensor cores read from shared memory themselves. x is arranged before, so that a stage is a piece of it:
//
//   arranged x   (block of 128 rows, units of 16 bytes of a padded row, 128 rows, 8 numbers)
//   unit         2 step + j of a half of 32 inputs: its columns 8 j .. 8 j + 7 of that step of A (mma16/wgmma.hpp)
//
// A group of four warps has two times 64 channels, one after the other: 128 sums of a thread, and 64 of products that are scaled
// when a group of weights ends. While one group of warps unpacks and scales, the other multiplies.
#pragma once

#include "kernels/int_grouped/cuda/prompt.hpp"
#include "kernels/mma16/wgmma.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

inline constexpr unsigned wgmma_warps = 4;         ///< that multiply together, 16 channels each
inline constexpr unsigned wgmma_warp_tiles = 2;    ///< of 16 channels, of a warp
inline constexpr unsigned wgmma_warp_tokens = 16;  ///< of 8 rows of x
static_assert(8 * wgmma_warp_tokens == prompt_block_rows && mma16::wgmma_rows == prompt_block_rows);
static_assert(warps_per_block * wgmma_warp_tiles == prompt_block_tiles);

/// Arranges rows of f16 or bf16. Rows and inputs that are not there become 0.
struct ArrangeCall {
    const void* x;           ///< (m, k), any alignment
    void* arranged;          ///< 16-byte aligned
    std::uint64_t x_stride;  ///< elements
    std::uint32_t m, k;
    std::uint32_t halves;  ///< of a padded row

    [[nodiscard]] FEWBIT_HOST_DEVICE constexpr std::uint32_t row_blocks() const {
        return (m + prompt_block_rows - 1) / prompt_block_rows;
    }
    /// A thread for each half of each row.
    [[nodiscard]] FEWBIT_HOST_DEVICE constexpr std::uint64_t threads() const {
        return std::uint64_t{row_blocks()} * halves * prompt_block_rows;
    }
};

template <class Block>
FEWBIT_HOST_DEVICE void arrange_rows(const ArrangeCall& call, const Block& block) {
    using Math = typename Block::Warp::Math;
    block.each_thread([&](unsigned thread) {
        const std::uint64_t at = std::uint64_t{block.index()} * threads_per_block + thread;
        if (at >= call.threads()) return;
        const std::uint64_t piece = at / prompt_block_rows;  // half of a block of rows
        const auto within = static_cast<unsigned>(at % prompt_block_rows);
        const std::uint64_t row = piece / call.halves * prompt_block_rows + within;
        const auto first = static_cast<std::uint32_t>(piece % call.halves) * mma16::half_inputs;
        const bool there = row < call.m;
        const std::uint64_t from = there ? row * call.x_stride + first : 0;
        FEWBIT_UNROLL
        for (unsigned unit = 0; unit < 4; ++unit) {
            mma16::Words words{};
            FEWBIT_UNROLL
            for (unsigned column = 0; column < 8; ++column) {
                const unsigned input = mma16::wgmma_input(unit / 2, unit % 2 * 8 + column);
                if (there && first + input < call.k)
                    words.w[column / 2] |= Math::load_u16(call.x, from + input) << 16 * (column % 2);
            }
            Math::store_words(call.arranged, (piece * 4 + unit) * prompt_block_rows + within, words);
        }
    });
}

/// Elements of what ArrangeCall writes.
FEWBIT_HOST_DEVICE constexpr std::uint64_t arranged_elements(std::uint64_t rows, std::uint64_t padded_k) {
    return (rows + prompt_block_rows - 1) / prompt_block_rows * prompt_block_rows * padded_k;
}

/// Which channels of a block's tile a warp has.
struct WgmmaPlace {
    unsigned group_of_warps, within;

    FEWBIT_HOST_DEVICE explicit WgmmaPlace(unsigned warp_index)
        : group_of_warps(warp_index / wgmma_warps), within(warp_index % wgmma_warps) {}
    [[nodiscard]] FEWBIT_HOST_DEVICE unsigned tile_of(unsigned i) const {
        return (group_of_warps * wgmma_warp_tiles + i) * wgmma_warps + within;
    }
    /// Of all four warps, or of none: they multiply together.
    [[nodiscard]] FEWBIT_HOST_DEVICE bool has_work(const Call& call, PromptTile of) const {
        return (std::uint64_t{of.tile} + group_of_warps * wgmma_warp_tiles * wgmma_warps) *
                       mma16::tile_channels <
                   call.n &&
               of.row < call.m;
    }
};

/// What one warp does with a stage.
template <Codes Kind, Half Type, Zero Offset, class Warp>
struct WgmmaWarp : Weights<Kind, Type, Offset> {
    using Weights<Kind, Type, Offset>::call;
    using Memory = PromptMemory<Kind, 4>;
    using Math = typename Warp::Math;
    template <class T>
    using Value = typename Warp::template Value<T>;
    using WarpSums = Value<Sums<wgmma_warp_tokens>>;

    struct Kept {
        WarpSums tile[wgmma_warp_tiles]{};
        WarpSums part{};  ///< products, not scaled yet
    };
    /// Scales or offsets of the channels of a lane as they are stored, g and g + 8 of a tile.
    struct Raw {
        std::uint32_t v[1][2];
    };
    static constexpr unsigned tiles = wgmma_warp_tiles, tokens = wgmma_warp_tokens;
    static constexpr unsigned first_row = 0;

    const Warp& warp;
    WgmmaPlace place;
    PromptTile of;

    FEWBIT_HOST_DEVICE WgmmaWarp(const Call& a_call, const std::uint32_t* table, const Warp& a_warp,
                                 unsigned warp_index, PromptTile tile)
        : Weights<Kind, Type, Offset>{a_call, table}, warp(a_warp), place(warp_index), of(tile) {}

    [[nodiscard]] FEWBIT_HOST_DEVICE unsigned tile_of(unsigned i) const { return place.tile_of(i); }
    [[nodiscard]] FEWBIT_HOST_DEVICE bool has_work() const { return place.has_work(call, of); }
    /// Tiles that are not there multiply zeros with the parameters of the last.
    [[nodiscard]] FEWBIT_HOST_DEVICE std::uint64_t pair(unsigned i, std::uint32_t group) const {
        const std::uint32_t last = (call.n - 1) / mma16::tile_channels, tile = of.tile + tile_of(i);
        return pair_of(call, tile < last ? tile : last, group);
    }
    [[nodiscard]] FEWBIT_HOST_DEVICE std::uint32_t group_of(std::uint32_t chunk, unsigned half) const {
        return call.halves_per_group.quotient(chunk * Memory::halves + half);
    }
    FEWBIT_HOST_DEVICE void multiply(const std::uint32_t* stage, std::uint32_t chunk, Kept& kept) const {
        const std::uint32_t first = group_of(chunk, 0);
        if constexpr (Memory::halves == 1) {
            multiply_run<1>(stage, 0, first, kept);
        } else {
            const std::uint32_t second = group_of(chunk, 1);
            if (first == second) {
                multiply_run<2>(stage, 0, first, kept);
            } else {
                FEWBIT_ROLL
                for (unsigned half = 0; half < 2; ++half)
                    multiply_run<1>(stage, half, half == 0 ? first : second, kept);
            }
        }
    }

    /// Adds `Halves` times 32 inputs from half `half` on, all of one group.
    template <unsigned Halves>
    FEWBIT_HOST_DEVICE void multiply_run(const std::uint32_t* stage, unsigned half, std::uint32_t a_group,
                                         Kept& kept) const {
        FEWBIT_UNROLL
        for (unsigned i = 0; i < wgmma_warp_tiles; ++i) {
            // Hidden, so that nothing of the next tile is found while the sums of this one need the registers.
            const std::uint32_t group = Math::hidden(a_group);
            Value<mma16::FragmentA> a[2 * Halves];
            FEWBIT_UNROLL
            for (unsigned h = 0; h < Halves; ++h) {
                const auto codes = warp.template map<mma16::Words>([&](unsigned lane) {
                    mma16::Words out{};
                    const std::uint32_t* const from = stage + (tile_of(i) * mma16::lanes + lane) * 4;
                    if constexpr (Memory::halves == 1)
                        Math::load_staged(from, out.w);
                    else
                        Math::load_staged_half(from + 2 * (half + h), out.w);
                    return out;
                });
                FEWBIT_UNROLL
                for (unsigned step = 0; step < 2; ++step)
                    a[2 * h + step] = warp.template map<mma16::FragmentA>(
                        [&](unsigned lane, const mma16::Words& words) {
                            return this->template fragment<Math>(lane, words, 0, step, pair(i, group));
                        },
                        codes);
            }
            // On their way while the tensor cores work, unless codes of 8 bits or offsets need the registers.
            constexpr bool early = Memory::halves == 2 && Offset != Zero::real;
            Value<Raw> scales{};
            if constexpr (early) scales = load(i, call.scales, group);
            warp.template multiply_staged<Type>(a, x_of(stage, half), kept.part);
            if constexpr (!early) scales = load(i, call.scales, group);
            add(i, scales, kept);
        }
        if constexpr (Offset == Zero::real) add_offsets<Halves>(stage, half, a_group, kept);
    }
    /// Sums of x are the same for all channels.
    template <unsigned Halves>
    FEWBIT_HOST_DEVICE void add_offsets(const std::uint32_t* stage, unsigned half, std::uint32_t group,
                                        Kept& kept) const {
        Value<mma16::FragmentA> one[2 * Halves];
        FEWBIT_UNROLL
        for (unsigned step = 0; step < 2 * Halves; ++step)
            one[step] = warp.template map<mma16::FragmentA>([](unsigned) { return ones<Type>(); });
        warp.template multiply_staged<Type>(one, x_of(stage, half), kept.part);
        FEWBIT_UNROLL
        for (unsigned i = 0; i < wgmma_warp_tiles; ++i) {
            WgmmaWarp here = *this;  // so that no place is found before it is needed
            here.of.tile = Math::hidden(of.tile);
            here.add(i, here.load(i, call.offsets, Math::hidden(group)), kept);
        }
    }
    /// The units of x from a half on.
    [[nodiscard]] FEWBIT_HOST_DEVICE static const std::uint32_t* x_of(const std::uint32_t* stage,
                                                                      unsigned half) {
        return stage + Memory::code_words + half * 4 * prompt_block_rows * 4;
    }
    [[nodiscard]] FEWBIT_HOST_DEVICE Value<Raw> load(unsigned i, const void* from,
                                                     std::uint32_t group) const {
        const std::uint64_t first = pair(i, group);
        return warp.template map<Raw>([&](unsigned lane) {
            const std::uint64_t at[1] = {first + lane / 4};
            Raw out{};
            Math::load_raw(from, call.scale_type, at, out.v);
            return out;
        });
    }
    /// The sums of tile i += parameters x products.
    FEWBIT_HOST_DEVICE void add(unsigned i, const Value<Raw>& parameters, Kept& kept) const {
        warp.update(
            [&](unsigned, Sums<wgmma_warp_tokens>& sum, const Sums<wgmma_warp_tokens>& part, const Raw& raw) {
                float factor[1][2];
                Math::numbers(call.scale_type, raw.v, factor);
                FEWBIT_UNROLL
                for (unsigned t = 0; t < wgmma_warp_tokens; ++t) FEWBIT_UNROLL
                for (unsigned c = 0; c < 4; ++c)
                    sum.c[t][c] = Math::fma_f32(factor[0][c >> 1], part.c[t][c], sum.c[t][c]);
            },
            kept.tile[i], kept.part, parameters);
    }
};

/// Call::x is what ArrangeCall has written.
template <Codes Kind, Half Type, Zero Offset>
struct WgmmaWay : FloatSums {
    using Memory = PromptMemory<Kind, 4>;
    template <class Warp>
    using Worker = WgmmaWarp<Kind, Type, Offset, Warp>;

    /// The thread's copies of x to the stage at word `at`: a piece of memory as it is.
    template <class Block>
    FEWBIT_HOST_DEVICE static void copy_x(const Call& call, Block& block, PromptTile of, std::uint32_t chunk,
                                          unsigned at, unsigned thread) {
        constexpr unsigned units = prompt_block_rows * Memory::units_per_row;
        const std::uint64_t first =
            (std::uint64_t{of.row / prompt_block_rows} * call.chunks + chunk) * units + thread;
        FEWBIT_UNROLL
        for (unsigned i = 0; i < units / threads_per_block; ++i)
            block.copy16(at + Memory::code_words + (i * threads_per_block + thread) * 4, call.x,
                         (first + i * threads_per_block) * 16, true);
    }
    /// A thread's own copies are there: for the tensor cores, too, which read by another way.
    template <class Block>
    FEWBIT_HOST_DEVICE static void copied(const Block& block) {
        block.show_to_tensor_cores();
    }
};

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
