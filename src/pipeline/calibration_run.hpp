// Calibration windows on their way through a model, block after block: what each layer reads becomes its
// statistics. Where it is asked for, the float model runs beside the one that is being quantized.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/model/decoder_block.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "fewbit/pipeline/hessian.hpp"
#include "src/pipeline/calibration_stream.hpp"

namespace fewbit::inline v0::pipeline {

/// Kernels that are slower may run, but none that is less exact.
[[nodiscard]] model::ModelOptions exact_options();

/// Errors: no window, one that is empty or longer than the model's context, a token outside the vocabulary.
[[nodiscard]] Result<void> check_windows(const io::ModelShape& shape,
                                         std::span<const std::vector<int>> windows);

class CalibrationRun {
public:
    /// `collector` and `windows` have to live as long. `beside`: the float model runs, too. Errors: those of
    /// CalibrationStream::create.
    [[nodiscard]] static Result<CalibrationRun> create(const io::ModelShape& shape,
                                                       std::span<const std::vector<int>> windows, bool beside,
                                                       const CalibratedOptions& options,
                                                       HessianCollector& collector, ExecutionContext context);

    /// Starts all windows as rows of the embeddings (V, dim).
    [[nodiscard]] Result<void> embed(const QuantizedMatrix& embedding,
                                     const QuantizedMatrix& float_embedding);

    /// Statistics of what layer `layer` (a place in DecoderBlock::layers()) reads in `block`; beside those of
    /// what it reads in `float_block`, where that is not null.
    [[nodiscard]] Result<TensorStatistics> statistics_before(const model::DecoderBlock& block,
                                                             const model::DecoderBlock* float_block,
                                                             std::size_t layer);
    /// Runs all windows through a finished block. `float_block`: of the model beside; not read without one.
    [[nodiscard]] Result<void> advance(const model::DecoderBlock& block,
                                       const model::DecoderBlock* float_block);
    /// Statistics of what the head reads, behind the norm's `gains` (dim).
    [[nodiscard]] Result<TensorStatistics> statistics_of_head(std::span<const float> gains);

private:
    using Sees = std::function<void(MatrixView<const float>)>;

    CalibrationRun(const io::ModelShape& shape, std::span<const std::vector<int>> windows,
                   HessianCollector& collector, ExecutionContext context, CalibrationStream stream)
        : shape_(shape),
          windows_(windows),
          collector_(&collector),
          context_(context),
          stream_(std::move(stream)) {}

    /// Runs x through a block, up to `until`, whose input goes to `sees`; to the end, and x is replaced,
    /// where that is null.
    [[nodiscard]] Result<void> run(const model::DecoderBlock& block, Matrix& x, const model::Layer* until,
                                   const Sees& sees);

    io::ModelShape shape_;
    std::span<const std::vector<int>> windows_;
    HessianCollector* collector_;
    ExecutionContext context_;
    CalibrationStream stream_;                       ///< of the model as it is by now
    std::optional<CalibrationStream> float_stream_;  ///< of the float model, where it runs beside
};

}  // namespace fewbit::inline v0::pipeline
