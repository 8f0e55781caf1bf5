// Transformer: a Llama-family decoder, ready to run: an embedding, blocks (decoder_block.hpp), and the logits
// head(norm(x)). Each projection is a PackedLinear with the kernel that was chosen for it.
// A Transformer is never changed after create(): threads and sequences share it, each sequence has its
// KvCache.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/model/decoder_block.hpp"
#include "fewbit/model/kv_cache.hpp"

namespace fewbit::inline v0::model {

/// A kernel, and the layers that it runs.
struct KernelUse {
    std::string_view kernel;
    Isa isa = Isa::generic;
    Format weights;
    ActivationFormat activations;
    std::string fallback_reason;  ///< why no faster kernel runs; empty when this is no fallback
    std::string note;             ///< where the activations are not those that were asked for: why
    std::vector<std::string> layers;
};

class Transformer {
public:
    /// Chooses kernels and packs. f32 weights and everything of Layout::rows stay where the file has them
    /// (mapped); `file` itself may go. Errors: a shape that cannot be right, a layer that is missing or of
    /// the wrong shape, or has no range although activations are static (all by name), and what select_kernel
    /// and pack refuse.
    [[nodiscard]] FEWBIT_API static Result<Transformer> create(const io::ModelFile& file,
                                                               const ModelOptions& options,
                                                               ExecutionContext context = {});

    [[nodiscard]] const io::ModelShape& shape() const noexcept { return shape_; }
    [[nodiscard]] const ModelOptions& options() const noexcept { return options_; }
    /// What runs where, in order of first use.
    [[nodiscard]] FEWBIT_API std::vector<KernelUse> kernels() const;
    /// Bytes of weights that one token reads, one row of the embedding included.
    [[nodiscard]] FEWBIT_API std::size_t bytes_per_token() const noexcept;

    /// Evaluates `tokens` (T) at positions cache.length() .. + T and appends them to the cache.
    ///   logits   (T, V) for all positions, (1, V) for the last one, or no rows for none
    /// The bits do not depend on the number of threads; cutting a sequence into other calls changes roundings
    /// only. Errors, which leave the cache as it was: no tokens, an id outside the vocabulary, more positions
    /// than the cache holds, a cache of another model, logits of the wrong shape, no memory.
    [[nodiscard]] FEWBIT_API Result<void> forward(std::span<const int> tokens, KvCache& cache,
                                                  MatrixView<float> logits, ExecutionContext context = {},
                                                  const LayerObserver& observer = {}) const;

private:
    Transformer(const io::ModelShape& shape, const ModelOptions& options, QuantizedMatrix embedding,
                std::vector<DecoderBlock> blocks, std::vector<float> norm, Layer head);

    [[nodiscard]] Result<void> check(std::span<const int> tokens, const KvCache& cache,
                                     MatrixView<float> logits) const;
    [[nodiscard]] Result<void> evaluate(std::span<const int> tokens, KvCache& cache, MatrixView<float> logits,
                                        BlockWorkspace& w, ExecutionContext context,
                                        const LayerObserver& observer) const;
    template <class Visit>
    void for_each_layer(Visit&& visit) const;

    io::ModelShape shape_;
    ModelOptions options_;
    QuantizedMatrix embedding_;  ///< (V, dim)
    std::vector<DecoderBlock> blocks_;
    std::vector<float> norm_;  ///< (dim)
    Layer head_;               ///< (V, dim)
};

}  // namespace fewbit::inline v0::model
