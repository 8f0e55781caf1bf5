// CudaTransformer: a Llama-family decoder that runs whole on a CUDA device. Quantized matrices lie there in order mma16 (pack/mma16.hpp),
// float ones in the type of the activations. Only tokens and logits travel.
//
//   auto model = model::CudaTransformer::create(file, {});
//   auto sequence = model::CudaSequence::create(*model, positions);
//   sequence->forward(prompt, logits, {});      // then token after token: one captured graph
//
// Activations are f16 or bf16 between products, sums, norms and the residual stream f32: nothing is rounded to fewer bits.
// The same bits on every run.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/matmul/kernel.hpp"
#include "fewbit/model/sequence.hpp"

namespace fewbit::inline v0::model {

struct CudaModelOptions {
    Scalar activations = Scalar::f16;  ///< or bf16: what products read
    Scalar cache = Scalar::f16;  ///< of keys and values; or bf16, i8 with a scale for each head and position
    std::size_t chunk_positions = 512;  ///< positions that are evaluated together; memory grows with it
    /// May what no kernel of ours can multiply (formats that order mma16 refuses, permutations, channel scales, float columns)
    /// become a matrix of floats.
    Fallback fallback = Fallback::refuse;
};

/// A kernel, and the layers that it runs.
struct CudaKernelUse {
    std::string_view kernel;         ///< for one token
    std::string_view prompt_kernel;  ///< for chunk_positions
    Format weights;                  ///< as they lie on the device
    Scalar activations;
    std::string note;             ///< where weights were rounded, or take more memory than in the file: how
    std::string fallback_reason;  ///< why the weights became floats; empty when this is no fallback
    std::vector<std::string> layers;
};

/// Never changed after create(); copies share the weights.
class CudaTransformer {
public:
    /// Packs and copies. Errors: as Transformer::create; no_kernel: no device, a layer that rotates its input;
    /// fallback_refused: a layer that needs a fallback; a float weight beyond f16 (all by the layer's name); no memory.
    [[nodiscard]] FEWBIT_API static Result<CudaTransformer> create(const io::ModelFile& file,
                                                                   const CudaModelOptions& options,
                                                                   ExecutionContext context = {});

    [[nodiscard]] FEWBIT_API const io::ModelShape& shape() const noexcept;
    [[nodiscard]] FEWBIT_API const CudaModelOptions& options() const noexcept;
    /// What runs where, in order of first use.
    [[nodiscard]] FEWBIT_API std::vector<CudaKernelUse> kernels() const;
    /// Bytes of weights that one token reads, one row of the embedding included.
    [[nodiscard]] FEWBIT_API std::size_t bytes_per_token() const noexcept;

private:
    friend class CudaSequence;
    struct Parts;
    explicit CudaTransformer(std::shared_ptr<const Parts> parts) noexcept;
    std::shared_ptr<const Parts> parts_;
};

/// One sequence with its cache, buffers and stream.
class CudaSequence final : public Sequence {
public:
    /// Room for `positions`. Errors: more than the model's context, heads that cuda::KvCache cannot have, no memory.
    [[nodiscard]] FEWBIT_API static Result<CudaSequence> create(const CudaTransformer& model,
                                                                std::size_t positions);
    FEWBIT_API CudaSequence(CudaSequence&&) noexcept;
    FEWBIT_API CudaSequence& operator=(CudaSequence&&) noexcept;
    FEWBIT_API ~CudaSequence() override;

    [[nodiscard]] FEWBIT_API const io::ModelShape& shape() const noexcept override;
    [[nodiscard]] FEWBIT_API std::size_t length() const noexcept override;
    [[nodiscard]] FEWBIT_API std::size_t capacity() const noexcept override;
    /// Returns when the logits are there. The context is not looked at.
    [[nodiscard]] FEWBIT_API Result<void> forward(std::span<const int> tokens, MatrixView<float> logits,
                                                  ExecutionContext context) override;
    [[nodiscard]] FEWBIT_API Result<void> truncate(std::size_t length) override;

private:
    struct State;
    explicit CudaSequence(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

}  // namespace fewbit::inline v0::model
