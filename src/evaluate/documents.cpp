// Definitions of evaluate/documents.hpp.
#include "fewbit/evaluate/documents.hpp"

#include <algorithm>
#include <utility>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::evaluate {
namespace {

std::string_view stripped(std::string_view text) {
    constexpr std::string_view white_space = " \t\n\v\f\r";
    const std::size_t first = text.find_first_not_of(white_space);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(white_space) - first + 1);
}

}  // namespace

std::size_t count_predictions(std::span<const Window> windows) noexcept {
    std::size_t count = 0;
    for (const Window& window : windows) count += window.predictions();
    return count;
}

std::vector<std::string_view> split_documents(std::string_view text, std::string_view mark,
                                              std::size_t max_documents) {
    std::vector<std::string_view> documents;
    if (mark.empty()) {
        if (!text.empty() && max_documents > 0) documents.push_back(text);
        return documents;
    }
    while (documents.size() < max_documents) {
        const std::size_t end = text.find(mark);
        const std::string_view document = stripped(text.substr(0, end));
        if (!document.empty()) documents.push_back(document);
        if (end == std::string_view::npos) break;
        text.remove_prefix(end + mark.size());
    }
    return documents;
}

Result<std::vector<Window>> cut_windows(std::string_view text, const DocumentOptions& options, Encode encode,
                                        int bos) {
    if (options.context < 2)
        return fail(ErrorKind::bad_input, "a context of ", options.context,
                    " tokens leaves nothing to predict after BOS; it must be at least 2");
    const bool one_document = options.split.empty();
    const auto documents =
        split_documents(text, options.split, one_document ? unlimited : options.max_documents);
    const std::size_t step = options.context - 1;
    std::size_t left = options.max_predictions;
    std::vector<Window> windows;
    for (std::size_t d = 0; d < documents.size() && left > 0; ++d) {
        const auto tokens = encode(documents[d]);
        if (!tokens) return Unexpected{tokens.error().within(fewbit::text("document ", d))};
        const std::size_t end = one_document ? tokens->size() : std::min(tokens->size(), step);
        for (std::size_t first = 0; first < end && left > 0; first += step) {
            const std::size_t count = std::min({step, end - first, left});
            Window window{d, first, {bos}};
            const auto begin = tokens->begin() + static_cast<std::ptrdiff_t>(first);
            window.tokens.insert(window.tokens.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
            windows.push_back(std::move(window));
            left -= count;
        }
    }
    if (windows.empty())
        return fail(ErrorKind::bad_input, "there is nothing to predict in a text of ", text.size(), " bytes",
                    one_document ? std::string() : fewbit::text(" split at '", options.split, "'"));
    return windows;
}

Result<std::vector<Window>> cut_windows(std::string_view text, const DocumentOptions& options,
                                        const model::Tokenizer& tokenizer) {
    return cut_windows(
        text, options, [&](std::string_view document) { return tokenizer.encode(document, false); },
        tokenizer.bos());
}

}  // namespace fewbit::inline v0::evaluate
