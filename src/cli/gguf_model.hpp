// What `fewbit quantize` writes into GGUF before anything is decided: metadata and tensors of a GGUF file as it is, or of
// a llama from another file; and what the metadata says afterwards.
#pragma once

#include <vector>

#include "fewbit/io/imatrix.hpp"
#include "fewbit/pipeline/gguf_quantizer.hpp"
#include "fewbit/pipeline/mixes.hpp"
#include "src/cli/quantize.hpp"

namespace fewbit::cli {

/// What is to be written, before anything is decided.
struct GgufModel {
    io::GgufMetadata metadata;
    std::vector<pipeline::GgufInput> tensors;
    pipeline::MixModel model;
};

/// Throws Failure: what readers refuse; a mix for a model whose rules are not known.
[[nodiscard]] GgufModel read_gguf_model(const QuantizeOptions& options);

/// Says in the metadata what `sources` are and how they were made.
void describe(io::GgufMetadata& metadata, const std::vector<io::GgufSource>& sources,
              const pipeline::Mix* mix, const io::ImportanceMatrix* importance,
              const QuantizeOptions& options);

}  // namespace fewbit::cli
