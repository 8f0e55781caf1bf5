// Quantization-aware training of a whole model: every matrix is seen by the products as it will be stored,
// with scales that are learned (LSQ, LSQ+; qat/learned_grids.hpp), and inputs as they will be quantized.
//
//   auto rounding = QuantizedWeights::create(trainer.table(), trainer.parameters(), plan, context);
//   auto inputs = QuantizedInputs::create(*parse_activation_format("int4-row"));
//   trainer.step(documents, {.weights = &*rounding, .inputs = &*inputs, .teacher = float_parameters});
//   rounding->model_file(trainer.table(), trainer.parameters());    what training saw, stored
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "fewbit/core/buffer.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/model/trainer.hpp"
#include "fewbit/qat/learned_grids.hpp"

namespace fewbit::inline v0::model {

/// The format of a matrix; f16 and bf16 round every weight to that type, f32 keeps it as it is.
using FormatOfLayer = std::function<Format(std::string_view layer)>;

struct LearnedScaleOptions {
    double relative_rate = 1e-2;  ///< a scale's learning rate: this share of its own first value per unit of
                                  ///< the schedule's relative rate (rate / peak)
    double peak = 1e-3;           ///< the schedule's peak
    qat::InitialScale initial = qat::InitialScale::mse;
};

/// Weights as they will be stored. Scales and offsets learn by Adam in units of their first value, so that
/// groups of small and of large weights move alike.
class QuantizedWeights final : public WeightRounding {
public:
    /// Grids fitted to `parameters`. Errors: a format that is invalid, weights that are not finite (by name),
    /// no memory.
    [[nodiscard]] FEWBIT_API static Result<QuantizedWeights> create(const ParameterTable& table,
                                                                    std::span<const float> parameters,
                                                                    const FormatOfLayer& format,
                                                                    const LearnedScaleOptions& options = {},
                                                                    ExecutionContext context = {});

    [[nodiscard]] FEWBIT_API Result<void> forward(std::span<const float> parameters,
                                                  std::span<float> effective) override;
    [[nodiscard]] FEWBIT_API Result<void> backward(std::span<const float> parameters,
                                                   std::span<float> gradients) override;
    FEWBIT_API void update(std::uint64_t step, double rate, double gradient_scale) override;

    /// The model as stored: dequantized, its matrices are bit for bit what forward() gives for `parameters`.
    [[nodiscard]] FEWBIT_API Result<io::ModelFile> model_file(const ParameterTable& table,
                                                              std::span<const float> parameters) const;

private:
    struct Layer {
        ParameterSlot slot;
        qat::LearnedGrids grids;
        std::vector<float> units;                     ///< first values of scales, then of offsets' scales
        std::vector<float> gradients, first, second;  ///< of scales, then offsets
    };

    struct FloatLayer {
        ParameterSlot slot;
        Scalar type = Scalar::f16;
    };

    explicit QuantizedWeights(const LearnedScaleOptions& options, ExecutionContext context)
        : options_(options), context_(context) {}

    LearnedScaleOptions options_;
    ExecutionContext context_;
    std::vector<Layer> layers_;
    std::vector<FloatLayer> floats_;  ///< f16 and bf16: rounded, gradients straight through
    Buffer<qat::Place> mask_;         ///< of all parameters
};

/// Inputs as pack_activations will quantize them: dynamic, straight-through, nothing clipped.
class QuantizedInputs final : public InputRounding<float> {
public:
    /// Error: a format that fake_quantize_dynamic does not round.
    [[nodiscard]] FEWBIT_API static Result<QuantizedInputs> create(const ActivationFormat& format);
    FEWBIT_API void forward(std::size_t site, MatrixView<float> x, ExecutionContext context) override;
    void backward(std::size_t, MatrixView<float>, ExecutionContext) override {}

private:
    explicit QuantizedInputs(const ActivationFormat& format) : format_(format) {}

    ActivationFormat format_;
};

}  // namespace fewbit::inline v0::model
