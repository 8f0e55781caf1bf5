// "quantization_config" of Hugging Face's config.json (GPTQ's own quantize_config.json has the same keys):
// which layout the quantized layers of a model have.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fewbit/core/result.hpp"
#include "fewbit/io/compressed_tensors.hpp"
#include "fewbit/io/gptq.hpp"
#include "src/io/config_values.hpp"

namespace fewbit::inline v0::io::detail {

/// One of compressed-tensors' config_groups.
struct CompressedGroup {
    std::string name;                  ///< group_0
    std::vector<std::string> targets;  ///< names of layers, or "Linear" for all
    CompressedConfig weights;
};

using CompressedGroups = std::vector<CompressedGroup>;
using QuantizationConfig = std::variant<GptqConfig, CompressedGroups>;

/// Error: a sentence that names what is missing, out of range or not supported.
[[nodiscard]] Result<QuantizationConfig> get_quantization(Config config);

/// Reads the text of a quantize_config.json.
[[nodiscard]] Result<QuantizationConfig> parse_quantize_config(std::string_view json);

/// The group of a layer: the one group that there is, else the one that names the layer, else that of
/// "Linear". Null: none.
[[nodiscard]] const CompressedGroup* group_of(const CompressedGroups& groups, std::string_view layer);

}  // namespace fewbit::inline v0::io::detail
