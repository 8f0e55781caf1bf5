// What a decoder does row by row between its products, on CUDA: rows of an embedding, norms with the residual sum before them,
// SwiGLU, rotary positions and what is stored in the cache. Written once for the device and for the host (tests/cuda/operators_test.cpp).
//
// Positions are read on the device, so that a captured graph may be replayed for the next token.
#pragma once

#include "kernels/int_grouped/cuda/weights.hpp"
#include "kernels/mma16/scale.hpp"

namespace fewbit::inline v0::kernels::operators_cuda {

using int_grouped_cuda::Number;
using int_grouped_cuda::threads_per_block;
using int_grouped_cuda::warps_per_block;

/// y (m, k) = rows `rows` of a table of floats, NaN where it has no such row; without `rows` the first m.
struct PickCall {
    const void* table;         ///< (n, k) of `type`
    const std::int32_t* rows;  ///< (m), or null
    void* y;                   ///< of `y_type`
    std::uint64_t y_stride;    ///< elements
    std::uint32_t n, k;
    Number type, y_type;
};

/// Row block.index() of y.
template <class Block>
FEWBIT_HOST_DEVICE void pick_row(const PickCall& call, const Block& block) {
    using Math = typename Block::Warp::Math;
    const std::int32_t row =
        call.rows == nullptr ? static_cast<std::int32_t>(block.index()) : call.rows[block.index()];
    const bool there = row >= 0 && static_cast<std::uint32_t>(row) < call.n;
    const std::uint64_t from = there ? static_cast<std::uint64_t>(row) * call.k : 0;
    block.each_thread([&](unsigned thread) {
        FEWBIT_ROLL
        for (std::uint32_t i = thread; i < call.k; i += threads_per_block)
            Math::store_number(
                call.y, call.y_type, block.index() * call.y_stride + i,
                there ? Math::load_number(call.table, call.type, from + i) : Math::from_bits(0x7FC00000u));
    });
}

/// residual (m, dim) += delta, where there is one;  y = residual / sqrt(mean(residual^2) + epsilon) * gain.
struct NormCall {
    float* residual;
    const void* delta;                                      ///< (m, dim) of `delta_type`, or null
    const float* gain;                                      ///< (dim)
    void* y;                                                ///< (m, dim) of `y_type`
    std::uint64_t residual_stride, delta_stride, y_stride;  ///< elements
    std::uint32_t dim;
    float epsilon;
    Number delta_type, y_type;
};

/// Row block.index(). Shared memory: warps_per_block floats.
template <class Block>
FEWBIT_HOST_DEVICE void norm_row(const NormCall& call, Block& block) {
    using Math = typename Block::Warp::Math;
    float* const partial = block.shared();
    const std::uint64_t row = block.index();
    float* const x = call.residual + row * call.residual_stride;
    block.each_warp([&]<class Warp>(const Warp& warp, unsigned index) {
        const float sum = warp.total(warp.template map<float>([&](unsigned lane) {
            float squares = 0;
            FEWBIT_ROLL
            for (std::uint32_t i = index * mma16::lanes + lane; i < call.dim; i += threads_per_block) {
                float value = x[i];
                if (call.delta != nullptr) {
                    value += Math::load_number(call.delta, call.delta_type, row * call.delta_stride + i);
                    x[i] = value;
                }
                squares = Math::fma_f32(value, value, squares);
            }
            return squares;
        }));
        warp.once([&] { partial[index] = sum; });
    });
    block.barrier();
    block.each_thread([&](unsigned thread) {
        float squares = 0;
        FEWBIT_UNROLL
        for (unsigned w = 0; w < warps_per_block; ++w) squares += partial[w];
        const float mean = Math::divide(squares, static_cast<float>(call.dim));
        const float scale = Math::divide(1.0f, Math::square_root(mean + call.epsilon));
        FEWBIT_ROLL
        for (std::uint32_t i = thread; i < call.dim; i += threads_per_block)  // what this thread has written
            Math::store_number(call.y, call.y_type, row * call.y_stride + i, x[i] * scale * call.gain[i]);
    });
}

/// y (m, n) = gate / (1 + exp(-gate)) * up.
struct GateCall {
    const void* gate;
    const void* up;
    void* y;
    std::uint64_t gate_stride, up_stride, y_stride;  ///< elements
    std::uint32_t n;
    std::uint32_t blocks_per_row;
    Number type, y_type;  ///< of gate and up, of y
};

inline constexpr unsigned gate_columns = 4 * threads_per_block;  ///< of a block

template <class Block>
FEWBIT_HOST_DEVICE void gate_row(const GateCall& call, const Block& block) {
    using Math = typename Block::Warp::Math;
    const std::uint64_t row = block.index() / call.blocks_per_row;
    const std::uint32_t first = block.index() % call.blocks_per_row * gate_columns;
    block.each_thread([&](unsigned thread) {
        FEWBIT_UNROLL
        for (unsigned i = 0; i < gate_columns / threads_per_block; ++i) {
            const std::uint32_t column = first + i * threads_per_block + thread;
            if (column >= call.n) return;
            const float gate = Math::load_number(call.gate, call.type, row * call.gate_stride + column);
            const float up = Math::load_number(call.up, call.type, row * call.up_stride + column);
            const float silu = Math::divide(gate, 1.0f + Math::exponential(-gate));
            Math::store_number(call.y, call.y_type, row * call.y_stride + column, silu * up);
        }
    });
}

enum class CacheType : std::uint8_t { f16, bf16, int8 };

/// Keys or values of one layer: (kv_heads, capacity, head_dim).
struct CacheRows {
    void* rows;
    float* scales;  ///< (kv_heads, capacity) of int8; else null
};

/// Rotates queries and keys of rows at positions *first_position + m, stores keys and values.
struct StoreCall {
    const void* q;  ///< (m, heads head_dim) of `type`
    const void* k;  ///< (m, kv_heads head_dim)
    const void* v;
    const float* turns;                  ///< (positions, head_dim): cos and sin in turn
    const std::int32_t* first_position;  ///< on the device
    void* rotated;  ///< (m, heads head_dim) of `rotated_type`; may be q where the types are one
    CacheRows keys, values;
    std::uint64_t q_stride, k_stride, v_stride, rotated_stride;  ///< elements
    std::uint32_t m, heads, kv_heads, head_dim, capacity;
    Number type, rotated_type;
    CacheType cache;

    /// A warp for each head of each row.
    [[nodiscard]] FEWBIT_HOST_DEVICE constexpr std::uint64_t warps() const {
        return std::uint64_t{m} * (heads + 2 * kv_heads);
    }
};

/// One head of a row into the cache. f(i): its element i, for each lane's i.
template <class Warp, class F>
FEWBIT_HOST_DEVICE void store_head(const StoreCall& call, const Warp& warp, const CacheRows& to,
                                   std::uint64_t at, F&& f) {
    using Math = typename Warp::Math;
    if (call.cache != CacheType::int8) {
        const Number type = call.cache == CacheType::f16 ? Number::f16 : Number::bf16;
        warp.update([&](unsigned lane) {
            FEWBIT_ROLL
            for (std::uint32_t i = lane; i < call.head_dim; i += mma16::lanes)
                Math::store_number(to.rows, type, at * call.head_dim + i, f(i));
        });
        return;
    }
    // scale = max |x| / 127, code = round(x / scale), ties to even; what is not finite makes the whole head NaN.
    const float scale = mma16::scale_of_largest(warp, call.head_dim, 127.0f, f);
    warp.update([&](unsigned lane) {
        FEWBIT_ROLL
        for (std::uint32_t i = lane; i < call.head_dim; i += mma16::lanes)
            static_cast<std::int8_t*>(to.rows)[at * call.head_dim + i] =
                static_cast<std::int8_t>(mma16::code_of_int8<Math>(f(i), scale));
    });
    warp.once([&] { to.scales[at] = scale; });
}

template <class Warp>
FEWBIT_HOST_DEVICE void rotate_head(const StoreCall& call, const Warp& warp, std::uint64_t index) {
    using Math = typename Warp::Math;
    const std::uint32_t all = call.heads + 2 * call.kv_heads;
    const std::uint64_t row = index / all;
    const auto head = static_cast<std::uint32_t>(index % all);
    const std::uint32_t position =
        static_cast<std::uint32_t>(*call.first_position) + static_cast<std::uint32_t>(row);
    if (position >= call.capacity) return;  // the host cannot see it
    const float* const turns = call.turns + std::uint64_t{position} * call.head_dim;
    const auto turned = [&](const void* x, std::uint64_t first, std::uint32_t i) {
        const float own = Math::load_number(x, call.type, first + i),
                    other = Math::load_number(x, call.type, first + (i ^ 1));
        const float cosine = turns[i & ~1u], sine = turns[i | 1];
        return (i & 1) == 0 ? own * cosine - other * sine : other * sine + own * cosine;
    };
    if (head < call.heads) {
        const std::uint64_t from = row * call.q_stride + std::uint64_t{head} * call.head_dim;
        const std::uint64_t to = row * call.rotated_stride + std::uint64_t{head} * call.head_dim;
        warp.update([&](unsigned lane) {
            FEWBIT_ROLL
            for (std::uint32_t pair = lane; 2 * pair < call.head_dim; pair += mma16::lanes) {
                const float even = turned(call.q, from, 2 * pair), odd = turned(call.q, from, 2 * pair + 1);
                Math::store_number(call.rotated, call.rotated_type, to + 2 * pair, even);
                Math::store_number(call.rotated, call.rotated_type, to + 2 * pair + 1, odd);
            }
        });
        return;
    }
    const bool is_key = head < call.heads + call.kv_heads;
    const std::uint32_t kv_head = head - call.heads - (is_key ? 0 : call.kv_heads);
    const std::uint64_t at = std::uint64_t{kv_head} * call.capacity + position;
    if (is_key) {
        const std::uint64_t from = row * call.k_stride + std::uint64_t{kv_head} * call.head_dim;
        store_head(call, warp, call.keys, at, [&](std::uint32_t i) { return turned(call.k, from, i); });
    } else {
        const std::uint64_t from = row * call.v_stride + std::uint64_t{kv_head} * call.head_dim;
        store_head(call, warp, call.values, at,
                   [&](std::uint32_t i) { return Math::load_number(call.v, call.type, from + i); });
    }
}

/// A warp for each head of each row: queries, keys, values.
template <class Block>
FEWBIT_HOST_DEVICE void rotate_and_store(const StoreCall& call, const Block& block) {
    block.each_warp([&]<class Warp>(const Warp& warp, unsigned index) {
        const std::uint64_t at = std::uint64_t{block.index()} * warps_per_block + index;
        if (at < call.warps()) rotate_head(call, warp, at);
    });
}

}  // namespace fewbit::inline v0::kernels::operators_cuda
