// Definitions of evaluate/perplexity.hpp.
#include "fewbit/evaluate/perplexity.hpp"

#include <vector>

#include "src/evaluate/windows.hpp"

namespace fewbit::inline v0::evaluate {

Result<Perplexity> measure_perplexity(const LogitSource& model, std::span<const Window> windows,
                                      ExecutionContext context, const Progress& progress) {
    std::vector<double> nll(count_predictions(windows));
    const auto read = [&](const Window& window, std::size_t first, ExecutionContext inner) {
        return detail::for_each_prediction(
            model, window, inner, [&](std::size_t at, std::span<const float> logits, double normalizer) {
                nll[first + at] = detail::nll_of(window, at, logits, normalizer);
            });
    };
    if (auto done = detail::for_each_window(windows, context, progress, read); !done)
        return Unexpected{std::move(done).error()};
    return detail::mean_of(nll);
}

}  // namespace fewbit::inline v0::evaluate
