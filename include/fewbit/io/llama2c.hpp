// llama2.c model files (.bin), read: versions 0 (no magic, f32), 1 (f32) and 2 (int8 in groups, "q80").
//
//   v0   7 x i32: dim, hidden, layers, heads, kv_heads, vocabulary (negative: own head), context; f32 from
//   byte 28 v1   magic "24ka", version, the 7 fields, u8 tied; f32 from byte 256 v2   the same, i32 group
//   after `tied`; norms f32, each matrix int8 codes, then f32 scales, from byte 256
//
// f32 matrices borrow the bytes of the file; v2 matrices become int8-g<n>-narrow-sf32 (their signed codes +
// 128).
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::io {

/// Maps and reads a file; its matrices keep the mapping alive. Errors: those of MappedFile::open and
/// parse_llama2c.
[[nodiscard]] FEWBIT_API Result<ModelFile> read_llama2c(const std::filesystem::path& path);

/// Reads a file that lies in memory, at any alignment. `owner` keeps `bytes` alive; `source` names it in
/// messages. Errors: a header field that cannot be right, a file that is longer or shorter than its header
/// demands, v2 groups that no format holds, a gain that is not finite. f32 matrices are not scanned.
[[nodiscard]] FEWBIT_API Result<ModelFile> parse_llama2c(std::span<const std::byte> bytes,
                                                         std::shared_ptr<const void> owner,
                                                         const std::string& source);

}  // namespace fewbit::inline v0::io
