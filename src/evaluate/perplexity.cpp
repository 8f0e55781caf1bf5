// Definitions of evaluate/perplexity.hpp.
#include "fewbit/evaluate/perplexity.hpp"

#include <vector>

#include "src/evaluate/windows.hpp"

namespace fewbit::inline v0::evaluate {

Result<Perplexity> measure_perplexity(const LogitSource& model, std::span<const Window> windows,
                                      ExecutionContext context, const Progress& progress) {
    std::vector<double> nll(count_predictions(windows));
    const auto read = [&](const Window& window, std::size_t first, ExecutionContext inner) -> Result<void> {
        auto reader = detail::WindowReader::start(model, window, inner);
        if (!reader) return Unexpected{std::move(reader).error()};
        for (std::size_t at = 0; at < window.predictions();) {
            const auto logits = reader->next();
            if (!logits) return Unexpected{logits.error()};
            for (std::size_t r = 0; r < logits->rows; ++r, ++at) {
                const auto row = logits->row(r);
                const int word = window.tokens[at + 1];
                const auto normalizer = reader->normalizer(row, at, word);
                if (!normalizer) return Unexpected{normalizer.error()};
                nll[first + at] = *normalizer - static_cast<double>(row[static_cast<std::size_t>(word)]);
            }
        }
        return {};
    };
    if (auto done = detail::for_each_window(windows, context, progress, read); !done)
        return Unexpected{std::move(done).error()};
    return detail::mean_of(nll);
}

}  // namespace fewbit::inline v0::evaluate
