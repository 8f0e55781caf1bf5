// Folders as Hugging Face's libraries, vLLM and others load them: model.safetensors and config.json,
// quantized layers in GPTQ's or compressed-tensors' layout (gptq.hpp, compressed_tensors.hpp).
// read_safetensors_model() reads such folders, ours and others'; what was written comes back bit by bit, so
// the model computes what it did.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::io {

enum class FolderLayout { gptq, compressed_tensors };

/// As options and config files spell it: "gptq", "compressed-tensors".
[[nodiscard]] FEWBIT_API std::string_view name(FolderLayout layout) noexcept;

struct FolderLayer {
    std::string name;
    Format format;
    std::size_t n = 0;
    std::size_t k = 0;
};

/// Why layers of these formats and sizes cannot lie in such a folder; what can hold them stands in the
/// sentence. Float formats always can, but one layer must be quantized; quantized layers of gptq are all of
/// one format. (Values can forbid it too: write_model_folder.)
[[nodiscard]] FEWBIT_API Result<void> check_layers(FolderLayout layout,
                                                   const std::vector<FolderLayer>& layers);

/// Makes the folder if there is none and writes model.safetensors, then config.json; each appears whole or
/// not at all. Layers keep their formats; a narrow grid comes back as the full one that contains it. Zero
/// points are stored as checkpoint_format gptq has them, unless one is 0: then gptq_v2. The packed tensors
/// are in memory beside the model. Errors: those of write_safetensors, check_layers(), pack_gptq() and
/// pack_compressed(); no architecture; layers that it does not know or that contradict it; biases that a
/// Hugging Face llama cannot have.
[[nodiscard]] FEWBIT_API Result<void> write_model_folder(const std::filesystem::path& folder,
                                                         const ModelFile& model, FolderLayout layout);

}  // namespace fewbit::inline v0::io
