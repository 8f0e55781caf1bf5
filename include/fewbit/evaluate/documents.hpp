// How a text is cut for evaluation, so that two people get the same number:
//
//   without a mark   the text, as it is, is one document, tokenized once and cut into consecutive windows of
//                    `context` tokens
//   with a mark      what stands between marks is a document; white space around it is stripped,
//                    empty ones are dropped, and each is cut to `context` tokens: one window per document
//
// Every window starts with BOS, which counts in the context, and every token after it is predicted once, from
// all tokens of the window before it. White space is ASCII's: blank, \t, \n, \v, \f, \r; other bytes are left
// alone.
#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/model/tokenizer.hpp"

namespace fewbit::inline v0::evaluate {

inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

struct DocumentOptions {
    std::string split{};                      ///< the mark between documents; empty: the text is one document
    std::size_t context = 512;                ///< tokens of a window, BOS included; at least 2
    std::size_t max_documents = unlimited;    ///< read only with a mark; empty documents do not count
    std::size_t max_predictions = unlimited;  ///< the window that exceeds it is cut, later ones are dropped
};

/// Tokens that are evaluated together: tokens[0] is BOS, each of the others is predicted once.
struct Window {
    std::size_t document = 0;  ///< which document of the text, empty ones not counted
    std::size_t first = 0;     ///< index in its document of tokens[1]
    std::vector<int> tokens;   ///< at least 2

    [[nodiscard]] std::size_t predictions() const noexcept { return tokens.size() - 1; }
};

/// Predictions of all windows together.
[[nodiscard]] FEWBIT_API std::size_t count_predictions(std::span<const Window> windows) noexcept;

/// The documents of a text, by the rules above; views into `text`. An empty mark gives the whole text,
/// unstripped.
[[nodiscard]] FEWBIT_API std::vector<std::string_view> split_documents(std::string_view text,
                                                                       std::string_view mark,
                                                                       std::size_t max_documents = unlimited);

/// Text to tokens, without BOS. A function that cannot fail may return the vector itself.
using Encode = FunctionRef<Result<std::vector<int>>(std::string_view text)>;

/// The windows of a text. Documents without a single token give none.
/// Errors: a context below 2, what `encode` refuses, a text in which there is nothing to predict.
[[nodiscard]] FEWBIT_API Result<std::vector<Window>> cut_windows(std::string_view text,
                                                                 const DocumentOptions& options,
                                                                 Encode encode, int bos);
[[nodiscard]] FEWBIT_API Result<std::vector<Window>> cut_windows(std::string_view text,
                                                                 const DocumentOptions& options,
                                                                 const model::Tokenizer& tokenizer);

}  // namespace fewbit::inline v0::evaluate
