// Tokenizer: text to token ids and back, as llama2.c and SentencePiece's BPE do it.
//
// encode: BOS; user-defined tokens (and control tokens, where the caller asks for it) are cut out, the longest
// first; then, for what is left between them: a space in front; the characters; as long as two neighbours
// together spell a token, the pair with the highest score merges, the leftmost among equals; what is no token
// in the end becomes its bytes' tokens, or the unknown token where the vocabulary has none for them.
// decode: the texts one after another, without the one space in front of the first token after BOS.
// io/vocabulary.hpp tells where the two dialects differ.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/vocabulary.hpp"

namespace fewbit::inline v0::model {

using io::TokenDialect;
using io::TokenKind;
using io::Vocabulary;

/// What "<s>" in a text is: characters like others, or the token. User-defined tokens are always tokens.
enum class Specials : std::uint8_t { as_text, as_tokens };

class Tokenizer {
public:
    /// Errors: no tokens, vectors of different lengths, ids outside the vocabulary, a score that is not
    /// finite, a byte that is not spelled as one. Of two tokens with the same text the first is used.
    [[nodiscard]] FEWBIT_API static Result<Tokenizer> create(Vocabulary vocabulary);

    /// Reads llama2.c's tokenizer.bin: i32 longest token, then per token f32 score, i32 length, bytes. The
    /// number of tokens comes from the model. Errors: a file that is shorter or longer, lengths and scores
    /// that cannot be right.
    [[nodiscard]] FEWBIT_API static Result<Tokenizer> read_llama2c(const std::filesystem::path& path,
                                                                   std::size_t tokens);
    /// The same from memory; `source` names it in messages.
    [[nodiscard]] FEWBIT_API static Result<Tokenizer> parse_llama2c(std::span<const std::byte> bytes,
                                                                    std::size_t tokens,
                                                                    const std::string& source);

    [[nodiscard]] std::size_t size() const noexcept { return vocabulary_.pieces.size(); }
    [[nodiscard]] int bos() const noexcept { return vocabulary_.bos; }
    [[nodiscard]] int eos() const noexcept { return vocabulary_.eos; }
    [[nodiscard]] int unknown() const noexcept { return vocabulary_.unknown; }
    [[nodiscard]] const Vocabulary& vocabulary() const noexcept { return vocabulary_; }

    /// Any bytes are a text. An empty one gives no space. Time: n log n in the bytes of the text, and n for
    /// each token that is cut out. Whether the model wants BOS and EOS stands in vocabulary().
    [[nodiscard]] FEWBIT_API std::vector<int> encode(std::string_view text, bool with_bos = true,
                                                     bool with_eos = false,
                                                     Specials specials = Specials::as_text) const;

    /// What `token` adds to a text after `previous` (-1: nothing before). Empty for control tokens and for
    /// ids outside the vocabulary. A byte token may be part of a character. Valid while the tokenizer lives.
    [[nodiscard]] FEWBIT_API std::string_view piece(int previous, int token) const noexcept;
    [[nodiscard]] FEWBIT_API std::string decode(std::span<const int> tokens) const;

private:
    struct Hash : std::hash<std::string_view> {
        using is_transparent = void;
    };
    struct Fragment {
        std::string_view text;
        int token = -1;  ///< -1: no token yet, but text
    };

    Tokenizer() = default;
    /// The token spelled `text`, or -1.
    [[nodiscard]] int find(std::string_view text) const noexcept;
    [[nodiscard]] std::vector<Fragment> cut(std::string_view text, Specials specials) const;
    /// Tokens of a text from which everything has been cut out; its first bytes are the space put in front.
    void append(std::string_view text, std::size_t prefix_bytes, std::vector<int>& tokens) const;
    void append_bytes(std::string_view text, std::vector<int>& tokens) const;

    Vocabulary vocabulary_;
    std::vector<std::string> texts_;                                   ///< what tokens decode to
    std::unordered_map<std::string, int, Hash, std::equal_to<>> ids_;  ///< of what merging may give
    std::vector<int> cut_out_;                                         ///< tokens, the longest first
    std::array<int, 256> byte_ids_{};                                  ///< -1: no such token
    std::size_t longest_ = 0;                                          ///< bytes
};

}  // namespace fewbit::inline v0::model
