// What a model says to a text, for tests of changes that must not change it.
#pragma once

#include <vector>

#include "fewbit/model/transformer.hpp"
#include "support/catch.hpp"

namespace fewbit::testing {

/// Logits (tokens, vocabulary) of one forward pass over all tokens; kernels may fall back.
inline Matrix logits_of(const io::ModelFile& file, const std::vector<int>& tokens,
                        const ActivationFormat& activations = exact_activations()) {
    const auto transformer = model::Transformer::create(file, {activations, Fallback::allow});
    REQUIRE(transformer);
    auto cache = model::KvCache::create(file.shape, tokens.size());
    Matrix logits(tokens.size(), file.shape.vocabulary);
    REQUIRE(transformer->forward(tokens, *cache, logits));
    return logits;
}

}  // namespace fewbit::testing
