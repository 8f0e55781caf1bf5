// Perplexity: how surprised a model is by a text, per prediction (evaluate/documents.hpp says what is
// predicted).
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/evaluate/documents.hpp"
#include "fewbit/evaluate/logits.hpp"

namespace fewbit::inline v0::evaluate {

struct Perplexity {
    std::size_t tokens = 0;  ///< predictions
    double nll = 0;          ///< mean of -ln p(token), in nats
    double perplexity = 1;   ///< exp(nll)
};

/// Told how many predictions of how many are done: one call at a time, but from whichever thread.
using Progress = std::function<void(std::size_t done, std::size_t total)>;

/// The mean over all predictions, log-softmax in double. Windows run side by side on the lanes of `context`
/// where there are enough of them, else a window's own products do; the result does not depend on the number
/// of threads. Errors: what the model refuses; logits that are no distribution, naming window and position;
/// no memory.
[[nodiscard]] FEWBIT_API Result<Perplexity> measure_perplexity(const LogitSource& model,
                                                               std::span<const Window> windows,
                                                               ExecutionContext context = {},
                                                               const Progress& progress = {});

}  // namespace fewbit::inline v0::evaluate
