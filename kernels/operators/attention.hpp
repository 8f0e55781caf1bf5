// A block of attention (fewbit/model/operator_code.hpp): two small matrix products held in registers, and a
// softmax that carries on from block to block. README.md of this folder has the picture and the counts.
// Templates over the registers of an instruction set; internal linkage, because V lies in the unnamed
// namespace of a kernel file.
#pragma once

#include <cstddef>

#include "fewbit/model/operator_code.hpp"
#include "kernels/operators/exponential.hpp"

namespace fewbit::inline v0::kernels {
namespace {

using model::AttentionBlock;

/// Brings rows of what is read after this block nearer, as the ones at hand are used: a processor takes rows side by side
/// for too many streams to follow, and stops where a page ends.
[[gnu::always_inline]] inline void fetch_next(const AttentionBlock& b, std::size_t row, std::size_t column,
                                              std::size_t count) {
    constexpr std::size_t line = 64 / sizeof(float);
    const float* const at = b.next + row * b.rows_stride + column;
    for (std::size_t i = 0; i < count; i += line) __builtin_prefetch(at + i, 0, 2);
}

/// Scores of Positions keys and Registers * V::lanes lines.
template <class V, int Positions, int Registers>
void score_tile(const AttentionBlock& b, std::size_t position, std::size_t line) {
    V sums[Positions][Registers];
#pragma GCC unroll 16
    for (int p = 0; p < Positions; ++p)
#pragma GCC unroll 16
        for (int j = 0; j < Registers; ++j) sums[p][j] = V::set(0.0f);
    const float* q = b.queries + line;
    const float* key = b.rows + position * b.rows_stride;
    for (std::size_t i = 0; i < b.head_dim; ++i, q += b.stride) {
        if (line == 0 && i % 16 == 0)
            for (int p = 0; p < Positions; ++p) fetch_next(b, position + static_cast<std::size_t>(p), i, 16);
        V query[Registers];
#pragma GCC unroll 16
        for (int j = 0; j < Registers; ++j) query[j] = V::load(q + j * V::lanes);
#pragma GCC unroll 16
        for (int p = 0; p < Positions; ++p) {
            const V k = V::broadcast(key + static_cast<std::size_t>(p) * b.rows_stride + i);
#pragma GCC unroll 16
            for (int j = 0; j < Registers; ++j) sums[p][j] = fma(k, query[j], sums[p][j]);
        }
    }
#pragma GCC unroll 16
    for (int p = 0; p < Positions; ++p)
#pragma GCC unroll 16
        for (int j = 0; j < Registers; ++j)
            sums[p][j].store(b.scores + (position + static_cast<std::size_t>(p)) * b.stride + line +
                             j * V::lanes);
}

/// Positions from p on for Registers * V::lanes lines.
template <class V, int Registers>
void score_lines(const AttentionBlock& b, std::size_t line, std::size_t p = 0) {
    constexpr int at_once = V::sums / Registers;
    for (; p + at_once <= b.positions; p += at_once) score_tile<V, at_once, Registers>(b, p, line);
    if constexpr (at_once > 4)
        for (; p + 4 <= b.positions; p += 4) score_tile<V, 4, Registers>(b, p, line);
    for (; p < b.positions; ++p) score_tile<V, 1, Registers>(b, p, line);
}

/// Scores of Groups * V::lanes keys, turned so that they fill the registers, and Lines lines. Each score is the same
/// sum in the same order as in score_tile.
template <class V, int Groups, int Lines>
void few_tile(const AttentionBlock& b, std::size_t position, std::size_t line) {
    V sums[Groups][Lines];
#pragma GCC unroll 16
    for (int g = 0; g < Groups; ++g)
#pragma GCC unroll 16
        for (int l = 0; l < Lines; ++l) sums[g][l] = V::set(0.0f);
    const float* q = b.queries + line;
    const float* const key = b.rows + position * b.rows_stride;
    if (line == 0) fetch_next(b, position, 0, Groups * V::lanes * b.rows_stride);
    const auto add = [&](int g, V column, const float* query) {
#pragma GCC unroll 16
        for (int l = 0; l < Lines; ++l) sums[g][l] = fma(column, V::broadcast(query + l), sums[g][l]);
    };
    std::size_t i = 0;
    for (; i + 4 <= b.head_dim; i += 4, q += 4 * b.stride)
#pragma GCC unroll 16
        for (int g = 0; g < Groups; ++g) {
            V columns[4];
            V::load4(key + static_cast<std::size_t>(g) * V::lanes * b.rows_stride + i, b.rows_stride,
                     columns);
#pragma GCC unroll 16
            for (std::size_t j = 0; j < 4; ++j) add(g, columns[j], q + j * b.stride);
        }
    for (; i < b.head_dim; ++i, q += b.stride)
#pragma GCC unroll 16
        for (int g = 0; g < Groups; ++g) {
            float column[V::lanes];
            for (std::size_t p = 0; p < V::lanes; ++p)
                column[p] = key[(static_cast<std::size_t>(g) * V::lanes + p) * b.rows_stride + i];
            add(g, V::load(column), q);
        }
#pragma GCC unroll 16
    for (int g = 0; g < Groups; ++g)
#pragma GCC unroll 16
        for (int l = 0; l < Lines; ++l) {
            float row[V::lanes];
            sums[g][l].store(row);
            float* out = b.scores + (position + static_cast<std::size_t>(g) * V::lanes) * b.stride + line + l;
            for (std::size_t p = 0; p < V::lanes; ++p) out[p * b.stride] = row[p];
        }
}

template <class V, int Groups, int Lines>
void few_lines(const AttentionBlock& b, std::size_t line) {
    std::size_t p = 0;
    for (; p + Groups * V::lanes <= b.positions; p += Groups * V::lanes)
        few_tile<V, Groups, Lines>(b, p, line);
    for (; p + V::lanes <= b.positions; p += V::lanes) few_tile<V, 1, Lines>(b, p, line);
}

/// Scores of lines that would leave most of a register empty.
template <class V>
void score_few(const AttentionBlock& b) {
    for (std::size_t p = 0; p < b.positions; ++p) V::set(0.0f).store(b.scores + p * b.stride);
    std::size_t line = 0;
    for (; line + 4 <= b.lines; line += 4) few_lines<V, 1, 4>(b, line);
    for (; line + 2 <= b.lines; line += 2) few_lines<V, 2, 2>(b, line);
    for (; line < b.lines; ++line) few_lines<V, 4, 1>(b, line);
    score_lines<V, 1>(b, 0, b.positions / V::lanes * V::lanes);
}

/// Lines of one register: weights, and their sums.
template <class V>
void soften(const AttentionBlock& b, std::size_t line) {
    const V before = V::load(b.largest + line);
    V largest = before;
    float* const scores = b.scores + line;
    for (std::size_t p = 0; p < b.positions; ++p) largest = max(largest, V::load(scores + p * b.stride));
    const V rescale = power_of_two_of(before - largest);
    V sum = V::set(0.0f);
    for (std::size_t p = 0; p < b.positions; ++p) {
        const V weight = power_of_two_of(V::load(scores + p * b.stride) - largest);
        weight.store(scores + p * b.stride);
        sum = sum + weight;
    }
    largest.store(b.largest + line);
    rescale.store(b.rescale + line);
    fma(V::load(b.sums + line), rescale, sum).store(b.sums + line);
}

template <class V>
void score_many(const AttentionBlock& b) {
    std::size_t line = 0;
    if constexpr (V::most_registers == 4)
        for (; line + 4 * V::lanes <= b.stride; line += 4 * V::lanes) score_lines<V, 4>(b, line);
    for (; line + 2 * V::lanes <= b.stride; line += 2 * V::lanes) score_lines<V, 2>(b, line);
    for (; line + V::lanes <= b.stride; line += V::lanes) score_lines<V, 1>(b, line);
}

/// What comes after the scores of lines up to `end`.
template <class V>
void soften_block(const AttentionBlock& b, std::size_t end) {
    // Lines see a beginning of the block, later lines more of it.
    for (std::size_t p = b.positions; p-- > b.visible[0];)
        for (std::size_t l = 0; l < b.lines && b.visible[l] <= p; ++l)
            b.scores[p * b.stride + l] = -__builtin_inff();
    for (std::size_t line = 0; line < end; line += V::lanes) soften<V>(b, line);
}

template <class V>
void attend_keys(const AttentionBlock& b) noexcept {
    using Narrow = typename V::Narrow;
    if (b.lines <= Narrow::lanes) {
        if (2 * b.lines <= Narrow::lanes)
            score_few<Narrow>(b);
        else
            score_lines<Narrow, 1>(b, 0);
        soften_block<Narrow>(b, Narrow::lanes);
    } else {
        score_many<V>(b);
        soften_block<V>(b, b.stride);
    }
}

/// Lines * Registers sums of values, over the positions that all of the lines see and then over the rest.
template <class V, int Lines, int Registers>
void value_tile(const AttentionBlock& b, std::size_t line, std::size_t column) {
    V sums[Lines][Registers];
#pragma GCC unroll 16
    for (int l = 0; l < Lines; ++l)
#pragma GCC unroll 16
        for (int j = 0; j < Registers; ++j) sums[l][j] = V::set(0.0f);
    const float* value = b.rows + column;
    const float* weight = b.scores + line;
    const std::size_t common = b.visible[line], most = b.visible[line + Lines - 1];
    std::size_t p = 0;
    for (; p < common; ++p, value += b.rows_stride, weight += b.stride) {
        if (line == 0) fetch_next(b, p, column, Registers * V::lanes);
        V row[Registers];
#pragma GCC unroll 16
        for (int j = 0; j < Registers; ++j) row[j] = V::load(value + j * V::lanes);
#pragma GCC unroll 16
        for (int l = 0; l < Lines; ++l) {
            const V w = V::broadcast(weight + l);
#pragma GCC unroll 16
            for (int j = 0; j < Registers; ++j) sums[l][j] = fma(w, row[j], sums[l][j]);
        }
    }
    // A weight of 0 would do, were later values never infinite.
    for (; p < most; ++p, value += b.rows_stride, weight += b.stride)
#pragma GCC unroll 16
        for (int l = 1; l < Lines; ++l)
            if (p < b.visible[line + static_cast<std::size_t>(l)])
#pragma GCC unroll 16
                for (int j = 0; j < Registers; ++j)
                    sums[l][j] = fma(V::broadcast(weight + l), V::load(value + j * V::lanes), sums[l][j]);
#pragma GCC unroll 16
    for (int l = 0; l < Lines; ++l) {
        float* const out = b.out + (line + static_cast<std::size_t>(l)) * b.out_columns + column;
        const V rescale = V::broadcast(b.rescale + line + l);
#pragma GCC unroll 16
        for (int j = 0; j < Registers; ++j)
            fma(V::load(out + j * V::lanes), rescale, sums[l][j]).store(out + j * V::lanes);
    }
}

/// All lines for Registers * V::lanes columns.
template <class V, int Registers>
void value_columns(const AttentionBlock& b, std::size_t column) {
    constexpr int at_once = V::sums / Registers;
    std::size_t line = 0;
    for (; line + at_once <= b.lines; line += at_once) value_tile<V, at_once, Registers>(b, line, column);
    if constexpr (at_once > 4)
        for (; line + 4 <= b.lines; line += 4) value_tile<V, 4, Registers>(b, line, column);
    for (; line < b.lines; ++line) value_tile<V, 1, Registers>(b, line, column);
}

template <class V>
void attend_values(const AttentionBlock& b) noexcept {
    std::size_t column = 0;
    if constexpr (V::most_registers == 4)
        for (; column + 4 * V::lanes <= b.out_columns; column += 4 * V::lanes) value_columns<V, 4>(b, column);
    for (; column + 2 * V::lanes <= b.out_columns; column += 2 * V::lanes) value_columns<V, 2>(b, column);
    for (; column + V::lanes <= b.out_columns; column += V::lanes) value_columns<V, 1>(b, column);
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
