// The text that calibration runs through a model: options, its windows, and static activation ranges.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "fewbit/model/tokenizer.hpp"
#include "fewbit/pipeline/static_ranges.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

/// Which tokens calibration sees.
struct CalibrationText {
    std::string text;                    ///< empty: training documents of the synthetic corpus
    std::string split;                   ///< mark between documents; empty: the text is one
    std::optional<std::size_t> windows;  ///< nothing: what the purpose takes
};

/// --calibration, --calibration-split, --calibration-windows.
void add_calibration_text(CLI::App& command, CalibrationText& options);

/// The first windows of up to `context` tokens: as many as were asked for, or as make up `tokens`. Throws Failure, which says
/// what wants them (`purpose`): no text for a model of another vocabulary than the corpus', no window.
[[nodiscard]] std::vector<std::vector<int>> calibration_windows(const CalibrationText& options,
                                                                const model::Tokenizer& tokenizer,
                                                                std::size_t context, std::size_t tokens,
                                                                const std::string& purpose);

struct CalibrationOptions {
    CalibrationText source;
    pipeline::StaticRangeOptions ranges;
};

/// Those of the text, and --range.
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
