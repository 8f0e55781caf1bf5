// Importance matrices, as llama.cpp's imatrix tool writes them: for every weight matrix the sums of x^2 of each
// input channel over a calibration text. Two containers:
//
//   .dat   i32 entries; each: i32 length, name, i32 calls, i32 n, f32[n]; then, in newer files, i32 chunks,
//          i32 length, name of the text                                            all little-endian
//   GGUF   general.type "imatrix", imatrix.chunk_count, .chunk_size, .datasets; for every matrix the tensors
//          NAME.in_sum2 f32 [K, experts] and NAME.counts f32 [1, experts]
//
// Both are told apart by their first bytes. Names are those of GGUF models: "blk.0.attn_q.weight".
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"

namespace fewbit::inline v0::io {

/// Of one weight matrix, or of `experts()` matrices of one shape.
struct ImportanceEntry {
    std::vector<float> sums;    ///< (experts, K), finite and not negative
    std::vector<float> counts;  ///< (experts) what the sums are divided by; 0: never seen

    [[nodiscard]] std::size_t experts() const noexcept { return counts.size(); }
    [[nodiscard]] std::size_t k() const noexcept { return counts.empty() ? 0 : sums.size() / counts.size(); }
    /// (K) mean x^2 of an expert's inputs: what ggml::encode_row takes. Empty where none was seen.
    [[nodiscard]] FEWBIT_API std::vector<float> mean(std::size_t expert = 0) const;
};

struct ImportanceMatrix {
    std::map<std::string, ImportanceEntry, std::less<>> entries;
    std::uint32_t chunks = 0;      ///< of the text that were used
    std::uint32_t chunk_size = 0;  ///< tokens of each; 0: the file does not say
    std::vector<std::string> datasets;
};

/// Reads a whole file that lies in memory; `source` names it in messages. Errors: what contradicts the file's
/// size or itself, a sum that is NaN, infinite or negative (by name and column), an entry that is there twice.
[[nodiscard]] FEWBIT_API Result<ImportanceMatrix> parse_imatrix(std::span<const std::byte> file,
                                                                std::string_view source);
/// Maps a file and reads it.
[[nodiscard]] FEWBIT_API Result<ImportanceMatrix> read_imatrix(const std::filesystem::path& path);

/// Writes GGUF, or .dat where the path ends so. Errors: an entry without experts or of a size that they do not
/// divide; for .dat one of several experts, which it has no place for; the disk.
[[nodiscard]] FEWBIT_API Result<void> write_imatrix(const std::filesystem::path& path,
                                                    const ImportanceMatrix& matrix);

}  // namespace fewbit::inline v0::io
