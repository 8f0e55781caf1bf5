// Models in safetensors files: a plain Hugging Face llama (config.json beside it) and fewbit's own layout.
//
// Float layers are what Hugging Face writes; a quantized layer L of N x K is stored as (docs/files.md has the
// details)
//   L.weight.codes    U8 (N, row bytes), packed as in BitMatrix        L.bias                    F32 (N)
//   L.weight.scales   F32/F16/BF16 (N, groups) or (1, 1)               L.channel_scales          F32 (K)
//   L.weight.zeros    U8 (N, row bytes), packed; -asym only            L.permutation             U32 (K)
//   L.weight.offsets  like the scales; -fzero only                     L.float_columns.channels  U32 (C)
//                                                                      L.hadamard                U32 (1)
//                                                                      L.float_columns.values    (N, C)
// with fewbit.version, fewbit.model.*, fewbit.format.L and fewbit.k.L in the metadata. Rows of q_proj and
// k_proj are in Hugging Face's order (rotary pairs i and i + head_dim / 2) in files, and in adjacent pairs in
// a ModelFile.
#pragma once

#include <filesystem>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/io/safetensors.hpp"

namespace fewbit::inline v0::io {

/// Reads a file, the files of an index (*.index.json), or those of a folder: its model.safetensors, else the
/// files of its model.safetensors.index.json. Layers in GPTQ's or compressed-tensors' layout are read as
/// config.json says (model_folder.hpp); doubts about them stand in the metadata, under "warning". Matrices
/// borrow the mapped file (rotary ones and unaligned ones are copied). Errors: those of open_safetensors;
/// metadata, tensors and shape that contradict each other; a tensor that belongs to nothing; a plain file
/// whose config.json is missing or asks for what fewbit cannot do.
[[nodiscard]] FEWBIT_API Result<ModelFile> read_safetensors_model(const std::filesystem::path& path);

/// The same for a file that has been opened. `config_directory`: where config.json lies; read only for plain
/// files.
[[nodiscard]] FEWBIT_API Result<ModelFile> read_safetensors_model(
    const SafetensorsFile& file, const std::filesystem::path& config_directory);

/// Streams a model to a file, which appears whole or not at all. read_safetensors_model() gives it back bit
/// by bit. A shape of zeros (no architecture) stores the layers as they are. Metadata keys beginning with
/// "fewbit." and the key "format" (always "pt") are the file's own. Errors: those of write_safetensors;
/// layers that contradict the shape, each other or themselves.
[[nodiscard]] FEWBIT_API Result<void> write_safetensors_model(const std::filesystem::path& path,
                                                              const ModelFile& model);

}  // namespace fewbit::inline v0::io
