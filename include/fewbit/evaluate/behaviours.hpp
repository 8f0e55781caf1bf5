// How often a model does what evaluate/corpus.hpp taught it: the share of items whose answer it gives
// exactly, character for character and then ended by EOS (in recall: or by a new line), with a 95 %
// confidence interval.
//
//   generated        the model reads the prompt and continues greedily, for at most 8 tokens more than the
//                    answer
//   teacher-forced   the model reads prompt and answer at once, and its first choice must be the right token
//                    everywhere in the answer and an end behind it. Faster; the same items are exact, but for
//                    roundings and for answers that are spelled in other tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/evaluate/corpus.hpp"
#include "fewbit/evaluate/logits.hpp"
#include "fewbit/evaluate/perplexity.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fewbit/model/transformer.hpp"

namespace fewbit::inline v0::evaluate {

struct BehaviourOptions {
    std::size_t items = 1000;  ///< of each behaviour
    std::uint64_t seed = 1;
    CorpusPart part = CorpusPart::held_out;
    bool teacher_forced = false;
};

struct BehaviourScore {
    Behaviour behaviour = Behaviour::addition;
    std::size_t items = 0;
    std::size_t exact = 0;
    double share = 0;          ///< exact / items; 0 of none
    double low = 0, high = 1;  ///< wilson_interval(exact, items)
    // Of JSON, when generated; else 0.
    std::size_t well_formed = 0;  ///< the whole text is JSON
    std::size_t in_range = 0;     ///< and an object whose "confidence" is an integer within 0 .. 100
};

struct Interval {
    double low = 0;
    double high = 1;
};

/// Wilson's 95 % interval of a probability of which `successes` of `trials` were seen. Unlike the usual
/// p +- 1.96 sqrt(p (1 - p) / n) it is right near 0 and 1 too, where good and bad models are. No trials: 0
/// .. 1. Precondition: successes <= trials.
[[nodiscard]] FEWBIT_API Interval wilson_interval(std::size_t successes, std::size_t trials) noexcept;

/// The scores of all behaviours, in their order; `progress` counts items. Items run side by side on the lanes
/// of `context`, each on one; the result does not depend on the number of threads. Errors: a tokenizer of
/// another vocabulary, an item that is longer than the model's context, logits with NaN among them, what the
/// model refuses, no memory.
[[nodiscard]] FEWBIT_API Result<std::vector<BehaviourScore>> measure_behaviours(
    const LogitSource& model, const model::Tokenizer& tokenizer, const BehaviourOptions& options,
    ExecutionContext context = {}, const Progress& progress = {});
[[nodiscard]] FEWBIT_API Result<std::vector<BehaviourScore>> measure_behaviours(
    const model::Transformer& model, const model::Tokenizer& tokenizer, const BehaviourOptions& options,
    ExecutionContext context = {}, const Progress& progress = {});

}  // namespace fewbit::inline v0::evaluate
