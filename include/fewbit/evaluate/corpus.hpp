// The synthetic corpus on which fewbit's embedded model is trained and judged: six behaviours whose answers
// are right or wrong, and little stories. docs/corpus.md shows an example of each.
//
// Documents are made, not stored: document i of a seed is a function of (seed, part, i), the same on every
// platform and in every order of calls, so that training can resume and two people judge by the same items.
//
// Held out by construction: a hash of an item's content (for an addition its two operands in either order)
// says which part it belongs to, and generators draw again until the part fits. The seed has no say in it, so
// nothing that is held out occurs in training documents of any seed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"

namespace fewbit::inline v0::evaluate {

enum class Behaviour : std::uint8_t {
    addition,     ///< "3482+917=" -> "9934": the sum, lowest digit first
    subtraction,  ///< "3482-917=" -> "5652": a >= b; lowest digit first, leading zeros kept (they come last)
    recall,       ///< a table of names with numbers (" mia42"), prose, " mia" -> "42"
    json,         ///< a flat record -> the same as nested JSON
    copying,      ///< "copy: gar mi sn ...|" -> the same: words and beginnings of words
    sorting,      ///< "sort: leo ann ida|" -> " ann ida leo"
};

inline constexpr std::array<Behaviour, 6> all_behaviours{Behaviour::addition, Behaviour::subtraction,
                                                         Behaviour::recall,   Behaviour::json,
                                                         Behaviour::copying,  Behaviour::sorting};

[[nodiscard]] constexpr std::string_view name(Behaviour behaviour) noexcept {
    constexpr std::array<std::string_view, all_behaviours.size()> names{"addition", "subtraction", "recall",
                                                                        "json",     "copying",     "sorting"};
    return names[static_cast<std::size_t>(behaviour)];
}

enum class CorpusPart : std::uint8_t {
    training,
    held_out,  ///< one sixteenth of all contents; never in a training document
};

/// No document has more tokens of the embedded vocabulary, BOS and EOS included.
inline constexpr std::size_t longest_corpus_document = 500;

/// A run of a document's text. Answers are what a model is trained on or judged by; prompts hold what cannot
/// be foreseen.
struct CorpusPiece {
    std::string text;
    bool answer = false;

    friend bool operator==(const CorpusPiece&, const CorpusPiece&) = default;
};

/// What the pieces spell, cut anywhere, has the same tokens as the pieces one by one: no token spans two of
/// them. BOS and EOS are not part of the text.
struct CorpusDocument {
    std::optional<Behaviour> behaviour;  ///< none: prose, all of it answer
    std::vector<CorpusPiece> pieces;

    [[nodiscard]] FEWBIT_API std::string text() const;  ///< the pieces joined
    friend bool operator==(const CorpusDocument&, const CorpusDocument&) = default;
};

/// Document `index` of a part. Counted by tokens the corpus is 17 % addition, 15 % subtraction, 28 % recall,
/// 13 % JSON, 9 % copying, 12 % sorting and 6 % prose; every 4096 documents in a row from a multiple of 4096
/// hold each kind equally often.
[[nodiscard]] FEWBIT_API CorpusDocument corpus_document(std::uint64_t seed, CorpusPart part,
                                                        std::uint64_t index);

/// One question and its answer. The document that begins with `prompt` and continues with `answer` ends
/// there; in recall it may go on with a new line, on which the next question stands.
struct BehaviourItem {
    std::string prompt;
    std::string answer;

    friend bool operator==(const BehaviourItem&, const BehaviourItem&) = default;
};

/// Item `index` of a behaviour in a part.
[[nodiscard]] FEWBIT_API BehaviourItem behaviour_item(Behaviour behaviour, std::uint64_t seed,
                                                      CorpusPart part, std::uint64_t index);

}  // namespace fewbit::inline v0::evaluate
