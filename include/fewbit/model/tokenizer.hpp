// Tokenizer: text to token ids and back, as llama2.c and SentencePiece's BPE do it.
//
// encode: BOS; a space in front of the text; one token per UTF-8 character (a character that is no token
// becomes its bytes' tokens, or the unknown token where the vocabulary has none for them); then, as long as
// two neighbours together spell a token, the pair with the highest score merges, the leftmost among equals.
// decode: the texts one after another, without the one space in front of the first token after BOS.
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

namespace fewbit::inline v0::model {

enum class TokenKind : std::uint8_t {
    normal,
    unknown,  ///< stands for what the vocabulary cannot spell
    control,  ///< BOS, EOS: never in a text
    byte,     ///< one byte, spelled "<0xHH>"
};

/// What a tokenizer is made of, whatever file it came from. All vectors have one entry per token.
struct Vocabulary {
    std::vector<std::string> pieces;  ///< spaces are spaces: readers of files with U+2581 translate it
    std::vector<float> scores;        ///< higher merges first; -1e10 and below never merges
    std::vector<TokenKind> kinds;
    int bos = 1;
    int eos = 2;
    int unknown = 0;
    bool space_prefix = true;  ///< encode puts a space in front of a text

    /// Kinds of a vocabulary whose file has none: the three ids above, bytes by their spelling, normal.
    FEWBIT_API void guess_kinds();
};

class Tokenizer {
public:
    /// Errors: no tokens, vectors of different lengths, ids outside the vocabulary, a score that is not
    /// finite. Of two tokens with the same text the first is used. Only normal tokens are found in texts.
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

    /// Any bytes are a text. An empty one gives no space. Time: n log n in the bytes of the text.
    [[nodiscard]] FEWBIT_API std::vector<int> encode(std::string_view text, bool with_bos = true,
                                                     bool with_eos = false) const;

    /// What `token` adds to a text after `previous` (-1: nothing before). Empty for control tokens and for
    /// ids outside the vocabulary. A byte token may be part of a character. Valid while the tokenizer lives.
    [[nodiscard]] FEWBIT_API std::string_view piece(int previous, int token) const noexcept;
    [[nodiscard]] FEWBIT_API std::string decode(std::span<const int> tokens) const;

private:
    struct Hash : std::hash<std::string_view> {
        using is_transparent = void;
    };

    Tokenizer() = default;
    /// The token spelled `text`, or -1.
    [[nodiscard]] int find(std::string_view text) const noexcept;
    void append_characters(std::string_view text, std::vector<int>& tokens) const;
    [[nodiscard]] std::vector<int> merge(std::span<const int> tokens) const;

    Vocabulary vocabulary_;
    std::vector<std::string> texts_;                                   ///< what tokens decode to
    std::unordered_map<std::string, int, Hash, std::equal_to<>> ids_;  ///< of normal tokens
    std::array<int, 256> byte_ids_{};                                  ///< -1: no such token
    std::size_t longest_ = 0;                                          ///< bytes
};

}  // namespace fewbit::inline v0::model
