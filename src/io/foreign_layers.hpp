// Layers of a safetensors file that lie in GPTQ's or compressed-tensors' layout, as config.json says.
#pragma once

#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/io/safetensors.hpp"
#include "src/io/model_parts.hpp"
#include "src/io/quantization_config.hpp"

namespace fewbit::inline v0::io::detail {

/// A tensor of GPTQ's layout is there.
[[nodiscard]] bool has_gptq_tensors(const SafetensorsFile& file);

/// Takes the tensors of every quantized layer out of `parts` and puts the layers into `model`, whose shape is
/// known already and checked against theirs before anything is allocated. What is doubtful but can be read
/// goes into the metadata, under "warning".
[[nodiscard]] Result<void> read_foreign_layers(Parts& parts, const SafetensorsFile& file,
                                               const QuantizationConfig& config, ModelFile& model);

}  // namespace fewbit::inline v0::io::detail
