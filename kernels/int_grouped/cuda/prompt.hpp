// Any number of rows of x times codes on tensor cores, for prompts: decode.hpp's arithmetic in tiles of 256 channels x 128 rows.
//
//   shared memory   stage 0                       stage 1 ...                   table (of Codes::table4)
//                   codes   16 tiles, 512 bytes   each stage one chunk of K
//                   x       128 rows, 64 bytes for each half of the chunk
//
// Codes and x are copied asynchronously, stages ahead of the tensor cores. A run of tiles and of K is a block's (partition.hpp): where
// tiles do not fill the device, several share one. How a stage is multiplied is a Way: prompt_mma.hpp, or prompt_wgmma.hpp on Hopper.
#pragma once

#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

inline constexpr unsigned prompt_block_tiles = 16;  ///< of 16 channels
inline constexpr unsigned prompt_block_rows = 128;
/// What blocks that share a tile leave for each other.
inline constexpr unsigned prompt_part_floats = prompt_block_tiles * mma16::tile_channels * prompt_block_rows;

/// Sizes in 4-byte words; stages of `Chunks` chunks, numbers of x of `XBytes` bytes.
template <Codes Kind, unsigned Stages, unsigned Chunks = 1, unsigned XBytes = 2>
struct PromptMemory {
    static constexpr Codes kind = Kind;
    static constexpr unsigned halves = mma16::halves_per_chunk(mma16::bits_of(Kind));
    static constexpr unsigned stages = Stages, chunks = Chunks;
    static constexpr unsigned chunk_code_words = prompt_block_tiles * mma16::chunk_bytes / 4;
    static constexpr unsigned code_words = chunks * chunk_code_words;
    static constexpr unsigned units_per_row =
        halves * mma16::half_inputs * XBytes / 16;  ///< of 16 bytes, of a chunk
    static constexpr unsigned stage_words = code_words + chunks * prompt_block_rows * units_per_row * 4;
    static constexpr unsigned table_at = stages * stage_words;
    static constexpr unsigned words = table_at + (Kind == Codes::table4 ? mma16::table_words : 0);

    static_assert(warps_per_block * staged_words <= table_at);
    static_assert(chunks_per_unit % chunks == 0, "a stage is of one unit");
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

/// Starts the copies of the chunks from `chunk` on to a stage; those that are not there become zeros.
template <class Way, class Block>
FEWBIT_HOST_DEVICE void fill_stage(const Call& call, Block& block, PromptTile of, std::uint32_t chunk,
                                   unsigned stage) {
    using Memory = typename Way::Memory;
    using Math = typename Block::Warp::Math;
    constexpr unsigned code_units = Memory::chunk_code_words / 4;
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
            for (unsigned c = 0; c < Memory::chunks; ++c) FEWBIT_UNROLL
            for (unsigned i = 0; i < code_units / threads_per_block; ++i)
                block.copy16(at + c * Memory::chunk_code_words + (i * threads_per_block + thread) * 4,
                             call.codes, first + c * mma16::chunk_bytes + i * apart,
                             tile + i * tiles_apart <= last && (c == 0 || chunk + c < call.chunks));
        }
        Way::copy_x(call, block, of, chunk, at, thread);
    });
}

/// Sums of ways whose products are scaled before they are added.
struct FloatSums {
    using Sum = float;
    template <class Math>
    FEWBIT_HOST_DEVICE static float value(const Call&, float sum, std::uint32_t, std::uint32_t) {
        return sum;
    }
};

/// y of a sum, where there is such a row and channel.
template <class Way, class Block>
FEWBIT_HOST_DEVICE void store_value(const Call& call, const Block& block, std::uint32_t token,
                                    std::uint32_t channel, typename Way::Sum sum) {
    if (token < call.m && channel < call.n)
        block.store(call, token, channel,
                    Way::template value<typename Block::Warp::Math>(call, sum, token, channel));
}

/// The work of one block of threads. Units of the partition are chunks_per_unit chunks, its tiles those of PromptTile.
template <class Way, class Block>
FEWBIT_HOST_DEVICE void prompt(const Call& call, Block& block) {
    using Memory = typename Way::Memory;
    using Warp = typename Block::Warp;
    using Math = typename Warp::Math;
    using Worker = typename Way::template Worker<Warp>;
    using Kept = typename Worker::Kept;
    using Sum = typename Way::Sum;
    const mma16::Partition& work = call.partition;
    std::uint32_t* const memory = block.words();
    std::uint32_t* const table = memory + Memory::table_at;
    if constexpr (Memory::kind == Codes::table4)
        fill_table(call, block, table);  // the first stage's barrier follows
    typename Block::template PerWarp<Kept> sums;
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
            if (chunk + i * Memory::chunks < last)
                fill_stage<Way>(call, block, of, chunk + i * Memory::chunks, i);
            block.commit();
        }
        unsigned stage = 0;
        FEWBIT_ROLL
        for (; chunk < last; chunk += Memory::chunks) {
            block.template wait<Memory::stages - 2>();
            Way::copied(block);
            block.barrier();  // all copies are there, and nobody reads the stage that is filled next any more
            constexpr unsigned ahead = (Memory::stages - 1) * Memory::chunks;
            if (chunk + ahead < last)
                fill_stage<Way>(call, block, of, chunk + ahead, stage == 0 ? Memory::stages - 1 : stage - 1);
            block.commit();
            block.each_warp(sums, [&](const Warp& warp, unsigned index, Kept& own) {
                const Worker worker(call, table, warp, index, of);
                if (worker.has_work()) worker.multiply(memory + stage * Memory::stage_words, chunk, own);
            });
            stage = stage + 1 == Memory::stages ? 0 : stage + 1;
        }
        block.barrier();  // nobody reads stages any more: sums take their place
        // Found again, rather than kept where every register is a sum.
        const mma16::Run run = work.run_of(block.index(), of.index(call.m));
        const std::uint64_t mine = std::uint64_t{work.slot(block.index(), run.tile)} * prompt_part_floats;
        Sum* const parts = reinterpret_cast<Sum*>(call.parts);
        block.each_warp(sums, [&](const Warp& warp, unsigned index, Kept& own) {
            const Worker worker(call, table, warp, index, of);
            if (!worker.has_work()) return;
            FEWBIT_UNROLL
            for (unsigned i = 0; i < Worker::tiles; ++i)
                each_staged<Worker::tokens>(
                    warp, own.tile[i], block.template shared<Sum>() + index * staged_words,
                    [&](unsigned of_warp, unsigned channel, Sum sum) {
                        const unsigned tile = worker.tile_of(i), row = worker.first_row + of_warp;
                        if (run.whole)
                            store_value<Way>(call, block, of.row + row,
                                             (of.tile + tile) * mma16::tile_channels + channel, sum);
                        else
                            parts[mine + (tile * prompt_block_rows + row) * mma16::tile_channels + channel] =
                                sum;
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
                    Sum sum = 0;
                    FEWBIT_ROLL
                    for (std::uint32_t b = work.first_block(run.tile); b <= work.last_block(run.tile); ++b)
                        sum += block.read_part(
                            parts + std::uint64_t{work.slot(b, run.tile)} * prompt_part_floats + i);
                    store_value<Way>(call, block, row, channel, sum);
                }
            });
        block.barrier();  // the next tile's stages take the place of sums
        if (!work.has_more(block.index(), run.tile)) break;
        next = run.tile + 1;
    }
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
