// Items of the corpus, one function per behaviour. Each draws until what it has drawn belongs to the part.
// Internal to src/evaluate.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "src/evaluate/corpus_draws.hpp"

namespace fewbit::inline v0::evaluate::detail {

[[nodiscard]] BehaviourItem addition_item(Draws& draws, CorpusPart part);
[[nodiscard]] BehaviourItem subtraction_item(Draws& draws, CorpusPart part);
[[nodiscard]] BehaviourItem json_item(Draws& draws, CorpusPart part);
[[nodiscard]] BehaviourItem copying_item(Draws& draws, CorpusPart part);
[[nodiscard]] BehaviourItem sorting_item(Draws& draws, CorpusPart part);

/// A table of `size` names and questions about different ones of them; the parts of a document in order,
/// prompts and answers by turns. Precondition: questions <= size <= 24.
[[nodiscard]] std::vector<CorpusPiece> recall_pieces(Draws& draws, CorpusPart part, std::size_t size,
                                                     std::size_t questions);
/// Of the tables that items have: 16 to 24.
[[nodiscard]] std::size_t recall_size(Draws& draws);

}  // namespace fewbit::inline v0::evaluate::detail
