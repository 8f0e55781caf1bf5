// Definitions of evaluate/corpus_windows.hpp.
#include "fewbit/evaluate/corpus_windows.hpp"

#include <algorithm>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::evaluate {

Result<std::vector<Window>> corpus_windows(const CorpusOptions& options, const model::Tokenizer& tokenizer) {
    if (options.context < 2)
        return fail(ErrorKind::bad_input, "a context of ", options.context,
                    " leaves nothing to predict; windows have at least 2 tokens");
    if (options.documents == 0 || options.max_predictions == 0)
        return fail(ErrorKind::bad_input, "no documents of the corpus were asked for");
    std::vector<Window> windows;
    std::size_t left = options.max_predictions;
    for (std::size_t i = 0; i < options.documents && left > 0; ++i) {
        Window window{i, 0,
                      tokenizer.encode(corpus_document(options.seed, options.part, i).text(), true, true)};
        window.tokens.resize(
            std::min({window.tokens.size(), options.context, left == unlimited ? unlimited : left + 1}));
        left -= left == unlimited ? 0 : window.predictions();
        windows.push_back(std::move(window));
    }
    return windows;
}

}  // namespace fewbit::inline v0::evaluate
