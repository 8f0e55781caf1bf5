// Causal attention over a cache of f16, bf16 or int8, on CUDA:  out = softmax(q k^T / sqrt(D)) v.  Written once for the device and for
// the host (tests/cuda/operators_test.cpp).
//
// A block of threads has one row of q, up to 8 query heads that share a key-value head, and a run of positions. Its warps take 32
// positions in turn: a lane multiplies all queries with one key, then has its columns of all values. What warps and blocks
// have found is joined in the order of positions (Dao et al. 2022, arXiv 2205.14135, section 3.1), so the bits are the same on every run.
#pragma once

#include "kernels/operators/cuda/rows.hpp"

namespace fewbit::inline v0::kernels::operators_cuda {

inline constexpr unsigned attention_queries = 8;
/// Positions of a block; as many as its warps take four times.
inline constexpr unsigned attention_run = 4 * warps_per_block * mma16::lanes;

struct AttentionCall {
    const void* q;  ///< (m, heads head_dim) of `type`, rotated
    void* out;      ///< the same of `out_type`
    const std::int32_t*
        first_position;  ///< on the device: of the first row of all, which the cache holds already
    CacheRows keys, values;
    float* parts;                        ///< m units() runs attention_part(head_dim) floats
    std::uint32_t* counters;             ///< (m units()), all 0; left so
    std::uint64_t q_stride, out_stride;  ///< elements
    std::uint32_t first_row;             ///< of q, among all
    std::uint32_t heads, kv_heads, head_dim, capacity;
    std::uint32_t runs;  ///< most positions that a row sees, over attention_run, rounded up
    float scale;         ///< 1 / sqrt(head_dim)
    CacheType cache;
    Number type, out_type;

    [[nodiscard]] FEWBIT_HOST_DEVICE constexpr std::uint32_t group() const { return heads / kv_heads; }
    /// Sets of queries of one block that a key-value head has.
    [[nodiscard]] FEWBIT_HOST_DEVICE constexpr std::uint32_t sets() const {
        return (group() + attention_queries - 1) / attention_queries;
    }
    [[nodiscard]] FEWBIT_HOST_DEVICE constexpr std::uint32_t units() const { return kv_heads * sets(); }
};

/// What a block leaves of its run, for each query: the largest score, the sum of weights, weighted values.
FEWBIT_HOST_DEVICE constexpr unsigned attention_part(unsigned head_dim) {
    return attention_queries * (head_dim + 2);
}

/// Shared memory in floats: queries; weights of each warp; what the warps have found so far, as a part.
FEWBIT_HOST_DEVICE constexpr unsigned attention_floats(unsigned head_dim) {
    return attention_queries * head_dim + warps_per_block * attention_queries * mma16::lanes +
           attention_part(head_dim);
}

/// What a warp knows of its positions. Columns: of values for a lane.
template <unsigned Columns>
struct Found {
    float largest[attention_queries];
    float sum[attention_queries];
    float value[attention_queries][Columns];
};

template <CacheType Cache, unsigned Columns, class Warp>
struct Attender {
    using Math = typename Warp::Math;
    template <class T>
    using Value = typename Warp::template Value<T>;
    struct Scores {
        float s[attention_queries];
    };

    const AttentionCall& call;
    const Warp& warp;
    const float* queries;  ///< (attention_queries, head_dim), scaled
    float* weights;        ///< (attention_queries, lanes) of the warp's own
    std::uint64_t first;   ///< row of the cache of the head's position 0

    /// Adds up to 32 positions from `tile` on.
    FEWBIT_HOST_DEVICE void attend(std::uint32_t tile, std::uint32_t end,
                                   Value<Found<Columns>>& found) const {
        const auto scores = warp.template map<Scores>([&](unsigned lane) {
            Scores out{};
            if (tile + lane >= end) return out;
            const std::uint64_t at = first + tile + lane;
            FEWBIT_ROLL
            for (std::uint32_t i = 0; i < call.head_dim; i += 8) {
                float key[8];
                Math::template load_eight<Cache>(call.keys.rows, at * call.head_dim + i, key);
                FEWBIT_UNROLL
                for (unsigned q = 0; q < attention_queries; ++q) FEWBIT_UNROLL
                for (unsigned j = 0; j < 8; ++j)
                    out.s[q] = Math::fma_f32(queries[q * call.head_dim + i + j], key[j], out.s[q]);
            }
            if constexpr (Cache == CacheType::int8) {
                FEWBIT_UNROLL
                for (unsigned q = 0; q < attention_queries; ++q) out.s[q] *= call.keys.scales[at];
            }
            return out;
        });
        FEWBIT_UNROLL
        for (unsigned q = 0; q < attention_queries; ++q) {
            const float largest = warp.largest_number(warp.template map<float>(
                [&](unsigned lane, const Scores& s) {
                    return tile + lane < end ? s.s[q] : -Math::infinity();
                },
                scores));
            const auto weight = warp.template map<float>(
                [&](unsigned lane, const Scores& s, const Found<Columns>& before) {
                    const float most = before.largest[q] > largest ? before.largest[q] : largest;
                    return tile + lane < end ? Math::exponential(s.s[q] - most) : 0.0f;
                },
                scores, found);
            const float sum = warp.total(weight);
            warp.update(
                [&](unsigned lane, Found<Columns>& to, const float& own) {
                    const float most = to.largest[q] > largest ? to.largest[q] : largest;
                    const float kept = Math::exponential(to.largest[q] - most);
                    to.largest[q] = most;
                    to.sum[q] = Math::fma_f32(to.sum[q], kept, sum);
                    FEWBIT_UNROLL
                    for (unsigned c = 0; c < Columns; ++c) to.value[q][c] *= kept;
                    const bool there = tile + lane < end;
                    const float of_value =
                        Cache == CacheType::int8 && there ? call.values.scales[first + tile + lane] : 1.0f;
                    weights[q * mma16::lanes + lane] = own * of_value;
                },
                found, weight);
        }
        warp.sync();
        warp.update(
            [&](unsigned lane, Found<Columns>& to) {
                const std::uint32_t count = end - tile < mma16::lanes ? end - tile : mma16::lanes;
                FEWBIT_ROLL
                for (std::uint32_t p = 0; p < count; ++p) FEWBIT_UNROLL
                for (unsigned c = 0; c < Columns; ++c) {
                    const unsigned column = c * mma16::lanes + lane;
                    if (column >= call.head_dim) continue;
                    const float value = Math::template load_one<Cache>(
                        call.values.rows, (first + tile + p) * call.head_dim + column);
                    FEWBIT_UNROLL
                    for (unsigned q = 0; q < attention_queries; ++q)
                        to.value[q][c] = Math::fma_f32(weights[q * mma16::lanes + p], value, to.value[q][c]);
                }
            },
            found);
        warp.sync();
    }
};

/// What was found with weights relative to `largest` is worth this much where they are relative to `most`.
template <class Math>
FEWBIT_HOST_DEVICE float joined_weight(float largest, float most) {
    return Math::exponential(largest - most);
}

/// The work of one block of threads: index = (row units() + unit) runs + run.
template <CacheType Cache, unsigned Columns, class Block>
FEWBIT_HOST_DEVICE void attend(const AttentionCall& call, Block& block) {
    using Warp = typename Block::Warp;
    using Math = typename Warp::Math;
    const std::uint32_t run = block.index() % call.runs, of = block.index() / call.runs;
    const std::uint32_t unit = of % call.units(), row = of / call.units();
    const std::uint32_t kv_head = unit / call.sets(), first_query = unit % call.sets() * attention_queries;
    const std::uint32_t here =
        call.group() - first_query < attention_queries ? call.group() - first_query : attention_queries;
    std::uint32_t visible = static_cast<std::uint32_t>(*call.first_position) + call.first_row + row + 1;
    if (visible > call.capacity) visible = call.capacity;  // the host cannot see it
    if (visible > call.runs * attention_run) visible = call.runs * attention_run;
    const std::uint32_t begin = run * attention_run;
    if (begin >= visible) return;
    const std::uint32_t end = visible - begin < attention_run ? visible : begin + attention_run;
    const std::uint32_t working = (visible + attention_run - 1) / attention_run;

    const std::uint32_t d = call.head_dim;
    float* const queries = block.shared();
    float* const weights = queries + attention_queries * d;
    float* const largest = weights + warps_per_block * attention_queries * mma16::lanes;
    float* const sums = largest + attention_queries;
    float* const values = sums + attention_queries;  // (attention_queries, d)
    const std::uint32_t head = kv_head * call.group() + first_query;
    block.each_thread([&](unsigned thread) {
        for (unsigned i = thread; i < attention_queries * d; i += threads_per_block)
            queries[i] = i / d < here ? call.scale * Math::load_number(
                                                         call.q, call.type,
                                                         row * call.q_stride + std::uint64_t{head} * d + i)
                                      : 0.0f;
    });
    block.barrier();

    typename Block::template PerWarp<typename Warp::template Value<Found<Columns>>> found;
    block.each_warp(found, [&](const Warp& warp, unsigned index, auto& own) {
        warp.update(
            [](unsigned, Found<Columns>& to) {
                FEWBIT_UNROLL
                for (unsigned q = 0; q < attention_queries; ++q) {
                    to.largest[q] = -Math::infinity();
                    to.sum[q] = 0;
                    FEWBIT_UNROLL
                    for (unsigned c = 0; c < Columns; ++c) to.value[q][c] = 0;
                }
            },
            own);
        const Attender<Cache, Columns, Warp> attender{call, warp, queries,
                                                      weights + index * attention_queries * mma16::lanes,
                                                      std::uint64_t{kv_head} * call.capacity};
        FEWBIT_ROLL
        for (std::uint32_t tile = begin + index * mma16::lanes; tile < end;
             tile += warps_per_block * mma16::lanes)
            attender.attend(tile, end, own);
    });
    // Warps join one after another, in the same order on every run.
    FEWBIT_ROLL
    for (unsigned turn = 0; turn < warps_per_block; ++turn) {
        block.each_warp(found, [&](const Warp& warp, unsigned index, auto& own) {
            if (index != turn || begin + turn * mma16::lanes >= end) return;
            warp.update(
                [&](unsigned lane, const Found<Columns>& mine) {
                    FEWBIT_UNROLL
                    for (unsigned q = 0; q < attention_queries; ++q) {
                        const float before = turn == 0 ? -Math::infinity() : largest[q];
                        const float most = before > mine.largest[q] ? before : mine.largest[q];
                        const float old = turn == 0 ? 0 : joined_weight<Math>(before, most),
                                    fresh = joined_weight<Math>(mine.largest[q], most);
                        FEWBIT_UNROLL
                        for (unsigned c = 0; c < Columns; ++c) {
                            const unsigned column = c * mma16::lanes + lane;
                            if (column >= d) continue;
                            float& to = values[q * d + column];
                            to = mine.value[q][c] * fresh + (turn == 0 ? 0 : to * old);
                        }
                    }
                },
                own);
            warp.sync();  // every lane has read `largest`
            warp.update(
                [&](unsigned lane, const Found<Columns>& mine) {
                    FEWBIT_UNROLL
                    for (unsigned q = 0; q < attention_queries; ++q) {
                        if (lane != q) continue;
                        const float before = turn == 0 ? -Math::infinity() : largest[q];
                        const float most = before > mine.largest[q] ? before : mine.largest[q];
                        sums[q] = mine.sum[q] * joined_weight<Math>(mine.largest[q], most) +
                                  (turn == 0 ? 0 : sums[q] * joined_weight<Math>(before, most));
                        largest[q] = most;
                    }
                },
                own);
        });
        block.barrier();
    }
    const auto store = [&](unsigned q, unsigned column, float value) {
        Math::store_number(call.out, call.out_type,
                           row * call.out_stride + (std::uint64_t{head} + q) * d + column, value);
    };
    if (working == 1) {
        block.each_thread([&](unsigned thread) {
            for (unsigned i = thread; i < here * d; i += threads_per_block)
                store(i / d, i % d, Math::divide(values[i], sums[i / d]));
        });
        return;
    }
    const std::uint64_t parts_of_unit = (std::uint64_t{row} * call.units() + unit) * call.runs;
    float* const part = call.parts + (parts_of_unit + run) * attention_part(d);
    block.each_thread([&](unsigned thread) {  // largest, sums, values: as they stand in shared memory
        for (unsigned i = thread; i < attention_part(d); i += threads_per_block) part[i] = largest[i];
    });
    if (!block.comes_last(call.counters + std::uint64_t{row} * call.units() + unit, working - 1)) return;
    block.each_thread([&](unsigned thread) {
        for (unsigned i = thread; i < here * d; i += threads_per_block) {
            const unsigned q = i / d;
            const float* const parts = call.parts + parts_of_unit * attention_part(d);
            const auto number = [&](std::uint32_t r, unsigned at) {
                return block.read_part(parts + std::uint64_t{r} * attention_part(d) + at);
            };
            float most = -Math::infinity();
            for (std::uint32_t r = 0; r < working; ++r) most = number(r, q) > most ? number(r, q) : most;
            float sum = 0, value = 0;
            for (std::uint32_t r = 0; r < working; ++r) {
                const float weight = joined_weight<Math>(number(r, q), most);
                sum = Math::fma_f32(number(r, attention_queries + q), weight, sum);
                value = Math::fma_f32(number(r, 2 * attention_queries + i), weight, value);
            }
            store(q, i % d, Math::divide(value, sum));
        }
    });
}

}  // namespace fewbit::inline v0::kernels::operators_cuda
