// What a decoder does between its matrix products, in f32: norms, rotary positions, attention, SwiGLU. Each row
// is computed in one fixed order, so no result depends on how many rows stand together or on the number of
// threads; it depends on the instruction set, which FEWBIT_FORCE_ISA can choose.
//
// Accuracy, with e = 2^-24 and errors relative to the exact result of the given floats: rms_norm 4 e (its sum
// runs in double), silu_multiply 8 e. Attention sums products of D and weights of at most 64 positions in f32,
// then adds blocks: (D + 64 + P / 64 + a few) e of the sum of magnitudes, however long the cache.
#pragma once

#include <cstddef>
#include <span>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/model/kv_cache.hpp"

namespace fewbit::inline v0::model {

/// y (M, D) = x / sqrt(mean(x^2) + epsilon) * gain, row by row; gain (D). y may be x.
FEWBIT_API void rms_norm(MatrixView<const float> x, std::span<const float> gain, float epsilon,
                         MatrixView<float> y, ExecutionContext context = {});

/// table (M, D): cos and sin, alternating, of position * base^(-2i/D) for pairs i < D/2 and positions first +
/// m.
FEWBIT_API void rope_table(std::size_t first_position, float base, MatrixView<float> table,
                           ExecutionContext context = {});

/// Rotates adjacent pairs of every head of x (M, heads * D) in place: (a, b) -> (a cos - b sin, a sin + b
/// cos).
FEWBIT_API void rope(MatrixView<float> x, std::size_t heads, MatrixView<const float> table,
                     ExecutionContext context = {});

/// Floats of scratch that attention() needs: for each lane a block of lines and one run of the cache.
[[nodiscard]] FEWBIT_API std::size_t attention_scratch_elements(const KvCache& cache,
                                                                std::size_t lanes) noexcept;

/// Causal attention of one layer. q (M, heads * D) stands at positions first_position + m, which the cache
/// already stores; query head h reads key-value head h / (heads / cache.heads()). out (M, heads * D).
///   out = softmax(q k^T / sqrt(D)) v     over positions [0, first_position + m]
FEWBIT_API void attention(MatrixView<const float> q, std::size_t heads, const KvCache& cache,
                          std::size_t layer, std::size_t first_position, MatrixView<float> out,
                          std::span<float> scratch, ExecutionContext context = {});

/// gate (M, H) = silu(gate) * up, where silu(x) = x / (1 + exp(-x)).
FEWBIT_API void silu_multiply(MatrixView<float> gate, MatrixView<const float> up,
                              ExecutionContext context = {});

/// x (M, D) += y.
FEWBIT_API void add(MatrixView<float> x, MatrixView<const float> y, ExecutionContext context = {});

}  // namespace fewbit::inline v0::model
