// Trainer: a float model, its optimizer and its place in the data: everything that training changes. A step
// takes documents, cuts them into micro-batches and updates all parameters once.
//
// A checkpoint holds all of it: a training that was stopped and resumed from one gives the same bits as one
// that was never stopped (for one binary and one instruction set; the number of threads does not matter).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "fewbit/core/buffer.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/model/adamw.hpp"
#include "fewbit/model/backpropagation.hpp"

namespace fewbit::inline v0::model {

/// A document with its BOS. weights[i] counts the prediction of tokens[i + 1]: one less than tokens.
struct TrainingDocument {
    std::vector<int> tokens;
    std::vector<float> weights;
};

struct TrainingOptions {
    AdamWOptions adamw;
    Schedule schedule;
    double clip_norm = 1.0;          ///< of all gradients together
    std::size_t micro_batch = 2048;  ///< tokens that are computed together; memory grows with it
    std::uint64_t seed = 1;          ///< of the initial parameters
    double gain_spread = 0;          ///< of the initial gains: see initialize()
    Fallback fallback = Fallback::refuse;
};

/// Changes the weights on their way into the products: quantization-aware training (quantized_training.hpp).
class WeightRounding {
public:
    virtual ~WeightRounding() = default;
    /// effective <- what the products read, from the parameters that the optimizer changes.
    [[nodiscard]] virtual Result<void> forward(std::span<const float> parameters,
                                               std::span<float> effective) = 0;
    /// gradients: of the effective weights on entry, of the parameters on return.
    [[nodiscard]] virtual Result<void> backward(std::span<const float> parameters,
                                                std::span<float> gradients) = 0;
    /// After the parameters were updated: updates what the rounding itself learns. `rate` is the parameters'
    /// learning rate, `gradient_scale` what clipping leaves of gradients.
    virtual void update(std::uint64_t step, double rate, double gradient_scale) = 0;
};

/// What a step learns from, besides its documents. All optional.
struct Guidance {
    WeightRounding* weights = nullptr;
    InputRounding<float>* inputs = nullptr;
    /// Parameters of a float model of the same shape, whose distribution replaces the targets: the loss is
    /// the divergence KL(teacher || model), still weighted.
    std::span<const float> teacher;
};

struct StepReport {
    std::uint64_t step = 0;    ///< from 1
    std::size_t tokens = 0;    ///< predictions made
    double weight = 0;         ///< sum of their weights
    double loss = 0;           ///< weighted mean of -ln p, or of the divergence from the teacher, in nats
    double gradient_norm = 0;  ///< before clipping
    double learning_rate = 0;
};

class Trainer {
public:
    /// Random parameters. Errors: a shape that cannot be, no memory, no kernel.
    [[nodiscard]] FEWBIT_API static Result<Trainer> create(const io::ModelShape& shape,
                                                           const TrainingOptions& options,
                                                           ExecutionContext context = {});
    /// The parameters of a float model. Errors: also those of read_parameters.
    [[nodiscard]] FEWBIT_API static Result<Trainer> from_model(const io::ModelFile& file,
                                                               const TrainingOptions& options,
                                                               ExecutionContext context = {});

    /// Forward, backward, update. Errors, which leave everything as it was: no weight at all, documents that
    /// are longer than the context or a micro-batch, ids outside the vocabulary, a loss or gradient that is
    /// not finite.
    [[nodiscard]] FEWBIT_API Result<StepReport> step(std::span<const TrainingDocument> documents,
                                                     const Guidance& guidance = {});

    /// Writes a checkpoint, whole or not at all. `documents_seen` is kept for the caller.
    [[nodiscard]] FEWBIT_API Result<void> save(const std::filesystem::path& path,
                                               std::uint64_t documents_seen) const;
    /// Takes over parameters, moments and step. Returns documents_seen. Errors: those of load_tensors, a
    /// checkpoint of another shape.
    [[nodiscard]] FEWBIT_API Result<std::uint64_t> resume(const std::filesystem::path& path);

    [[nodiscard]] std::uint64_t steps_done() const noexcept { return steps_done_; }
    [[nodiscard]] const ParameterTable& table() const noexcept { return backpropagation_.table(); }
    [[nodiscard]] std::span<const float> parameters() const noexcept { return parameters_.span(); }
    [[nodiscard]] const Kernel& kernel() const noexcept { return backpropagation_.products().kernel(); }
    /// The model as it is. Error: no memory.
    [[nodiscard]] Result<io::ModelFile> model(Scalar type) const {
        return to_model_file(table(), parameters(), type);
    }

private:
    Trainer(const TrainingOptions& options, Backpropagation<float> backpropagation)
        : options_(options), backpropagation_(std::move(backpropagation)) {}

    TrainingOptions options_;
    Backpropagation<float> backpropagation_;
    Buffer<float> parameters_, gradients_, first_, second_;
    Buffer<float> effective_;  // rounded parameters, once there was a rounding
    Buffer<float> teacher_logits_;
    std::uint64_t steps_done_ = 0;
};

/// Multiply-adds times two of one token, forward and backward, in products with weights (6 per weight and
/// token; attention's own products depend on lengths and are not counted).
[[nodiscard]] FEWBIT_API double training_operations(const ParameterTable& table) noexcept;

}  // namespace fewbit::inline v0::model
