// Running a model over windows: which lanes run what, and logits a few rows at a time. Internal to
// src/evaluate.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/evaluate/logits.hpp"
#include "fewbit/evaluate/perplexity.hpp"

namespace fewbit::inline v0::evaluate::detail {

/// Calls body(window, first prediction of it among all, context for its products) for every window. Many
/// windows run side by side, each on one lane; few run one after the other on all lanes. Returns the error of
/// the first window that has one; windows behind it may not have run.
template <class Body>
Result<void> for_each_window(std::span<const Window> windows, ExecutionContext context,
                             const Progress& progress, Body&& body) {
    const std::size_t total = count_predictions(windows);
    std::vector<std::size_t> first(windows.size());
    for (std::size_t w = 1; w < windows.size(); ++w) first[w] = first[w - 1] + windows[w - 1].predictions();

    std::mutex mutex;  // guards what follows
    std::size_t done = 0, failed = windows.size();
    std::optional<Error> error;
    const auto run = [&](std::size_t w, ExecutionContext inner) {
        {
            const std::lock_guard lock(mutex);
            if (w > failed) return;
        }
        Result<void> result = body(windows[w], first[w], inner);
        const std::lock_guard lock(mutex);
        if (!result && w < failed) {
            failed = w;
            error = std::move(result).error();
        }
        done += windows[w].predictions();
        if (progress && !error) progress(done, total);
    };
    if (context.workers() > 1 && windows.size() >= 2 * context.workers()) {
        context.parallel_for(windows.size(), [&](std::size_t w, std::size_t) { run(w, {}); });
    } else {
        for (std::size_t w = 0; w < windows.size() && !error; ++w) run(w, context);
    }
    if (error) return Unexpected{*std::move(error)};
    return {};
}

/// Rows of logits that are computed at once: 16 MiB of them, at least 16.
[[nodiscard]] inline std::size_t chunk_rows(std::size_t vocabulary, std::size_t predictions) noexcept {
    constexpr std::size_t budget_elements = std::size_t{4} << 20;
    const std::size_t rows =
        std::max<std::size_t>(16, budget_elements / std::max<std::size_t>(1, vocabulary));
    return std::min(rows, predictions);
}

/// The logits of one window, chunk by chunk, with their normalizers checked.
class WindowReader {
public:
    [[nodiscard]] static Result<WindowReader> start(const LogitSource& model, const Window& window,
                                                    ExecutionContext context) {
        auto stream = model.start(window.tokens.size());
        if (!stream) return Unexpected{std::move(stream).error()};
        const std::size_t rows = chunk_rows(model.vocabulary(), window.predictions());
        auto memory = Tensor::allocate(Scalar::f32, {rows, model.vocabulary()});
        if (!memory) return Unexpected{std::move(memory).error()};
        return WindowReader(*std::move(stream), *std::move(memory), window, model.vocabulary(), context);
    }

    /// Logits (rows, vocabulary) of the next predictions; the last chunk may be smaller. Precondition: not at
    /// the end.
    [[nodiscard]] Result<MatrixView<const float>> next() {
        const std::size_t capacity = memory_.shape()[0];
        const std::size_t rows = std::min(capacity, window_->predictions() - at_);
        const MatrixView<float> logits(memory_.as_mutable<float>().data(), rows, vocabulary_);
        auto done = stream_->advance(std::span(window_->tokens).subspan(at_, rows), logits, context_);
        if (!done) return Unexpected{std::move(done).error().within(place(at_))};
        at_ += rows;
        return MatrixView<const float>(logits);
    }

    /// The normalizer of a row. Error: the row is no distribution, or the word is not in the vocabulary.
    [[nodiscard]] Result<double> normalizer(std::span<const float> logits, std::size_t prediction,
                                            int word) const {
        const double value = log_normalizer(logits);
        if (std::isnan(value))
            return fail(ErrorKind::bad_input, place(prediction),
                        ": the model's logits are NaN or infinite; no probabilities come from them");
        if (word < 0 || static_cast<std::size_t>(word) >= logits.size())
            return fail(ErrorKind::bad_input, place(prediction), ": token ", word,
                        " is not among the model's ", logits.size(), " words");
        return value;
    }

    [[nodiscard]] std::string place(std::size_t prediction) const {
        return text("document ", window_->document, ", token ", window_->first + prediction);
    }

private:
    WindowReader(std::unique_ptr<LogitStream> stream, Tensor memory, const Window& window,
                 std::size_t vocabulary, ExecutionContext context)
        : stream_(std::move(stream)),
          memory_(std::move(memory)),
          window_(&window),
          vocabulary_(vocabulary),
          context_(context) {}

    std::unique_ptr<LogitStream> stream_;
    Tensor memory_;  // (chunk rows, vocabulary)
    const Window* window_;
    std::size_t vocabulary_;
    ExecutionContext context_;
    std::size_t at_ = 0;  // predictions read so far
};

/// Calls visit(prediction, logits, normalizer) for every prediction of one window, in order.
template <class Visit>
[[nodiscard]] Result<void> for_each_prediction(const LogitSource& model, const Window& window,
                                               ExecutionContext context, Visit&& visit) {
    auto reader = WindowReader::start(model, window, context);
    if (!reader) return Unexpected{std::move(reader).error()};
    for (std::size_t at = 0; at < window.predictions();) {
        const auto logits = reader->next();
        if (!logits) return Unexpected{logits.error()};
        for (std::size_t r = 0; r < logits->rows; ++r, ++at) {
            const auto normalizer = reader->normalizer(logits->row(r), at, window.tokens[at + 1]);
            if (!normalizer) return Unexpected{normalizer.error()};
            visit(at, logits->row(r), *normalizer);
        }
    }
    return {};
}

/// -ln p of the token that a prediction is about, in nats.
[[nodiscard]] inline double nll_of(const Window& window, std::size_t prediction,
                                   std::span<const float> logits, double normalizer) {
    return normalizer - static_cast<double>(logits[static_cast<std::size_t>(window.tokens[prediction + 1])]);
}

/// The mean over predictions, in their order.
[[nodiscard]] inline Perplexity mean_of(std::span<const double> nll) {
    double sum = 0;
    for (const double value : nll) sum += value;
    Perplexity out;
    out.tokens = nll.size();
    out.nll = nll.empty() ? 0 : sum / static_cast<double>(nll.size());
    out.perplexity = std::exp(out.nll);
    return out;
}

}  // namespace fewbit::inline v0::evaluate::detail
