// Vocabulary: what a tokenizer is made of, whatever file it came from. Readers make it, writers take it, and
// model/tokenizer.hpp makes a Tokenizer of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"

namespace fewbit::inline v0::io {

enum class TokenKind : std::uint8_t {
    normal,
    unknown,       ///< stands for what the vocabulary cannot spell
    control,       ///< BOS, EOS: never in a text
    byte,          ///< one byte, spelled "<0xHH>"
    user_defined,  ///< cut out of a text before anything merges
    unused,        ///< merges, but is cut again: never in a result
};

/// Two ways to the same tokens, wherever every character of a normal token is a token itself.
enum class TokenDialect : std::uint8_t {
    llama2c,        ///< pieces spell spaces as spaces; what is no token becomes bytes before anything merges
    sentencepiece,  ///< pieces spell spaces as U+2581; any neighbours that spell a token merge
};

/// How SentencePiece spells a space: U+2581.
inline constexpr std::string_view spelled_space = "\xE2\x96\x81";

/// All vectors have one entry per token.
struct Vocabulary {
    std::vector<std::string> pieces;  ///< as the dialect spells them; user-defined ones as in texts
    std::vector<float> scores;        ///< higher merges first; llama2c: -1e10 and below never merges
    std::vector<TokenKind> kinds;
    int bos = 1;
    int eos = 2;
    int unknown = 0;
    bool space_prefix = true;  ///< encode puts a space in front of a text
    TokenDialect dialect = TokenDialect::llama2c;
    bool add_bos = true;       ///< the model wants BOS in front of a text
    bool add_eos = false;      ///< and EOS behind it
    bool trim_spaces = false;  ///< spaces at the ends go, several in a row become one

    /// Kinds of a vocabulary whose file has none: the three ids above, bytes by their spelling, normal.
    FEWBIT_API void guess_kinds();

    friend bool operator==(const Vocabulary&, const Vocabulary&) = default;
};

/// The byte that "<0xHH>" spells; nothing for other texts.
[[nodiscard]] FEWBIT_API std::optional<std::uint8_t> spelled_byte(std::string_view piece) noexcept;

/// The same vocabulary as SentencePiece spells it: spaces of normal tokens as U+2581, and BOS and EOS, which
/// llama2.c spells "\n<s>\n" and "\n</s>\n", without the line breaks. One that is so already stays as it is.
[[nodiscard]] FEWBIT_API Vocabulary in_sentencepiece(Vocabulary vocabulary);

}  // namespace fewbit::inline v0::io
