// The operators of a decoder for training: each forward with what its backward needs, and the backward.
//
// T is float, or double for tests that compare with finite differences. Rows (M) are the tokens of a
// micro-batch; `documents` says which rows belong together. Gradients named dx are written, those named
// `sum` are added to. The bits of all results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <span>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/model/training_products.hpp"

namespace fewbit::inline v0::model {

/// Sums over rows are made per block of rows, then added in the order of the blocks.
inline constexpr std::size_t gradient_block_rows = 32;
[[nodiscard]] inline std::size_t row_blocks(std::size_t rows) noexcept {
    return ceil_div(rows, gradient_block_rows);
}

/// Rows [first, first + length) of a micro-batch: one document, which attends to itself alone.
struct DocumentRows {
    std::size_t first = 0;
    std::size_t length = 0;
};

/// y (M, D) = x / sqrt(mean(x^2) + epsilon) * gain; inverse_rms (M) for the backward.
template <class T>
FEWBIT_API void rms_norm_forward(MatrixView<const T> x, std::span<const T> gain, T epsilon, MatrixView<T> y,
                                 std::span<T> inverse_rms, ExecutionContext context);
/// With r = inverse_rms and u = dy * gain:   dx_sum += r (u - x r^2 mean(u x)),   dgain_sum += sum_m dy x r.
/// `scratch` has row_blocks(M) * D numbers.
template <class T>
FEWBIT_API void rms_norm_backward(MatrixView<const T> x, std::span<const T> gain,
                                  std::span<const T> inverse_rms, MatrixView<const T> dy,
                                  MatrixView<T> dx_sum, std::span<T> dgain_sum, std::span<T> scratch,
                                  ExecutionContext context);

/// cos and sin of position * base^(-2i / head_dim) for positions [0, table.rows): table (P, head_dim), pairs
/// (cos, sin).
template <class T>
FEWBIT_API void rope_turns(T base, MatrixView<T> table);
/// Turns pairs (2i, 2i + 1) of every head of x (M, heads * head_dim) by the position in their document:
/// forward by +angle, backward (the transpose of a rotation) by -angle.
template <class T>
FEWBIT_API void rope_turn(MatrixView<T> x, MatrixView<const T> table, std::span<const DocumentRows> documents,
                          bool backward, ExecutionContext context);

/// out (M, H) = silu(gate) * up; gate_up (M, 2 H) holds both side by side.
template <class T>
FEWBIT_API void silu_multiply_forward(MatrixView<const T> gate_up, MatrixView<T> out,
                                      ExecutionContext context);
/// With s = sigmoid(gate):   dgate = dout up s (1 + gate (1 - s)),   dup = dout gate s.
template <class T>
FEWBIT_API void silu_multiply_backward(MatrixView<const T> gate_up, MatrixView<const T> dout,
                                       MatrixView<T> dgate_up, ExecutionContext context);

struct AttentionShape {
    std::size_t heads = 0;     ///< of queries
    std::size_t kv_heads = 0;  ///< divides heads
    std::size_t head_dim = 0;
};

/// Numbers of scratch that attention_forward and attention_backward need for documents of up to `length`.
[[nodiscard]] FEWBIT_API std::size_t attention_gradient_scratch(const AttentionShape& shape,
                                                                std::size_t length,
                                                                std::size_t lanes) noexcept;

/// Causal attention within each document. qkv (M, (heads + 2 kv_heads) * head_dim), rotated; out
/// (M, heads * head_dim); log_sums (M, heads): ln of the sum of exp(score), for the backward.
template <class T>
FEWBIT_API void attention_forward(const AttentionShape& shape, MatrixView<const T> qkv,
                                  std::span<const DocumentRows> documents, MatrixView<T> out,
                                  MatrixView<T> log_sums, std::span<T> scratch,
                                  const TrainingProducts<T>& products);
/// dqkv from dout. P = exp(S - log_sums) is computed again; D = rowsum(dout * out);
///   dV = P^T dout,   dS = P * (dout V^T - D),   dQ = dS K / sqrt(d),   dK = dS^T Q / sqrt(d)
template <class T>
FEWBIT_API void attention_backward(const AttentionShape& shape, MatrixView<const T> qkv,
                                   std::span<const DocumentRows> documents, MatrixView<const T> out,
                                   MatrixView<const T> log_sums, MatrixView<const T> dout, MatrixView<T> dqkv,
                                   std::span<T> scratch, const TrainingProducts<T>& products);

/// Loss sum_m weights[m] * -ln softmax(logits[m])[targets[m]], in double; logits (M, V) become
/// weights[m] * scale * (softmax(logits[m]) - onehot). A row of weight 0 costs nothing and becomes 0.
/// `scratch` has row_blocks(M) numbers.
template <class T>
FEWBIT_API double cross_entropy(MatrixView<T> logits, std::span<const int> targets,
                                std::span<const float> weights, T scale, std::span<double> scratch,
                                ExecutionContext context);

/// Loss sum_m weights[m] * KL(softmax(teacher[m]) || softmax(logits[m])), in double; logits (M, V) become
/// weights[m] * scale * (softmax(logits[m]) - softmax(teacher[m])) (knowledge distillation, arXiv
/// 1503.02531). Scratch as above.
template <class T>
FEWBIT_API double divergence_loss(MatrixView<T> logits, MatrixView<const T> teacher,
                                  std::span<const float> weights, T scale, std::span<double> scratch,
                                  ExecutionContext context);

/// dembedding_sum[tokens[m]] += dx[m], rows in order.
template <class T>
FEWBIT_API void embedding_backward(MatrixView<const T> dx, std::span<const int> tokens,
                                   MatrixView<T> dembedding_sum, ExecutionContext context);

}  // namespace fewbit::inline v0::model
