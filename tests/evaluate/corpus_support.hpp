// What tests of the corpus share: the embedded tokenizer, and how much to look at.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <utility>

#include "fewbit/evaluate/corpus.hpp"
#include "fewbit/evaluate/embedded_vocabulary.hpp"
#include "support/catch.hpp"

namespace fewbit_test {

inline constexpr fewbit::evaluate::CorpusPart both_parts[] = {fewbit::evaluate::CorpusPart::training,
                                                              fewbit::evaluate::CorpusPart::held_out};

/// A tenth in sampled runs.
inline std::size_t sized(std::size_t count) { return sampled() ? count / 10 : count; }

inline fewbit::model::Tokenizer embedded_tokenizer() {
    auto made = fewbit::model::Tokenizer::create(fewbit::evaluate::embedded_vocabulary());
    REQUIRE(made);
    return *std::move(made);
}

}  // namespace fewbit_test
