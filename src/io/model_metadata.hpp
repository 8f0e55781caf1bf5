// The shape of a model as text: fewbit's own metadata keys, and Hugging Face's config.json.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/io/safetensors.hpp"
#include "src/io/quantization_config.hpp"

namespace fewbit::inline v0::io::detail {

inline constexpr std::string_view own_prefix = "fewbit.";
inline constexpr std::string_view version_key = "fewbit.version";
inline constexpr std::string_view layout_version = "1";
inline constexpr std::string_view model_prefix = "fewbit.model.";
inline constexpr std::string_view format_prefix = "fewbit.format.";  // + layer: the format's name
inline constexpr std::string_view k_prefix = "fewbit.k.";  // + layer: its K, which packed rows do not tell
inline constexpr std::string_view foreign_format_key = "format";  // others want "pt" there
inline constexpr std::string_view foreign_format = "pt";

/// Adds fewbit.model.dim, .hidden, .layers, .heads, .kv_heads, .head_dim, .vocabulary, .context, .rope_base,
/// .norm_epsilon (shortest decimal that reads back to the same f32) and .tied_head (true, false).
void put_shape(const ModelShape& shape, Metadata& metadata);

/// Reads those keys; all must be there, none else of that prefix.
[[nodiscard]] Result<ModelShape> get_shape(const Metadata& metadata);

/// What a config.json tells.
struct ModelConfig {
    ModelShape shape;
    std::optional<QuantizationConfig> quantization;
};

/// Reads the text of a config.json. Error: a sentence that names what is missing or not supported.
[[nodiscard]] Result<ModelConfig> parse_config(std::string_view json);

}  // namespace fewbit::inline v0::io::detail
