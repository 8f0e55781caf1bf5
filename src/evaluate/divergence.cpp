// Definitions of evaluate/divergence.hpp.
#include "fewbit/evaluate/divergence.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>
#include <utility>

#include "src/evaluate/windows.hpp"
#include "src/evaluate/worst_list.hpp"

namespace fewbit::inline v0::evaluate {
namespace {

enum Agreement : unsigned char { same_choice = 1, was_right = 2, is_right = 4 };

/// Everything that is kept of one prediction until the means are taken in order.
struct Predictions {
    explicit Predictions(std::size_t count)
        : reference_nll(count), nll(count), kld(count), agreement(count) {}

    std::vector<double> reference_nll, nll, kld;
    std::vector<unsigned char> agreement;
};

double share(std::size_t part, std::size_t whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double probability_of(int token, std::span<const float> logits, double normalizer) {
    return std::exp(static_cast<double>(logits[static_cast<std::size_t>(token)]) - normalizer);
}

}  // namespace

Result<Reference> Reference::create(const LogitSource& model, std::span<const Window> windows,
                                    std::size_t budget_bytes, ExecutionContext context,
                                    const Progress& progress) {
    Reference out;
    out.model_ = &model;
    out.windows_ = windows;
    const std::size_t count = count_predictions(windows), vocabulary = model.vocabulary();
    const auto needed = checked_product({count, vocabulary, sizeof(float)});
    if (needed && *needed <= budget_bytes) {
        auto logits = Tensor::allocate(Scalar::f32, {count, vocabulary});
        if (!logits) return Unexpected{std::move(logits).error()};
        out.logits_ = *std::move(logits);
        out.normalizers_.resize(count);
    }
    const auto kept = out.logits_.as_mutable<float>();
    std::vector<double> nll(count);
    const auto read = [&](const Window& window, std::size_t first, ExecutionContext inner) {
        return detail::for_each_prediction(
            model, window, inner, [&](std::size_t at, std::span<const float> logits, double normalizer) {
                nll[first + at] = detail::nll_of(window, at, logits, normalizer);
                if (kept.empty()) return;
                std::copy(logits.begin(), logits.end(),
                          kept.begin() + static_cast<std::ptrdiff_t>((first + at) * vocabulary));
                out.normalizers_[first + at] = normalizer;
            });
    };
    if (auto done = detail::for_each_window(windows, context, progress, read); !done)
        return Unexpected{std::move(done).error().within("reference model")};
    out.perplexity_ = detail::mean_of(nll);
    return out;
}

Result<Divergence> Reference::measure(const LogitSource& model, ExecutionContext context,
                                      const Progress& progress, std::size_t worst) const {
    const std::size_t vocabulary = model_->vocabulary();
    if (model.vocabulary() != vocabulary)
        return fail(ErrorKind::bad_input, "a model with ", model.vocabulary(),
                    " words cannot be compared with a reference of ", vocabulary, " words");
    Predictions all(count_predictions(windows_));
    std::mutex mutex;  // guards worst_of_all
    detail::WorstList worst_of_all(worst);
    const auto read = [&](const Window& window, std::size_t first, ExecutionContext inner) -> Result<void> {
        auto reader = detail::WindowReader::start(model, window, inner);
        if (!reader) return Unexpected{std::move(reader).error()};
        std::optional<detail::WindowReader> again;  // the reference, where its logits are not kept
        if (!is_kept()) {
            auto opened = detail::WindowReader::start(*model_, window, inner);
            if (!opened) return Unexpected{std::move(opened).error()};
            again = *std::move(opened);
        }
        detail::WorstList worst_here(worst);
        const auto w = static_cast<std::size_t>(&window - windows_.data());
        for (std::size_t at = 0; at < window.predictions();) {
            const auto logits = reader->next();
            if (!logits) return Unexpected{logits.error()};
            MatrixView<const float> expected(logits_.as<float>().data(), 0, vocabulary);
            if (again) {
                auto computed = again->next();
                if (!computed) return Unexpected{computed.error()};
                expected = *computed;
            } else {
                expected = {logits_.as<float>().data() + (first + at) * vocabulary, logits->rows, vocabulary};
            }
            for (std::size_t r = 0; r < logits->rows; ++r, ++at) {
                const auto row = logits->row(r), reference = expected.row(r);
                const std::size_t i = first + at;
                const int word = window.tokens[at + 1];
                const auto normalizer = reader->normalizer(row, at, word);
                if (!normalizer) return Unexpected{normalizer.error()};
                const double reference_normalizer = again ? log_normalizer(reference) : normalizers_[i];
                all.nll[i] = detail::nll_of(window, at, row, *normalizer);
                all.reference_nll[i] = detail::nll_of(window, at, reference, reference_normalizer);
                all.kld[i] = kl_divergence(reference, reference_normalizer, row, *normalizer);
                const int choice = first_choice(row), reference_choice = first_choice(reference);
                all.agreement[i] = static_cast<unsigned char>((choice == reference_choice ? same_choice : 0) |
                                                              (reference_choice == word ? was_right : 0) |
                                                              (choice == word ? is_right : 0));
                if (worst_here.takes(all.kld[i], w, at + 1))
                    worst_here.add({w, at + 1, all.kld[i], reference_choice,
                                    probability_of(reference_choice, reference, reference_normalizer), choice,
                                    probability_of(choice, row, *normalizer)});
            }
        }
        const std::lock_guard lock(mutex);
        worst_of_all.add(worst_here);
        return {};
    };
    if (auto done = detail::for_each_window(windows_, context, progress, read); !done)
        return Unexpected{std::move(done).error()};

    Divergence out;
    out.model = detail::mean_of(all.nll);
    out.reference = detail::mean_of(all.reference_nll);
    out.kld = distribution(all.kld);
    out.kld_interval = mean_interval(windows_, all.kld, {}, context);
    std::size_t same = 0, lost = 0, gained = 0;
    for (const unsigned char bits : all.agreement) {
        same += (bits & same_choice) != 0;
        lost += (bits & (was_right | is_right)) == was_right;
        gained += (bits & (was_right | is_right)) == is_right;
    }
    const std::size_t count = all.agreement.size();
    out.top1_agreement = count == 0 ? 1 : share(same, count);
    out.lost = share(lost, count);
    out.gained = share(gained, count);
    out.positions = by_position(windows_, all.kld);
    out.worst = std::move(worst_of_all).sorted();
    out.values = std::move(all.kld);
    return out;
}

}  // namespace fewbit::inline v0::evaluate
