// Static activation ranges for commands that run a model: options, and the calibration itself.
#pragma once

#include <string>

#include "fewbit/model/tokenizer.hpp"
#include "fewbit/pipeline/static_ranges.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

struct CalibrationOptions {
    std::string text;  ///< empty: training documents of the synthetic corpus
    std::size_t windows = 64;
    pipeline::StaticRangeOptions ranges;
};

/// --calibration, --calibration-windows, --range.
void add_calibration_options(CLI::App& command, CalibrationOptions& options);

/// Ranges of the inputs of `file`, which is what will run; none unless `activations` are static. Throws
/// Failure: no text for a model of another vocabulary than the corpus'; what calibrate_static_ranges refuses.
[[nodiscard]] pipeline::StaticRanges calibrate(const io::ModelFile& file, const model::Tokenizer& tokenizer,
                                               const ActivationFormat& activations,
                                               const CalibrationOptions& options, ExecutionContext context);

/// "min-max of 64 windows of the corpus' training documents".
[[nodiscard]] std::string calibration_text(const CalibrationOptions& options);
[[nodiscard]] Json calibration_json(const CalibrationOptions& options);

}  // namespace fewbit::cli
