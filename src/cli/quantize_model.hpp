// Quantizing a model in memory as a plan says, with calibration where the method wants it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fewbit/io/model_file.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "src/cli/calibration.hpp"
#include "src/cli/calibration_files.hpp"
#include "src/cli/plan.hpp"

namespace fewbit::cli {

struct LayerReport {
    std::string name;
    Format before;
    Format after;
    std::size_t n = 0, k = 0;
    double bits_per_weight = 0;
    std::optional<pipeline::LayerOutcome> outcome;  ///< nothing: stayed as it is
};

struct QuantizedModel {
    io::ModelFile file;
    std::vector<LayerReport> layers;      ///< in the order of the plan
    std::size_t windows = 0, tokens = 0;  ///< of calibration; 0: none
};

/// The calibration text of methods: 65,536 tokens, unless told, in windows of up to 2,048. Throws Failure: as
/// calibration_windows().
[[nodiscard]] std::vector<std::vector<int>> calibration_tokens(const io::ModelFile& model,
                                                               const CalibrationText& calibration,
                                                               const model::Tokenizer& tokenizer,
                                                               const std::string& purpose);

/// Quantizes layers as `plan` says. Without calibration one after the other: at no time is more than one of
/// them in memory as f32. `tokenizer` is asked for only with a text. Throws Failure: a layer that is
/// quantized already and does not stay as it is; what the methods refuse; what is wrong with `files`, whose
/// statistics are written before it returns.
[[nodiscard]] QuantizedModel quantize_model(const io::ModelFile& model, const std::vector<PlannedLayer>& plan,
                                            const MethodOptions& method, const CalibrationText& calibration,
                                            FunctionRef<model::Tokenizer()> tokenizer,
                                            ExecutionContext context, const CalibrationFiles& files = {});

}  // namespace fewbit::cli
