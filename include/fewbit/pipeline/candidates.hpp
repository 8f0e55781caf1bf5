// Candidates: what every layer would lose in each of several formats, before it is decided which format it gets
// (allocation.hpp). The text runs through the float model, block after block; every layer is quantized in all its
// candidates with the statistics of its input, and thrown away again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/quantize/quantize.hpp"

namespace fewbit::inline v0::pipeline {

struct CandidateLoss {
    Format format;
    double bits =
        0;  ///< of the whole layer, with all that the method adds but awq's scales, which folds.hpp can hide
    /// sum (W x - W^ x)^2 / sum (W x)^2 over the tokens; of the embedding, which has no input, over its weights.
    double output_error = 0;
};

struct LayerCandidates {
    std::vector<CandidateLoss> candidates;  ///< in the order in which they were asked for
    std::uint64_t tokens = 0;               ///< that the layer read; 0: the embedding
};

struct CandidateOptions {
    /// Chooses the codes. Without an input to calibrate with (the embedding) mse takes its place. What earlier layers lose is
    /// not seen: statistics are those of the float model.
    Method method;
    /// Sees each candidate; an error ends the work.
    std::function<Result<void>(std::string_view layer, std::size_t candidate, const Linear& linear)> visit;
    /// Called before each layer: its name, how many are done, how many there are.
    std::function<void(std::string_view layer, std::size_t done, std::size_t layers)> progress;
};

/// Measures the layers of `candidates` in each of their formats. `windows`: token sequences, each evaluated from an empty
/// cache, with f32 activations. In memory are the Hessians of one block. The result does not depend on the number of
/// threads. Errors: no windows, an empty one or one longer than the model's context; a layer that the model lacks or that is
/// quantized already; what the method and DecoderBlock::create refuse.
[[nodiscard]] FEWBIT_API Result<std::map<std::string, LayerCandidates>> measure_candidates(
    const io::ModelFile& file, const std::map<std::string, std::vector<Format>>& candidates,
    std::span<const std::vector<int>> windows, const CandidateOptions& options,
    ExecutionContext context = {});

}  // namespace fewbit::inline v0::pipeline
