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
        FEWBIT_ROLL
        for (unsigned half = 0; half < Memory::halves; ++half)
            multiply_half(stage, half, call.halves_per_group.quotient(chunk * Memory::halves + half), sums);
    }

    /// Adds 32 inputs, all of one group.
    FEWBIT_HOST_DEVICE void multiply_half(const std::uint32_t* stage, unsigned half, std::uint32_t group,
                                          PromptSums<Warp>& sums) const {
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
        const auto scales = parameters(call.scales, group);
        Value<Parameters> offsets{};
        if constexpr (Offset == Zero::real) offsets = parameters(call.offsets, group);
        FEWBIT_UNROLL
        for (unsigned t = 0; t < prompt_warp_tokens; ++t) {
            const auto b = warp.template map<FragmentsB<1>>([&](unsigned lane) {
                FragmentsB<1> out;
                Math::load_staged(stage + Memory::x_word(first_row + 8 * t + lane / 4, 4 * half + lane % 4),
                                  out.r[0]);
                return out;
            });
            Value<Sums<1>> part[prompt_warp_tiles]{}, of_x{};
            FEWBIT_UNROLL
            for (unsigned step = 0; step < 2; ++step) {
                FEWBIT_UNROLL
                for (unsigned i = 0; i < prompt_warp_tiles; ++i)
                    warp.template multiply<Type>(a[i][step], b, 0, step, part[i]);
                if constexpr (Offset == Zero::real) {
                    const auto one =
                        warp.template map<mma16::FragmentA>([](unsigned) { return ones<Type>(); });
                    warp.template multiply<Type>(one, b, 0, step, of_x);
                }
            }
            FEWBIT_UNROLL
            for (unsigned i = 0; i < prompt_warp_tiles; ++i)
                warp.update(
                    [&](unsigned, Sums<prompt_warp_tokens>& sum, const Sums<1>& products,
                        const Parameters& scale, const Sums<1>& x_sums, const Parameters& offset) {
                        FEWBIT_UNROLL
                        for (unsigned c = 0; c < 4; ++c) {
                            float& to = sum.c[t][c];
                            to = Math::fma_f32(scale.v[i][c >> 1], products.c[0][c], to);
                            if constexpr (Offset == Zero::real)
                                to = Math::fma_f32(offset.v[i][c >> 1], x_sums.c[0][c], to);
                        }
                    },
                    sums.tile[i], part[i], scales, of_x, offsets);
        }
    }
    /// Scales or offsets of the channels of a lane: g and g + 8 of each tile.
    struct Parameters {
        float v[prompt_warp_tiles][2];
    };
    [[nodiscard]] FEWBIT_HOST_DEVICE Value<Parameters> parameters(const void* from,
                                                                  std::uint32_t group) const {
        return warp.template map<Parameters>([&](unsigned lane) {
            std::uint64_t at[prompt_warp_tiles];
            FEWBIT_UNROLL
            for (unsigned i = 0; i < prompt_warp_tiles; ++i) at[i] = pair(i, group) + lane / 4;
            Parameters out{};
            Math::load_pairs(from, call.scale_type, at, out.v);
            return out;
        });
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
    constexpr unsigned code_units = Memory::code_words / 4;
    constexpr unsigned x_units = prompt_block_rows * Memory::units_per_row;
    const unsigned at = stage * Memory::stage_words;
    const auto* const codes = static_cast<const unsigned char*>(call.codes);
    const auto* const x = static_cast<const unsigned char*>(call.x);
    block.each_thread([&](unsigned thread) {
        FEWBIT_ROLL
        for (unsigned i = 0; i < code_units / threads_per_block; ++i) {
            const unsigned unit = i * threads_per_block + thread;
            const std::uint32_t tile = of.tile + unit / mma16::lanes;
            const bool there = std::uint64_t{tile} * mma16::tile_channels < call.n;
            const std::uint64_t from =
                (std::uint64_t{there ? tile : 0} * call.chunks + chunk) * mma16::chunk_bytes +
                unit % mma16::lanes * 16;
            block.copy16(at + unit * 4, codes + from, there);
        }
        FEWBIT_ROLL
        for (unsigned i = 0; i < x_units / threads_per_block; ++i) {
            const unsigned unit = i * threads_per_block + thread;
            const unsigned row = unit / Memory::units_per_row, within = unit % Memory::units_per_row;
            const bool there = of.row + row < call.m;
            const std::uint64_t from = std::uint64_t{there ? of.row + row : 0} * call.x_stride * 2 +
                                       (std::uint64_t{chunk} * Memory::units_per_row + within) * 16;
            block.copy16(at + Memory::x_word(row, within), x + from, there);
        }
    });
}

/// The work of one block of threads. Units of the partition are chunks_per_unit chunks, its tiles those of PromptTile.
template <Codes Kind, Half Type, Zero Offset, class Block>
FEWBIT_HOST_DEVICE void prompt(const Call& call, Block& block) {
    using Memory = PromptMemory<Kind>;
    using Warp = typename Block::Warp;
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
        of.tile = block.hidden(of.tile);
        of.row = block.hidden(of.row);
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
        float* const mine =
            call.parts + std::uint64_t{work.slot(block.index(), run.tile)} * prompt_part_floats;
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
                            mine[(tile * prompt_block_rows + row) * mma16::tile_channels + channel] = sum;
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
