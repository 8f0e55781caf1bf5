// Outliers for models that have none behind their norms. Large language models have a few channels whose
// activations are 20 to 100 times as large as the others' (arXiv 2208.07339); they decide what activations
// lose in 8 bits, and tiny models lack them. This makes some, without changing the function: in x = norm(h) * gain and y = W x
//
//   gain[c] *= factor      W[:, c] /= factor      for a few channels c
//
// and y stays what it was up to rounding, while x has outliers and W has columns of small weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::pipeline {

/// To be shown wherever a result comes from such a model.
inline constexpr std::string_view outlier_notice =
    "The outliers were made, not learned: gains of norms times a factor, the weights behind them divided by "
    "it, which leaves the float model's function as it was. A method that rescales channels, such as "
    "SmoothQuant, can in principle invert this exactly.";

/// Chooses the channels; any other value chooses others.
inline constexpr std::uint64_t outlier_seed = 0x6F75746C69657273;

struct OutlierReport {
    double factor = 1;
    std::size_t dim = 0;                ///< channels that there are
    std::vector<std::size_t> channels;  ///< of the residual stream, ascending; the same in every norm
    std::vector<std::string> norms;     ///< whose gains were multiplied, in order of execution
    std::vector<std::string> readers;   ///< matrices behind those norms, whose columns were divided
    std::string skipped;                ///< why model.norm was left out; empty when it was not
    std::vector<std::string> widened;   ///< matrices that were f16 or bf16 and are f32 now

    /// "factor 20 in channel 17 of 64, made in 10 norms; not in model.norm: ...", without the notice.
    [[nodiscard]] FEWBIT_API std::string text() const;
};

/// Multiplies the gains of 1 % of the channels (rounded, at least one) by `factor`, and divides the matching
/// columns of the weights behind them by it:
///   input_layernorm            q_proj, k_proj, v_proj
///   post_attention_layernorm   gate_proj, up_proj
///   model.norm                 lm_head; left out when the head is the embedding, whose rows are also what
///                              the first block reads
/// The channels are the same in every layer, because in real models they are: outliers live in fixed
/// dimensions of the residual stream, which all layers share (arXiv 2208.07339 section 4, 2211.10438).
///
/// Gains and weights are rounded to f32 once. Matrices of f16 and bf16 become f32: in their own type the
/// quotients would be rounded to 11 or 8 bits again, and f16 runs out of bits below 2^-14.
/// `file.metadata["outliers"]` says what was done, so that files that are written say it too. Matrices are
/// replaced, not written to: copies of `file` keep theirs.
///
/// Errors, which leave `file` as it was: a factor that is not finite and positive; no decoder, a norm or a
/// matrix that is missing or of another shape; a matrix that is quantized or has an input transform or float
/// columns; a factor with which a gain or a weight leaves the normal numbers of f32. All by name.
[[nodiscard]] FEWBIT_API Result<OutlierReport> add_outliers(io::ModelFile& file, double factor,
                                                            std::uint64_t seed = outlier_seed);

}  // namespace fewbit::inline v0::pipeline
