// Definitions of evaluate/embedded_vocabulary.hpp.
#include "fewbit/evaluate/embedded_vocabulary.hpp"

#include <string>
#include <string_view>

#include "src/evaluate/corpus_words.hpp"

namespace fewbit::inline v0::evaluate {

model::Vocabulary embedded_vocabulary() {
    model::Vocabulary vocabulary;
    vocabulary.space_prefix = false;
    std::vector<std::string>& pieces = vocabulary.pieces;
    pieces = {"<unk>", "<s>", "</s>"};
    for (unsigned byte = 0; byte < 256; ++byte) {
        constexpr std::string_view digits = "0123456789ABCDEF";
        pieces.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + '>');
    }
    const std::size_t first_character = pieces.size();
    pieces.emplace_back("\n");
    for (char c = ' '; c <= '~'; ++c) pieces.emplace_back(1, c);

    const auto& beginnings = detail::word_beginnings();
    pieces.insert(pieces.end(), beginnings.begin(), beginnings.end());

    vocabulary.guess_kinds();
    // A beginning grows only at its end and only one way, so that any scores lead to the word; these fall by
    // one per token, as in the files of SentencePiece.
    vocabulary.scores.resize(pieces.size());
    for (std::size_t i = first_character; i < pieces.size(); ++i)
        vocabulary.scores[i] = -static_cast<float>(i - first_character);
    return vocabulary;
}

}  // namespace fewbit::inline v0::evaluate
