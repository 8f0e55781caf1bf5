// Little stories of the corpus. Internal to src/evaluate.
#pragma once

#include <cstddef>
#include <string>

#include "src/evaluate/corpus_draws.hpp"

namespace fewbit::inline v0::evaluate::detail {

/// A story of `sentences` (2 or more) about somebody with a name. Whose name, which thing and where: that
/// triple decides the part.
[[nodiscard]] std::string story(Draws& draws, CorpusPart part, std::size_t sentences);

/// As many sentences of a story as fit into `max_tokens`, maybe none. Nobody in it has a name, so that it
/// never speaks of a key of the table before it.
[[nodiscard]] std::string filler(Draws& draws, CorpusPart part, std::size_t max_tokens);

}  // namespace fewbit::inline v0::evaluate::detail
