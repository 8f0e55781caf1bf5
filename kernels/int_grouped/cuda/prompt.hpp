// Any number of rows of x times codes on tensor cores, for prompts: decode.hpp's arithmetic in tiles of 256 channels x 128 rows.
//
//   shared memory   stage 0                       stage 1 ...                   table (of Codes::table4)
//                   codes   16 tiles, 512 bytes   each stage one chunk of K
//                   x       128 rows, 64 bytes for each half of the chunk
//
// Codes and x are copied asynchronously, stages ahead of the tensor cores; a warp has 64 channels x 64 rows, a block of threads
// 4 x 2 of its warps. A run of tiles and of K is a block's (partition.hpp): where tiles do not fill the device, several share one.
#pragma once

#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

inline constexpr unsigned prompt_warp_tiles = 4;   ///< of 16 channels
inline constexpr unsigned prompt_warp_tokens = 8;  ///< of 8 rows of x
inline constexpr unsigned prompt_block_tiles = 4 * prompt_warp_tiles;
inline constexpr unsigned prompt_block_rows = 2 * 8 * prompt_warp_tokens;
/// What blocks that share a tile leave for each other.
inline constexpr unsigned prompt_part_floats = prompt_block_tiles * mma16::tile_channels * prompt_block_rows;

/// Sizes in 4-byte words.
template <Codes Kind>
struct PromptMemory {
    static constexpr unsigned halves = mma16::halves_per_chunk(mma16::bits_of(Kind));
    /// A table leaves room for two on devices that have 99 KB.
    static constexpr unsigned stages = Kind == Codes::table4 ? 2 : 3;
    static constexpr unsigned code_words = prompt_block_tiles * mma16::chunk_bytes / 4;
    static constexpr unsigned units_per_row = 4 * halves;  ///< of 16 bytes
    static constexpr unsigned stage_words = code_words + prompt_block_rows * units_per_row * 4;
    static constexpr unsigned table_at = stages * stage_words;
    static constexpr unsigned words = table_at + (Kind == Codes::table4 ? mma16::table_words : 0);

    /// Where 16 bytes of a row of x stand. The eight lanes that read at once have two rows: rows of 128 bytes take turns in
    /// which half of the banks comes first.
    FEWBIT_HOST_DEVICE static constexpr unsigned x_word(unsigned row, unsigned unit) {
        return code_words + (row * units_per_row + (halves == 2 ? unit ^ (row & 1) << 2 : unit)) * 4;
    }
};

/// The tile of a block of threads: the same channels for all rows, then the next, so that blocks that run together share codes.
struct PromptTile {
    std::uint32_t tile;  ///< first of its tiles of 16 channels
    std::uint32_t row;

    FEWBIT_HOST_DEVICE static constexpr std::uint32_t row_blocks(std::uint32_t m) {
        return (m + prompt_block_rows - 1) / prompt_block_rows;
    }
    FEWBIT_HOST_DEVICE static constexpr PromptTile at(std::uint32_t index, std::uint32_t m) {
        return {index / row_blocks(m) * prompt_block_tiles, index % row_blocks(m) * prompt_block_rows};
    }
    FEWBIT_HOST_DEVICE constexpr std::uint32_t index(std::uint32_t m) const {
        return tile / prompt_block_tiles * row_blocks(m) + row / prompt_block_rows;
    }
};

static_assert(warps_per_block * staged_words <= PromptMemory<Codes::table4>::table_at);

/// The sums of a warp.
template <class Warp>
struct PromptSums {
    typename Warp::template Value<Sums<prompt_warp_tokens>> tile[prompt_warp_tiles]{};
};

/// What one warp does with a stage.
template <Codes Kind, Half Type, Zero Offset, class Warp>
struct PromptWarp : Weights<Kind, Type, Offset> {
    using Weights<Kind, Type, Offset>::call;
    using Memory = PromptMemory<Kind>;
    using Math = typename Warp::Math;
    template <class T>
    using Value = typename Warp::template Value<T>;

    /// Scales or offsets of the channels of a lane, g and g + 8 of each tile: as they are stored, and what they say.
    struct Raw {
        std::uint32_t v[prompt_warp_tiles][2];
    };
    struct Parameters {
        float v[prompt_warp_tiles][2];
    };

    const Warp& warp;
    unsigned first_tile, first_row;  ///< within the block's
    PromptTile of;

    FEWBIT_HOST_DEVICE PromptWarp(const Call& a_call, const std::uint32_t* table, const Warp& a_warp,
                                  unsigned warp_index, PromptTile tile)
        : Weights<Kind, Type, Offset>{a_call, table},
          warp(a_warp),
          first_tile(warp_index % 4 * prompt_warp_tiles),
          first_row(warp_index / 4 * 8 * prompt_warp_tokens),
          of(tile) {}

    [[nodiscard]] FEWBIT_HOST_DEVICE bool has_work() const {
        return (std::uint64_t{of.tile} + first_tile) * mma16::tile_channels < call.n &&
               of.row + first_row < call.m;
    }
    /// Tiles that are not there multiply zeros with the parameters of the last.
    [[nodiscard]] FEWBIT_HOST_DEVICE std::uint64_t pair(unsigned i, std::uint32_t group) const {
        const std::uint32_t last = (call.n - 1) / mma16::tile_channels, tile = of.tile + first_tile + i;
        return pair_of(call, tile < last ? tile : last, group);
    }
    FEWBIT_HOST_DEVICE void multiply(const std::uint32_t* stage, std::uint32_t chunk,
                                     PromptSums<Warp>& sums) const {
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
                                          PromptSums<Warp>& sums) const {
        // On their way while codes are unpacked, unless the words of 8-bit codes need the registers.
        constexpr bool early = Memory::halves == 2;
        Value<Raw> raw_scales{};
        if constexpr (early) raw_scales = load(call.scales, group);
        Value<mma16::FragmentA> a[prompt_warp_tiles][2];
        FEWBIT_UNROLL
        for (unsigned i = 0; i < prompt_warp_tiles; ++i) {
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
        for (unsigned t = 0; t < prompt_warp_tokens; ++t) {
            const auto b = operands(stage, half, t);
            Value<Sums<1>> part[prompt_warp_tiles]{};
            FEWBIT_UNROLL
            for (unsigned step = 0; step < 2; ++step) FEWBIT_UNROLL
            for (unsigned i = 0; i < prompt_warp_tiles; ++i)
                warp.template multiply<Type>(a[i][step], b, 0, step, part[i]);
            FEWBIT_UNROLL
            for (unsigned i = 0; i < prompt_warp_tiles; ++i) add(t, i, scales, part[i], sums);
        }
    }
    /// Adds the offsets of 32 inputs: sums of x, the same for all channels.
    FEWBIT_HOST_DEVICE void add_offsets(const std::uint32_t* stage, unsigned half, std::uint32_t group,
                                        PromptSums<Warp>& sums) const {
        PromptWarp here = *this;  // so that no place is found before it is needed
        here.of.tile = Math::hidden(of.tile);
        const Value<Parameters> offsets = here.numbers(here.load(call.offsets, group));
        const auto one = warp.template map<mma16::FragmentA>([](unsigned) { return ones<Type>(); });
        FEWBIT_UNROLL
        for (unsigned t = 0; t < prompt_warp_tokens; ++t) {
            const auto b = operands(stage, half, t);
            Value<Sums<1>> of_x{};
            FEWBIT_UNROLL
            for (unsigned step = 0; step < 2; ++step) warp.template multiply<Type>(one, b, 0, step, of_x);
            FEWBIT_UNROLL
            for (unsigned i = 0; i < prompt_warp_tiles; ++i) add(t, i, offsets, of_x, sums);
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
                                const Value<Sums<1>>& products, PromptSums<Warp>& sums) const {
        warp.update(
            [&](unsigned, Sums<prompt_warp_tokens>& sum, const Sums<1>& product, const Parameters& factor) {
                FEWBIT_UNROLL
                for (unsigned c = 0; c < 4; ++c)
                    sum.c[t][c] = Math::fma_f32(factor.v[i][c >> 1], product.c[0][c], sum.c[t][c]);
            },
            sums.tile[i], products, parameters);
    }
    [[nodiscard]] FEWBIT_HOST_DEVICE Value<Raw> load(const void* from, std::uint32_t group) const {
        return warp.template map<Raw>([&](unsigned lane) {
            std::uint64_t at[prompt_warp_tiles];
            FEWBIT_UNROLL
            for (unsigned i = 0; i < prompt_warp_tiles; ++i) at[i] = pair(i, group) + lane / 4;
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

/// Starts the copies of chunk `chunk` to a stage.
template <Codes Kind, class Block>
FEWBIT_HOST_DEVICE void fill_stage(const Call& call, Block& block, PromptTile of, std::uint32_t chunk,
                                   unsigned stage) {
    using Memory = PromptMemory<Kind>;
    using Math = typename Block::Warp::Math;
    constexpr unsigned code_units = Memory::code_words / 4;
    constexpr unsigned x_units = prompt_block_rows * Memory::units_per_row;
    block.each_thread([&](unsigned thread) {
        // A thread's copies are equally far from each other, here and there. How far is hidden: found each time, it takes no
        // register from the sums.
        const unsigned at = stage * Memory::stage_words;
        {
            constexpr unsigned tiles_apart = threads_per_block / mma16::lanes;
            const std::uint32_t tile = of.tile + thread / mma16::lanes;
            const std::uint64_t first =
                (std::uint64_t{tile} * call.chunks + chunk) * mma16::chunk_bytes + thread % mma16::lanes * 16;
            const std::uint64_t apart =
                std::uint64_t{call.chunks} * Math::hidden(tiles_apart * mma16::chunk_bytes);
            const std::uint32_t last = (call.n - 1) / mma16::tile_channels;
            FEWBIT_UNROLL
            for (unsigned i = 0; i < code_units / threads_per_block; ++i)
                block.copy16(at + (i * threads_per_block + thread) * 4, call.codes, first + i * apart,
                             tile + i * tiles_apart <= last);
        }
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
    });
}

/// The work of one block of threads. Units of the partition are chunks_per_unit chunks, its tiles those of PromptTile.
template <Codes Kind, Half Type, Zero Offset, class Block>
FEWBIT_HOST_DEVICE void prompt(const Call& call, Block& block) {
    using Memory = PromptMemory<Kind>;
    using Warp = typename Block::Warp;
    using Math = typename Warp::Math;
    using Worker = PromptWarp<Kind, Type, Offset, Warp>;
    const mma16::Partition& work = call.partition;
    std::uint32_t* const memory = block.words();
    std::uint32_t* const table = memory + Memory::table_at;
    if constexpr (Kind == Codes::table4) fill_table(call, block, table);  // the first stage's barrier follows
    typename Block::template PerWarp<PromptSums<Warp>> sums;
    std::uint32_t next = work.first_tile(block.index());
    FEWBIT_ROLL
    for (;;) {
        PromptTile of = PromptTile::at(next, call.m);
        // Hidden, so that what they came from need not wait in registers for index().
        of.tile = Math::hidden(of.tile);
        of.row = Math::hidden(of.row);
        std::uint32_t chunk, last;
        {
            const mma16::Run run = work.run_of(block.index(), next);
            chunk = run.first * chunks_per_unit;
            last = run.last * chunks_per_unit < call.chunks ? run.last * chunks_per_unit : call.chunks;
        }
        sums = {};
        FEWBIT_UNROLL
        for (unsigned i = 0; i + 1 < Memory::stages; ++i) {
            if (chunk + i < last) fill_stage<Kind>(call, block, of, chunk + i, i);
            block.commit();
        }
        unsigned stage = 0;
        FEWBIT_ROLL
        for (; chunk < last; ++chunk) {
            block.template wait<Memory::stages - 2>();
            block.barrier();  // all copies are there, and nobody reads the stage that is filled next any more
            if (chunk + Memory::stages - 1 < last)
                fill_stage<Kind>(call, block, of, chunk + Memory::stages - 1,
                                 stage == 0 ? Memory::stages - 1 : stage - 1);
            block.commit();
            block.each_warp(sums, [&](const Warp& warp, unsigned index, PromptSums<Warp>& own) {
                const Worker worker(call, table, warp, index, of);
                if (worker.has_work()) worker.multiply(memory + stage * Memory::stage_words, chunk, own);
            });
            stage = stage + 1 == Memory::stages ? 0 : stage + 1;
        }
        block.barrier();  // nobody reads stages any more: sums take their place
        // Found again, rather than kept where every register is a sum.
        const mma16::Run run = work.run_of(block.index(), of.index(call.m));
        const std::uint64_t mine = std::uint64_t{work.slot(block.index(), run.tile)} * prompt_part_floats;
        block.each_warp(sums, [&](const Warp& warp, unsigned index, PromptSums<Warp>& own) {
            const Worker worker(call, table, warp, index, of);
            if (!worker.has_work()) return;
            FEWBIT_UNROLL
            for (unsigned i = 0; i < prompt_warp_tiles; ++i)
                each_staged<prompt_warp_tokens>(
                    warp, own.tile[i], block.shared() + index * staged_words,
                    [&](unsigned of_warp, unsigned channel, float sum) {
                        const unsigned tile = worker.first_tile + i, row = worker.first_row + of_warp;
                        if (run.whole)
                            block.store(call, of.row + row, (of.tile + tile) * mma16::tile_channels + channel,
                                        sum);
                        else
                            call.parts[mine + (tile * prompt_block_rows + row) * mma16::tile_channels +
                                       channel] = sum;
                    });
        });
        if (!run.whole && block.comes_last(call.counters + run.tile,
                                           work.last_block(run.tile) - work.first_block(run.tile)))
            block.each_thread([&](unsigned thread) {
                FEWBIT_ROLL
                for (unsigned i = thread; i < prompt_part_floats; i += threads_per_block) {
                    const unsigned tile = i / (prompt_block_rows * mma16::tile_channels);
                    const unsigned row = of.row + i / mma16::tile_channels % prompt_block_rows;
                    const unsigned channel =
                        (of.tile + tile) * mma16::tile_channels + i % mma16::tile_channels;
                    if (row >= call.m || channel >= call.n) continue;  // nobody has left anything there
                    float sum = 0;
                    FEWBIT_ROLL
                    for (std::uint32_t b = work.first_block(run.tile); b <= work.last_block(run.tile); ++b)
                        sum += block.read_part(
                            call.parts + std::uint64_t{work.slot(b, run.tile)} * prompt_part_floats + i);
                    block.store(call, row, channel, sum);
                }
            });
        block.barrier();  // the next tile's stages take the place of sums
        if (!work.has_more(block.index(), run.tile)) break;
        next = run.tile + 1;
    }
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
