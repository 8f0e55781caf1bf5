// Definitions of windows.hpp.
#include "src/cli/windows.hpp"

#include <algorithm>

#include "fewbit/evaluate/corpus_windows.hpp"
#include "src/cli/load.hpp"

namespace fewbit::cli {

std::vector<evaluate::Window> load_windows(const std::string& text,
                                           const evaluate::DocumentOptions& documents,
                                           const model::Tokenizer& tokenizer) {
    const bool limited = documents.max_documents != evaluate::unlimited;
    if (!text.empty()) {
        const Text file = load_text(text);
        return expect(evaluate::cut_windows(file.view(), documents, tokenizer));
    }
    if (!is_embedded_tokenizer(tokenizer))
        throw Failure(
            "name the text to predict with --text FILE; without one the synthetic corpus is used, "
            "which is for the embedded model and what was made of it");
    evaluate::CorpusOptions corpus;
    if (limited) corpus.documents = documents.max_documents;
    corpus.context = documents.context;
    corpus.max_predictions = documents.max_predictions;
    return expect(evaluate::corpus_windows(corpus, tokenizer));
}

std::string name_of_text(const std::string& text) {
    return text.empty() ? "synthetic corpus, held-out documents" : text;
}

std::size_t window_context(std::size_t asked, std::size_t model_context) {
    if (asked > model_context)
        throw Failure(
            fmt::format("--context {}: the model was made for at most {} tokens", asked, model_context));
    return asked == 0 ? std::min<std::size_t>(512, model_context) : asked;
}

}  // namespace fewbit::cli
