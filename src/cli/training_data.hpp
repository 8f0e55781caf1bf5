// Documents of the synthetic corpus as a trainer wants them.
#pragma once

#include <cstdint>
#include <vector>

#include "fewbit/evaluate/corpus.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fewbit/model/trainer.hpp"

namespace fewbit::cli {

/// BOS, the pieces, EOS. Predictions inside an answer, and of the EOS behind one, count 1, those inside a
/// prompt `prompt_weight`.
[[nodiscard]] inline model::TrainingDocument training_document(const evaluate::CorpusDocument& document,
                                                               const model::Tokenizer& tokenizer,
                                                               double prompt_weight) {
    model::TrainingDocument out;
    out.tokens.push_back(tokenizer.bos());
    for (const evaluate::CorpusPiece& piece : document.pieces)
        for (const int token : tokenizer.encode(piece.text, false)) {
            out.tokens.push_back(token);
            out.weights.push_back(piece.answer ? 1.0f : static_cast<float>(prompt_weight));
        }
    out.tokens.push_back(tokenizer.eos());
    out.weights.push_back(1.0f);
    return out;
}

/// Training documents in order, forever.
class TrainingData {
public:
    TrainingData(const model::Tokenizer& tokenizer, std::uint64_t seed, double prompt_weight)
        : tokenizer_(&tokenizer), seed_(seed), prompt_weight_(prompt_weight) {}

    /// The next ones that together hold at least `tokens` predictions.
    [[nodiscard]] std::vector<model::TrainingDocument> next(std::size_t tokens) {
        std::vector<model::TrainingDocument> documents;
        for (std::size_t count = 0; count < tokens; count += documents.back().weights.size())
            documents.push_back(training_document(
                evaluate::corpus_document(seed_, evaluate::CorpusPart::training, documents_seen_++),
                *tokenizer_, prompt_weight_));
        return documents;
    }

    [[nodiscard]] std::uint64_t documents_seen() const { return documents_seen_; }
    void skip_to(std::uint64_t document) { documents_seen_ = document; }

private:
    const model::Tokenizer* tokenizer_;
    std::uint64_t seed_;
    double prompt_weight_;
    std::uint64_t documents_seen_ = 0;
};

}  // namespace fewbit::cli
