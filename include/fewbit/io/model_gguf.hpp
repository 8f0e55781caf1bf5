// Models in GGUF files: architecture "llama" with a SentencePiece tokenizer, read and written.
//
// Matrices of f32, f16, bf16 and of the block types that fewbit decodes borrow the mapped file. Rows of q and k
// are in adjacent rotary pairs in these files as in a ModelFile. docs/files.md lists the keys and what is
// refused: whatever would change the arithmetic and is not known here (other architectures, experts, scaled
// rotary embeddings, capped logits), never passed over in silence.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/gguf.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/io/vocabulary.hpp"

namespace fewbit::inline v0::io {

/// Opens a file (of several parts all) and reads its model. Errors: those of open_gguf, and of the next.
[[nodiscard]] FEWBIT_API Result<ModelFile> read_gguf_model(const std::filesystem::path& path);

/// Of a file that has been opened; the matrices keep it mapped. Errors, which name keys, tensors and values: a
/// key that is missing, of another kind or asks for what fewbit cannot do; a tensor that is missing, of a shape
/// or type that does not fit, or belongs to nothing; a gain or bias that is not finite; another number of
/// tokens than the embedding has rows.
[[nodiscard]] FEWBIT_API Result<ModelFile> read_gguf_model(const GgufFile& file);

/// The vocabulary of a file whose tokenizer.ggml.model is "llama". Errors: another tokenizer; arrays that are
/// missing, of different lengths or of the wrong kind; a type that does not exist; two tokens of the same text;
/// BOS, EOS or unknown tokens that are none.
[[nodiscard]] FEWBIT_API Result<Vocabulary> read_gguf_vocabulary(const GgufFile& file);

/// "blk.3.ffn_up" for "model.layers.3.mlp.up_proj", without ".weight" and ".bias"; nothing for other names.
[[nodiscard]] FEWBIT_API std::optional<std::string> gguf_name_of_layer(std::string_view layer);
/// And back.
[[nodiscard]] FEWBIT_API std::optional<std::string> layer_of_gguf_name(std::string_view name);

struct GgufModelOptions {
    std::string name;  ///< general.name; empty: the key is left out
    std::optional<std::uint32_t>
        file_type;  ///< general.file_type, which tells users the kind of most tensors
};

/// What describes a model in GGUF: general.*, llama.* and, with a vocabulary, tokenizer.ggml.*. Errors: a
/// model without an architecture or whose layers contradict it, a vocabulary of another size.
[[nodiscard]] FEWBIT_API Result<GgufMetadata> gguf_metadata(const ModelFile& model,
                                                            const Vocabulary* vocabulary,
                                                            const GgufModelOptions& options);

/// The tensors of a model: embedding, norm, head, then layer by layer. They share the bytes of the model.
/// Errors: a layer that is missing, that ggml has no type for, or that carries a transform or float columns.
[[nodiscard]] FEWBIT_API Result<std::vector<GgufSource>> gguf_tensors(const ModelFile& model);

/// Both, through write_gguf(). read_gguf_model() gives the same model back, bit by bit.
[[nodiscard]] FEWBIT_API Result<void> write_gguf_model(const std::filesystem::path& path,
                                                       const ModelFile& model, const Vocabulary* vocabulary,
                                                       const GgufModelOptions& options);

}  // namespace fewbit::inline v0::io
