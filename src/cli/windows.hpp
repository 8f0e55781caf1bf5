// What a model is asked to predict, for commands that measure one.
#pragma once

#include <string>
#include <vector>

#include "fewbit/evaluate/documents.hpp"
#include "fewbit/model/tokenizer.hpp"

namespace fewbit::cli {

/// Windows of the file `text`, or of held-out documents of the synthetic corpus where it is empty. Throws
/// Failure: no text for a model with another vocabulary than the corpus'.
[[nodiscard]] std::vector<evaluate::Window> load_windows(const std::string& text,
                                                         const evaluate::DocumentOptions& documents,
                                                         const model::Tokenizer& tokenizer);

/// "stories.txt", or the corpus' name.
[[nodiscard]] std::string name_of_text(const std::string& text);

/// The context that was asked for, or as long a one as the model allows, at most 512. Throws Failure: the
/// model was made for fewer tokens.
[[nodiscard]] std::size_t window_context(std::size_t asked, std::size_t model_context);

}  // namespace fewbit::cli
