// prompt.hpp's tiles by mma.sync, from sm_80 on: a warp has 64 channels x 64 rows, a block of threads 4 x 2 of its warps.
#pragma once

#include "kernels/int_grouped/cuda/prompt.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

/// A table leaves room for two stages on devices that have 99 KB.
template <Codes Kind>
struct MmaMemory : PromptMemory<Kind, Kind == Codes::table4 ? 2 : 3> {
    using Base = PromptMemory<Kind, Kind == Codes::table4 ? 2 : 3>;

    /// Where 16 bytes of a row of x stand. The eight lanes that read at once have two rows: rows of 128 bytes take turns in
    /// which half of the banks comes first.
    FEWBIT_HOST_DEVICE static constexpr unsigned x_word(unsigned row, unsigned unit) {
        return Base::code_words +
               (row * Base::units_per_row + (Base::halves == 2 ? unit ^ (row & 1) << 2 : unit)) * 4;
    }
};

inline constexpr unsigned mma_warp_tiles = 4;   ///< of 16 channels
inline constexpr unsigned mma_warp_tokens = 8;  ///< of 8 rows of x
static_assert(4 * mma_warp_tiles == prompt_block_tiles && 2 * 8 * mma_warp_tokens == prompt_block_rows);

/// Which channels and rows of a block's tile a warp has.
struct MmaPlace {
    unsigned first_tile, first_row;

    FEWBIT_HOST_DEVICE explicit MmaPlace(unsigned warp_index)
        : first_tile(warp_index % 4 * mma_warp_tiles), first_row(warp_index / 4 * 8 * mma_warp_tokens) {}
    [[nodiscard]] FEWBIT_HOST_DEVICE bool has_work(const Call& call, PromptTile of) const {
        return (std::uint64_t{of.tile} + first_tile) * mma16::tile_channels < call.n &&
               of.row + first_row < call.m;
    }
};

/// The sums of a warp.
template <class Warp>
struct MmaSums {
    typename Warp::template Value<Sums<mma_warp_tokens>> tile[mma_warp_tiles]{};
};

/// What one warp does with a stage.
template <Codes Kind, Half Type, Zero Offset, class Warp>
struct MmaWarp : Weights<Kind, Type, Offset>, MmaPlace {
    using Weights<Kind, Type, Offset>::call;
    using Memory = MmaMemory<Kind>;
    using Math = typename Warp::Math;
    template <class T>
    using Value = typename Warp::template Value<T>;

    /// Scales or offsets of the channels of a lane, g and g + 8 of each tile: as they are stored, and what they say.
    struct Raw {
        std::uint32_t v[mma_warp_tiles][2];
    };
    struct Parameters {
        float v[mma_warp_tiles][2];
    };

    using Kept = MmaSums<Warp>;
    static constexpr unsigned tiles = mma_warp_tiles, tokens = mma_warp_tokens;

    const Warp& warp;
    PromptTile of;

    FEWBIT_HOST_DEVICE MmaWarp(const Call& a_call, const std::uint32_t* table, const Warp& a_warp,
                               unsigned warp_index, PromptTile tile)
        : Weights<Kind, Type, Offset>{a_call, table}, MmaPlace(warp_index), warp(a_warp), of(tile) {}

    [[nodiscard]] FEWBIT_HOST_DEVICE unsigned tile_of(unsigned i) const { return first_tile + i; }
    [[nodiscard]] FEWBIT_HOST_DEVICE bool has_work() const { return MmaPlace::has_work(call, of); }
    /// Tiles that are not there multiply zeros with the parameters of the last.
    [[nodiscard]] FEWBIT_HOST_DEVICE std::uint64_t pair(unsigned i, std::uint32_t group) const {
        const std::uint32_t last = (call.n - 1) / mma16::tile_channels, tile = of.tile + first_tile + i;
        return pair_of(call, tile < last ? tile : last, group);
    }
    FEWBIT_HOST_DEVICE void multiply(const std::uint32_t* stage, std::uint32_t chunk,
                                     MmaSums<Warp>& sums) const {
        const auto group_of = [&](unsigned half) {
            return call.halves_per_group.quotient(chunk * Memory::halves + half);
        };
        FEWBIT_ROLL
        for (unsigned half = 0; half < Memory::halves; ++half)
            multiply_half(stage, half, group_of(half), sums);
        if constexpr (Offset ==
                      Zero::real) {  // apart, because their registers do not fit beside those of products
            FEWBIT_ROLL
            for (unsigned half = 0; half < Memory::halves; ++half)
                add_offsets(stage, half, group_of(half), sums);
        }
    }

    /// Adds 32 inputs, all of one group.
    FEWBIT_HOST_DEVICE void multiply_half(const std::uint32_t* stage, unsigned half, std::uint32_t group,
                                          MmaSums<Warp>& sums) const {
        // On their way while codes are unpacked, unless the words of 8-bit codes need the registers.
        constexpr bool early = Memory::halves == 2;
        Value<Raw> raw_scales{};
        if constexpr (early) raw_scales = load(call.scales, group);
        Value<mma16::FragmentA> a[mma_warp_tiles][2];
        FEWBIT_UNROLL
        for (unsigned i = 0; i < mma_warp_tiles; ++i) {
            const auto codes = warp.template map<mma16::Words>([&](unsigned lane) {
                return load_codes(stage + ((first_tile + i) * mma16::lanes + lane) * 4, half);
            });
            FEWBIT_UNROLL
            for (unsigned step = 0; step < 2; ++step)
                a[i][step] = warp.template map<mma16::FragmentA>(
                    [&](unsigned lane, const mma16::Words& words) {
                        return this->template fragment<Math>(lane, words, 0, step, pair(i, group));
                    },
                    codes);
        }
        if constexpr (!early) raw_scales = load(call.scales, group);
        const Value<Parameters> scales = numbers(raw_scales);
        FEWBIT_UNROLL
        for (unsigned t = 0; t < mma_warp_tokens; ++t) {
            const auto b = operands(stage, half, t);
            Value<Sums<1>> part[mma_warp_tiles]{};
            FEWBIT_UNROLL
            for (unsigned step = 0; step < 2; ++step) FEWBIT_UNROLL
            for (unsigned i = 0; i < mma_warp_tiles; ++i)
                warp.template multiply<Type>(a[i][step], b, 0, step, part[i]);
            FEWBIT_UNROLL
            for (unsigned i = 0; i < mma_warp_tiles; ++i) add(t, i, scales, part[i], sums);
        }
    }
    /// Adds the offsets of 32 inputs: sums of x, the same for all channels.
    FEWBIT_HOST_DEVICE void add_offsets(const std::uint32_t* stage, unsigned half, std::uint32_t group,
                                        MmaSums<Warp>& sums) const {
        MmaWarp here = *this;  // so that no place is found before it is needed
        here.of.tile = Math::hidden(of.tile);
        const Value<Parameters> offsets = here.numbers(here.load(call.offsets, group));
        const auto one = warp.template map<mma16::FragmentA>([](unsigned) { return ones<Type>(); });
        FEWBIT_UNROLL
        for (unsigned t = 0; t < mma_warp_tokens; ++t) {
            const auto b = operands(stage, half, t);
            Value<Sums<1>> of_x{};
            FEWBIT_UNROLL
            for (unsigned step = 0; step < 2; ++step) warp.template multiply<Type>(one, b, 0, step, of_x);
            FEWBIT_UNROLL
            for (unsigned i = 0; i < mma_warp_tiles; ++i) add(t, i, offsets, of_x, sums);
        }
    }
    /// 8 rows of x, 32 inputs.
    [[nodiscard]] FEWBIT_HOST_DEVICE Value<FragmentsB<1>> operands(const std::uint32_t* stage, unsigned half,
                                                                   unsigned t) const {
        return warp.template map<FragmentsB<1>>([&](unsigned lane) {
            FragmentsB<1> out;
            Math::load_staged(stage + Memory::x_word(first_row + 8 * t + lane / 4, 4 * half + lane % 4),
                              out.r[0]);
            return out;
        });
    }
    /// The sums of tile i and rows t += parameters x products.
    FEWBIT_HOST_DEVICE void add(unsigned t, unsigned i, const Value<Parameters>& parameters,
                                const Value<Sums<1>>& products, MmaSums<Warp>& sums) const {
        warp.update(
            [&](unsigned, Sums<mma_warp_tokens>& sum, const Sums<1>& product, const Parameters& factor) {
                FEWBIT_UNROLL
                for (unsigned c = 0; c < 4; ++c)
                    sum.c[t][c] = Math::fma_f32(factor.v[i][c >> 1], product.c[0][c], sum.c[t][c]);
            },
            sums.tile[i], products, parameters);
    }
    [[nodiscard]] FEWBIT_HOST_DEVICE Value<Raw> load(const void* from, std::uint32_t group) const {
        return warp.template map<Raw>([&](unsigned lane) {
            std::uint64_t at[mma_warp_tiles];
            FEWBIT_UNROLL
            for (unsigned i = 0; i < mma_warp_tiles; ++i) at[i] = pair(i, group) + lane / 4;
            Raw out{};
            Math::load_raw(from, call.scale_type, at, out.v);
            return out;
        });
    }
    [[nodiscard]] FEWBIT_HOST_DEVICE Value<Parameters> numbers(const Value<Raw>& raw) const {
        return warp.template map<Parameters>(
            [&](unsigned, const Raw& bits) {
                Parameters out{};
                Math::numbers(call.scale_type, bits.v, out.v);
                return out;
            },
            raw);
    }
    /// The lane's codes of one half, as words of half 0.
    [[nodiscard]] FEWBIT_HOST_DEVICE static mma16::Words load_codes(const std::uint32_t* lane,
                                                                    unsigned half) {
        mma16::Words out{};
        if constexpr (Memory::halves == 1)
            Math::load_staged(lane, out.w);
        else
            Math::load_staged_half(lane + 2 * half, out.w);
        return out;
    }
};

template <Codes Kind, Half Type, Zero Offset>
struct MmaWay : FloatSums {
    using Memory = MmaMemory<Kind>;
    template <class Warp>
    using Worker = MmaWarp<Kind, Type, Offset, Warp>;

    /// The thread's copies of rows of x to the stage at word `at`.
    template <class Block>
    FEWBIT_HOST_DEVICE static void copy_x(const Call& call, Block& block, PromptTile of, std::uint32_t chunk,
                                          unsigned at, unsigned thread) {
        using Math = typename Block::Warp::Math;
        constexpr unsigned x_units = prompt_block_rows * Memory::units_per_row;
        constexpr unsigned rows_apart = threads_per_block / Memory::units_per_row;
        static_assert(rows_apart % 2 == 0, "rows of equal parity, which x_word asks for");
        const unsigned row = thread / Memory::units_per_row, within = thread % Memory::units_per_row;
        const std::uint64_t first =
            (std::uint64_t{of.row} + row) * call.x_stride * 2 + (chunk * Memory::units_per_row + within) * 16;
        const std::uint64_t apart = call.x_stride * Math::hidden(2 * rows_apart);
        const unsigned word = at + Memory::x_word(row, within);
        FEWBIT_UNROLL
        for (unsigned i = 0; i < x_units / threads_per_block; ++i)
            block.copy16(word + i * rows_apart * Memory::units_per_row * 4, call.x, first + i * apart,
                         of.row + row + i * rows_apart < call.m);
    }
    /// A thread's own copies are there.
    template <class Block>
    FEWBIT_HOST_DEVICE static void copied(const Block&) {}
};

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
