// The contract between the operators of a decoder and their builds for instruction sets (kernels/operators):
// plain structs, because kernel files include this (matmul/contract.hpp says why).
//
// Attention is computed for up to attention_lines "lines", each a row of q in one query head, that read the
// same key-value head, and attention_positions positions at a time. Lines lie side by side along a register
// for the scores and one after another for the values, so each line's arithmetic has one order, whatever
// other lines stand beside it.
#pragma once

#include <cstddef>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::model {

inline constexpr std::size_t attention_lines = 32;      ///< of a task at most
inline constexpr std::size_t attention_positions = 64;  ///< of a block at most
inline constexpr std::size_t attention_padding = 16;    ///< lines and value columns are padded to multiples

/// One block of positions for the lines of a task. `stride` is the number of lines, rounded up to padding.
struct AttentionBlock {
    std::size_t lines = 0;
    std::size_t stride = 0;
    std::size_t head_dim = 0;
    std::size_t positions = 0;             ///< of this block, at least 1
    const std::size_t* visible = nullptr;  ///< (lines) how many of them a line sees; never decreases
    const float* queries = nullptr;        ///< (head_dim, stride), scaled by log2(e) / sqrt(head_dim)
    const float* rows = nullptr;           ///< (positions, rows_stride) keys, or values with padded columns
    std::size_t rows_stride = 0;
    const float* next = nullptr;  ///< what is read after `rows`, to be fetched meanwhile; of the same stride
    float* scores = nullptr;      ///< (positions, stride) becomes 2^(score - largest)
    float* largest = nullptr;     ///< (stride) of all scores so far; starts at -infinity
    float* sums = nullptr;        ///< (stride) of all weights so far; starts at 0
    float* rescale = nullptr;     ///< (stride) what older sums and outputs are worth now
    float* out = nullptr;         ///< (lines, out_columns) weighted sums of values so far; starts at 0
    std::size_t out_columns = 0;  ///< head_dim rounded up to padding
};

/// What a file of kernels/operators exports. No count has to be a multiple of anything.
struct OperatorCode {
    Isa isa = Isa::generic;
    /// y[i] = x[i] / sqrt(mean(x^2) + epsilon) * gain[i]; y may be x.
    void (*rms_norm)(const float* x, const float* gain, float epsilon, float* y, std::size_t count) noexcept;
    /// Pairs (a, b) of every head become (a cos - b sin, a sin + b cos); turns (head_dim): cos and sin in turn.
    void (*rope)(float* x, const float* turns, std::size_t heads, std::size_t head_dim) noexcept;
    /// gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i].
    void (*silu_multiply)(float* gate, const float* up, std::size_t count) noexcept;
    /// x[i] += y[i].
    void (*add)(float* x, const float* y, std::size_t count) noexcept;
    /// Scores of a block from its keys, then weights, sums and what older ones are worth.
    void (*attend_keys)(const AttentionBlock&) noexcept;
    /// Adds the block's weighted values to what was there.
    void (*attend_values)(const AttentionBlock&) noexcept;
};

}  // namespace fewbit::inline v0::model
