// What a decoder does between its products, on a CUDA device: norms, SwiGLU, rotary positions, attention over a cache. All calls only
// enqueue and may be captured in a graph; the position of the next token is read on the device, so a graph of one token may be
// replayed for the one after it. The same bits on every run.
//
//   auto cache = cuda::KvCache::create({layers, kv_heads, head_dim, positions}, Scalar::f16);
//   auto turns = cuda::rope_turns(positions, head_dim, 10000.0f);
//   auto attention = cuda::Attention::create(*cache, heads, max_rows);
//   cuda::rms_norm(h, nullptr, gain, 1e-5f, x, stream);          // then products give q, k and v
//   cuda::rotate_and_store(q, k, v, *turns, rotated, *cache, layer, stream);
//   attention->run(rotated, *cache, layer, positions, out, stream);
//   ...                                                          // all layers
//   cache->advance(rows, stream);
#pragma once

#include <cstddef>
#include <cstdint>

#include "fewbit/cuda/matmul.hpp"

namespace fewbit::inline v0::cuda {

/// y (M, K) of f32, f16 or bf16: rows `tokens` (M), i32 on the device, of a matrix on the device, dequantized. A token that is no row
/// becomes NaN. With `tokens` null the first M rows: the whole matrix where y has as many. Errors: shapes, types or places that do not
/// fit; what the launch said.
[[nodiscard]] FEWBIT_API Result<void> embed(const Mma16Matrix& weights, const std::int32_t* tokens,
                                            const View& y, ExecutionContext context);
/// The same of a table (V, K) of f32, f16 or bf16 on the device.
[[nodiscard]] FEWBIT_API Result<void> embed(const Tensor& table, const std::int32_t* tokens, const View& y,
                                            ExecutionContext context);

/// residual (M, D) of f32 += delta (M, D) of f32, f16 or bf16, unless that is null;
/// y (M, D) of f32, f16 or bf16 = residual / sqrt(mean(residual^2) + epsilon) * gain, row by row; gain (D) of f32 on the device.
/// Errors: shapes or types that do not fit; what the launch said.
[[nodiscard]] FEWBIT_API Result<void> rms_norm(const View& residual, const View* delta, const float* gain,
                                               float epsilon, const View& y, ExecutionContext context);

/// y (M, N) = silu(gate) * up, silu(x) = x / (1 + exp(-x)); gate and up of one type, all of f32, f16 or bf16. Errors: as above.
[[nodiscard]] FEWBIT_API Result<void> silu_multiply(const View& gate, const View& up, const View& y,
                                                    ExecutionContext context);

/// On the device, f32 (positions, head_dim): cos and sin in turn, of position * base^(-2i / head_dim) for pair i. Errors: those of
/// current_device(); an odd head_dim; no memory.
[[nodiscard]] FEWBIT_API Result<Tensor> rope_turns(std::size_t positions, std::size_t head_dim, float base);

struct CacheShape {
    std::size_t layers = 0, heads = 0, head_dim = 0, positions = 0;
};

/// Keys and values of one sequence: per layer and head rows (positions, head_dim) of f16, bf16, or int8 with a scale of f32 for
/// each row, max |x| / 127. Memory: positions x heads x head_dim x 2 x (2, or 1 + 4 / head_dim) bytes for each layer.
class KvCache {
public:
    /// Longest head.
    static constexpr std::size_t max_head_dim = 256;

    /// An empty cache. Errors: those of current_device(); another type; a head_dim that is no multiple of 8 or longer than
    /// max_head_dim; no memory.
    [[nodiscard]] FEWBIT_API static Result<KvCache> create(const CacheShape& shape, Scalar type);

    [[nodiscard]] const CacheShape& shape() const noexcept { return shape_; }
    [[nodiscard]] Scalar type() const noexcept { return type_; }
    [[nodiscard]] std::size_t size_bytes() const noexcept {
        return keys_.size_bytes() + values_.size_bytes() + key_scales_.size_bytes() +
               value_scales_.size_bytes();
    }
    /// Enqueues: the next token stands `count` further on. What would stand behind the last position is not stored, and attention
    /// ends there: nobody but the caller can know.
    [[nodiscard]] FEWBIT_API Result<void> advance(std::size_t count, ExecutionContext context);
    /// Enqueues: the next token stands at `position`, as after a common beginning. Error: it is behind the cache's last.
    [[nodiscard]] FEWBIT_API Result<void> rewind(std::size_t position, ExecutionContext context);

private:
    friend FEWBIT_API Result<void> rotate_and_store(const View&, const View&, const View&, const Tensor&,
                                                    const View&, KvCache&, std::size_t, ExecutionContext);
    friend class Attention;
    KvCache() = default;
    CacheShape shape_;
    Scalar type_ = Scalar::f16;
    Tensor keys_, values_;              // (layers, heads, positions, head_dim)
    Tensor key_scales_, value_scales_;  // f32 (layers, heads, positions) of int8; else empty
    Tensor position_;                   // i32 (1)
};

/// Rows m of q (M, heads * D), k and v (M, kv_heads * D), of one type of f32, f16, bf16, stand at the cache's position + m. Adjacent
/// pairs of q and k turn, (a, b) -> (a cos - b sin, a sin + b cos); q becomes `rotated` (M, heads * D), which may be q; k and v are
/// stored in `layer`. In int8 a head that holds NaN or infinity becomes NaN. Errors: shapes or types that do not fit; what the launch said.
[[nodiscard]] FEWBIT_API Result<void> rotate_and_store(const View& q, const View& k, const View& v,
                                                       const Tensor& turns, const View& rotated,
                                                       KvCache& cache, std::size_t layer,
                                                       ExecutionContext context);

/// Causal attention with memory for what blocks of threads share; for one stream at a time.
class Attention {
public:
    /// For up to `max_rows` rows of `heads` query heads over caches of this shape. Errors: those of current_device(); heads that are
    /// no multiple of the cache's; no memory.
    [[nodiscard]] FEWBIT_API static Result<Attention> create(const KvCache& cache, std::size_t heads,
                                                             std::size_t max_rows);

    /// Enqueues out = softmax(q k^T / sqrt(D)) v. q and out (M, heads * D) of f32, f16 or bf16; row m sees positions up to the
    /// cache's + m, which rotate_and_store has stored. `seen`: at least as many positions as the last row sees; more cost blocks
    /// that end at once, fewer are all that is looked at. Errors: shapes or types that do not fit; what a launch said.
    [[nodiscard]] FEWBIT_API Result<void> run(const View& q, const KvCache& cache, std::size_t layer,
                                              std::size_t seen, const View& out, ExecutionContext context);

private:
    Attention() = default;
    [[maybe_unused]] std::size_t heads_ = 0, max_rows_ = 0;
    [[maybe_unused]] std::size_t rows_per_launch_ = 1;
    Tensor counters_;  // 0 between launches
    Tensor parts_;
};

}  // namespace fewbit::inline v0::cuda
