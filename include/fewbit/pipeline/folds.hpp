// Folds: scales of a layer's input channels, put into what writes that input, so that they cost nothing at run time and the
// float model computes what it did:
//
//   site          x is divided in                        and the columns of ... are multiplied
//   attention     gains of input_layernorm               q_proj, k_proj, v_proj
//   value         rows of v_proj (and its bias)          o_proj
//   mlp           gains of post_attention_layernorm      gate_proj, up_proj
//   up            rows of up_proj (and its bias)         down_proj
//
// Attention mixes positions, not channels, so that a scale on a channel of v comes out on the same channel of every query head
// that reads its key-value head: those channels of o_proj's input are tied.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::pipeline {

enum class FoldSite : std::uint8_t { attention, value, mlp, up };
inline constexpr std::array fold_sites{FoldSite::attention, FoldSite::value, FoldSite::mlp, FoldSite::up};

struct Fold {
    std::size_t k = 0;                 ///< channels
    std::string norm;                  ///< vector whose elements are divided; or
    std::string writer;                ///< matrix whose rows are divided
    std::vector<std::string> readers;  ///< matrices whose columns are multiplied
    /// (k): row of the writer, or element of the norm, that writes a channel.
    std::vector<std::uint32_t> source;
};

/// Where a site's scales go in block `block`.
[[nodiscard]] FEWBIT_API Fold fold_of(const io::ModelShape& shape, std::size_t block, FoldSite site);

/// Divides and multiplies as the fold says. Matrices become f32; they are replaced, not written to: copies of `file` keep
/// theirs. Errors, which leave `file` as it was: scales that are not k positive finite numbers, or differ between channels of one
/// source; a norm or a matrix that is missing, of another shape, quantized or transformed; a weight that leaves f32, a gain that leaves its
/// normal numbers. By name.
[[nodiscard]] FEWBIT_API Result<void> fold_scales(io::ModelFile& file, const Fold& fold,
                                                  std::span<const float> scales);

}  // namespace fewbit::inline v0::pipeline
