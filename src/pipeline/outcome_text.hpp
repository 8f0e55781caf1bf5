// A LayerOutcome as texts of a file's metadata, and back: "outcome/<layer>/<field>". Numbers come back bit by
// bit.
#pragma once

#include <string>

#include "fewbit/core/result.hpp"
#include "fewbit/io/safetensors.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"

namespace fewbit::inline v0::pipeline {

void put_outcome(io::Metadata& metadata, const std::string& layer, const LayerOutcome& outcome);
/// Error: a field that is missing or no number, by its key.
[[nodiscard]] Result<LayerOutcome> get_outcome(const io::Metadata& metadata, const std::string& layer);

}  // namespace fewbit::inline v0::pipeline
