// Which scales the input of a fold gets: awq's where all its readers are quantized with awq, SmoothQuant's
// where it is asked for and all are in the plan.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "fewbit/pipeline/folds.hpp"
#include "fewbit/quantize/channel_scales.hpp"

namespace fewbit::inline v0::pipeline {

[[nodiscard]] bool has_scales(const Fold& fold, const std::map<std::string, LayerChoice>& plan,
                              const std::optional<SmoothQuantOptions>& smoothquant);

/// The scales, from statistics of the fold's input. Precondition: has_scales. Errors: those of the methods.
[[nodiscard]] Result<ChannelScales> scales_of(const Fold& fold, const io::ModelFile& file,
                                              const std::map<std::string, LayerChoice>& plan,
                                              const std::optional<SmoothQuantOptions>& smoothquant,
                                              const TensorStatistics& statistics, ExecutionContext context);

}  // namespace fewbit::inline v0::pipeline
