// DecoderBlock: one block of a Llama-family decoder, ready to run:
//
//   x += o( attention( rope(q(h)), rope(k(h)), v(h) ) )      h = norm(x)
//   x += down( silu(gate(h)) * up(h) )                       h = norm(x)
//
// A Transformer is a row of them; calibration runs one after the other and replaces their layers as it quantizes them.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/matmul/linear.hpp"
#include "fewbit/model/kv_cache.hpp"

namespace fewbit::inline v0::model {

struct ModelOptions {
    /// Of all layers, but activations_for() float weights. Rows of one call share a dynamic tensor grid, so with
    /// int<b>-tensor a token's result depends on the tokens that are evaluated with it, later ones included;
    /// `row` and `-static` have no such effect.
    ActivationFormat activations;
    Fallback fallback = Fallback::refuse;  ///< may generic kernels run
    std::size_t chunk_positions = 256;     ///< positions that are evaluated together; memory grows with it
    /// For static activations: what each layer's transformed input spans, by the names of LayerObserver. See
    /// pipeline/static_ranges.hpp. Other activations do not look at it.
    std::map<std::string, StaticRange, std::less<>> static_ranges{};
    /// Of the caches that evaluation and generation make; a Transformer runs with any.
    KvCacheOptions cache{};
};

/// Sees the input x (M, K) of every projection before it runs, in execution order and on the caller's thread;
/// layers that read the same x are told one after another with the same view. The head is called "lm_head",
/// tied or not.
using LayerObserver = std::function<void(std::string_view layer, MatrixView<const float> input)>;

struct Layer {
    std::string name;
    PackedLinear linear;

    /// Packs matrix `source` (n, k) of a file under the name `name`. Errors: it is missing or of another shape, or
    /// has no range although activations are static; what select_kernel and pack refuse.
    [[nodiscard]] FEWBIT_API static Result<Layer> create(const io::ModelFile& file, const std::string& name,
                                                         const std::string& source, std::size_t n,
                                                         std::size_t k, const ModelOptions& options,
                                                         ExecutionContext context);
};

/// The buffers of blocks that run up to `rows` positions at a time: one allocation.
class BlockWorkspace {
public:
    [[nodiscard]] FEWBIT_API static Result<BlockWorkspace> create(const io::ModelShape& shape,
                                                                  std::size_t rows, const KvCache& cache,
                                                                  ExecutionContext context);
    /// The same buffers for fewer positions.
    [[nodiscard]] FEWBIT_API BlockWorkspace first(std::size_t rows) const;
    /// The rotations of positions from `position` on.
    FEWBIT_API void set_position(std::size_t position, float rope_base, ExecutionContext context);

    MatrixView<float> x;         ///< (M, dim) the residual stream
    MatrixView<float> h;         ///< (M, dim) normed x, and what a projection adds to x
    MatrixView<float> q;         ///< (M, heads * head_dim)
    MatrixView<float> k;         ///< (M, kv_heads * head_dim)
    MatrixView<float> v;         ///< (M, kv_heads * head_dim)
    MatrixView<float> attended;  ///< (M, heads * head_dim)
    MatrixView<float> gate;      ///< (M, hidden)
    MatrixView<float> up;        ///< (M, hidden)
    MatrixView<float> turns;     ///< (M, head_dim) cosines and sines
    std::span<float> scratch;    ///< of attention

private:
    Tensor memory_;
};

class DecoderBlock {
public:
    /// Block `index` of a file. Errors: those of Layer::create, a norm that is missing or of another length.
    [[nodiscard]] FEWBIT_API static Result<DecoderBlock> create(const io::ModelFile& file, std::size_t index,
                                                                const ModelOptions& options,
                                                                ExecutionContext context = {});

    /// In order of execution: q, k, v; o; gate, up; down.
    [[nodiscard]] std::array<const Layer*, 7> layers() const noexcept {
        return {&q_, &k_, &v_, &o_, &gate_, &up_, &down_};
    }
    [[nodiscard]] std::array<Layer*, 7> layers() noexcept {
        return {&q_, &k_, &v_, &o_, &gate_, &up_, &down_};
    }

    /// Runs w.x through the block, as positions `position` .. of layer `layer` of a cache, which gets their keys and
    /// values (the caller advances it). w.set_position() comes first. `until`, one of layers(): stops when that one
    /// would run, after its input was observed. Errors: those of apply_together.
    [[nodiscard]] FEWBIT_API Result<void> run(BlockWorkspace& w, KvCache& cache, std::size_t layer,
                                              std::size_t position, ExecutionContext context,
                                              const LayerObserver& observer = {},
                                              const Layer* until = nullptr) const;

private:
    DecoderBlock(const io::ModelShape& shape, std::vector<float> attention_norm, std::vector<float> mlp_norm,
                 std::array<Layer, 7> layers);

    std::size_t heads_, kv_heads_;
    float norm_epsilon_;
    std::vector<float> attention_norm_;  ///< (dim)
    std::vector<float> mlp_norm_;        ///< (dim)
    Layer q_, k_, v_, o_, gate_, up_, down_;
};

/// Layers that read the same x, in one parallel region; `observer` is told first.
[[nodiscard]] FEWBIT_API Result<void> run_layers(
    MatrixView<const float> x, std::span<const std::pair<const Layer*, MatrixView<float>>> layers,
    ExecutionContext context, const LayerObserver& observer);

}  // namespace fewbit::inline v0::model
