// Quantizing into GGUF, tensor by tensor, in pieces of some rows: what is in memory is one piece as floats and as
// codes, whatever the model's size.
//
//   auto file = open_gguf("model-f16.gguf");
//   auto inputs = gguf_inputs(*file);
//   std::vector<io::GgufSource> sources;
//   for (const GgufInput& input : *inputs) sources.push_back(*quantized_source(input, {.format = ...}, report));
//   io::write_gguf("model-q4_0.gguf", file->metadata, sources);
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/io/gguf.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/quantize/quantize.hpp"

namespace fewbit::inline v0::pipeline {

/// A tensor that can go into a GGUF file as it is, or be read as floats to be quantized first.
struct GgufInput {
    io::GgufSource source;  ///< as it is
    /// Row r of source.sizes[0] weights as f32; null: of a type that fewbit does not decode.
    std::function<void(std::size_t r, std::span<float> out)> decode;
    /// Rows [first, last) may be dropped from memory; null: nothing to drop.
    std::function<void(std::size_t first, std::size_t last)> done_with;

    [[nodiscard]] std::size_t k() const noexcept { return source.sizes.empty() ? 1 : source.sizes[0]; }
    [[nodiscard]] std::size_t rows() const noexcept;
    /// f32, f16 or bf16: nothing was lost yet.
    [[nodiscard]] bool is_float() const noexcept;
};

/// All tensors of a file, in its order. They keep the file mapped.
[[nodiscard]] FEWBIT_API std::vector<GgufInput> gguf_inputs(const io::GgufFile& file);
/// Those of a model, under their names in GGUF. They share its bytes. Errors: those of io::gguf_tensors.
[[nodiscard]] FEWBIT_API Result<std::vector<GgufInput>> gguf_inputs(const io::ModelFile& model);

/// The type of GGUF that holds matrices of a format as they are: floats, blocks, and integer formats whose grid a
/// block type has too (formats/block_conversion.hpp). Error: there is none; the sentence names the nearest.
[[nodiscard]] FEWBIT_API Result<const io::GgufTensorType*> gguf_type_of(const Format& format);

struct GgufQuantization {
    Format format;
    Method method;
    /// (experts, K) or empty: of RtnOptions; `experts` divides the rows. Has to live until the source is produced.
    std::span<const float> importance;
    ExecutionContext context;
};

/// A source that quantizes `input` when it is produced, and fills in `report`, which has to live until then.
/// Errors: no type of GGUF for the format, an input that cannot be decoded or is no matrix, K no multiple of the
/// block. When it is produced: those of the method, a weight that is NaN or infinite (by name, row and column).
[[nodiscard]] FEWBIT_API Result<io::GgufSource> quantized_source(const GgufInput& input,
                                                                 const GgufQuantization& how,
                                                                 QuantizeReport& report);

}  // namespace fewbit::inline v0::pipeline
