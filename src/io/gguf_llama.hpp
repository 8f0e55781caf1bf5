// What the reader and the writer of llama models in GGUF agree on: names of tensors and of keys.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/io/gguf.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/io/vocabulary.hpp"

namespace fewbit::inline v0::io::detail {

inline constexpr std::string_view llama_architecture = "llama";
inline constexpr std::string_view weight_ending = ".weight", bias_ending = ".bias";

/// One layer: a matrix (N, K), or a vector (N) with K = 0.
struct LlamaLayer {
    std::string gguf;   ///< "blk.0.attn_q", without ".weight"
    std::string layer;  ///< "model.layers.0.self_attn.q_proj"
    std::size_t n = 0;
    std::size_t k = 0;
};
/// Embedding, norm and head (absent where it is tied).
[[nodiscard]] std::vector<LlamaLayer> llama_ends(const ModelShape& shape);
/// Those of layer `index`, in the order in which others write them.
[[nodiscard]] std::vector<LlamaLayer> llama_block(const ModelShape& shape, std::size_t index);

/// The shape from general.architecture and llama.*. What stands in the tensors is given: the rows of the
/// embedding, where there is one, and whether the head is tied to it.
[[nodiscard]] Result<ModelShape> read_llama_shape(const GgufMetadata& metadata,
                                                  std::optional<std::size_t> embedding_rows, bool tied_head);

// Keys of vocabularies.
inline constexpr std::string_view tokenizer_model_key = "tokenizer.ggml.model";
inline constexpr std::string_view sentencepiece_tokenizer = "llama";
inline constexpr std::string_view tokens_key = "tokenizer.ggml.tokens";
inline constexpr std::string_view scores_key = "tokenizer.ggml.scores";
inline constexpr std::string_view kinds_key = "tokenizer.ggml.token_type";

struct TokenIdKey {
    std::string_view key;
    int Vocabulary::*id;
};
inline constexpr std::array<TokenIdKey, 3> token_id_keys{{
    {"tokenizer.ggml.bos_token_id", &Vocabulary::bos},
    {"tokenizer.ggml.eos_token_id", &Vocabulary::eos},
    {"tokenizer.ggml.unknown_token_id", &Vocabulary::unknown},
}};
struct TokenizerFlagKey {
    std::string_view key;
    bool Vocabulary::*flag;
};
inline constexpr std::array<TokenizerFlagKey, 4> tokenizer_flag_keys{{
    {"tokenizer.ggml.add_bos_token", &Vocabulary::add_bos},
    {"tokenizer.ggml.add_eos_token", &Vocabulary::add_eos},
    {"tokenizer.ggml.add_space_prefix", &Vocabulary::space_prefix},
    {"tokenizer.ggml.remove_extra_whitespaces", &Vocabulary::trim_spaces},
}};
/// token_type 1 is kinds[0], and so on.
inline constexpr std::array<TokenKind, 6> kinds_by_type{TokenKind::normal,  TokenKind::unknown,
                                                        TokenKind::control, TokenKind::user_defined,
                                                        TokenKind::unused,  TokenKind::byte};

}  // namespace fewbit::inline v0::io::detail
