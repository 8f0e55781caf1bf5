// config.json of a model folder: all that a llama of Hugging Face needs, and how its layers are quantized.
#pragma once

#include <string>

#include "fewbit/io/gptq.hpp"
#include "fewbit/io/model_folder.hpp"

namespace fewbit::inline v0::io::detail {

/// Precondition: the model has an architecture, layers of known names, and check_layers() takes them.
[[nodiscard]] std::string folder_config(const ModelFile& model, FolderLayout layout, GptqVersion version);

}  // namespace fewbit::inline v0::io::detail
