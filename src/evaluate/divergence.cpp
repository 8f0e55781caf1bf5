// Definitions of evaluate/divergence.hpp.
#include "fewbit/evaluate/divergence.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "src/evaluate/windows.hpp"

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

}  // namespace

double quantile(std::span<const double> sorted, double q) noexcept {
    if (sorted.empty()) return 0;
    const double position = std::clamp(q, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const double part = position - static_cast<double>(below);
    // Without the test an infinite neighbour that has no weight would make a NaN.
    if (part == 0 || sorted[below] == sorted[below + 1]) return sorted[below];
    return sorted[below] + part * (sorted[below + 1] - sorted[below]);
}

Distribution distribution(std::span<const double> values) {
    Distribution out;
    if (values.empty()) return out;
    double sum = 0;
    bool nan = false;
    for (const double value : values) {
        sum += value;
        nan = nan || std::isnan(value);
    }
    if (nan) {
        constexpr double none = std::numeric_limits<double>::quiet_NaN();
        return {none, none, none, none, none, none};
    }
    std::vector<double> sorted(values.begin(), values.end());
    std::sort(sorted.begin(), sorted.end());
    out.mean = sum / static_cast<double>(values.size());
    out.median = quantile(sorted, 0.5);
    out.p90 = quantile(sorted, 0.9);
    out.p99 = quantile(sorted, 0.99);
    out.p999 = quantile(sorted, 0.999);
    out.max = sorted.back();
    return out;
}

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
                if (kept.empty()) continue;
                std::copy(row.begin(), row.end(),
                          kept.begin() + static_cast<std::ptrdiff_t>((first + at) * vocabulary));
                out.normalizers_[first + at] = *normalizer;
            }
        }
        return {};
    };
    if (auto done = detail::for_each_window(windows, context, progress, read); !done)
        return Unexpected{std::move(done).error().within("reference model")};
    out.perplexity_ = detail::mean_of(nll);
    return out;
}

Result<Divergence> Reference::measure(const LogitSource& model, ExecutionContext context,
                                      const Progress& progress) const {
    const std::size_t vocabulary = model_->vocabulary();
    if (model.vocabulary() != vocabulary)
        return fail(ErrorKind::bad_input, "a model with ", model.vocabulary(),
                    " words cannot be compared with a reference of ", vocabulary, " words");
    Predictions all(count_predictions(windows_));
    const auto read = [&](const Window& window, std::size_t first, ExecutionContext inner) -> Result<void> {
        auto reader = detail::WindowReader::start(model, window, inner);
        if (!reader) return Unexpected{std::move(reader).error()};
        std::optional<detail::WindowReader> again;  // the reference, where its logits are not kept
        if (!is_kept()) {
            auto opened = detail::WindowReader::start(*model_, window, inner);
            if (!opened) return Unexpected{std::move(opened).error()};
            again = *std::move(opened);
        }
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
                const auto index = static_cast<std::size_t>(word);
                all.nll[i] = *normalizer - static_cast<double>(row[index]);
                all.reference_nll[i] = reference_normalizer - static_cast<double>(reference[index]);
                all.kld[i] = kl_divergence(reference, reference_normalizer, row, *normalizer);
                const int choice = first_choice(row), reference_choice = first_choice(reference);
                all.agreement[i] = static_cast<unsigned char>((choice == reference_choice ? same_choice : 0) |
                                                              (reference_choice == word ? was_right : 0) |
                                                              (choice == word ? is_right : 0));
            }
        }
        return {};
    };
    if (auto done = detail::for_each_window(windows_, context, progress, read); !done)
        return Unexpected{std::move(done).error()};

    Divergence out;
    out.model = detail::mean_of(all.nll);
    out.reference = detail::mean_of(all.reference_nll);
    out.kld = distribution(all.kld);
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
    out.values = std::move(all.kld);
    return out;
}

}  // namespace fewbit::inline v0::evaluate
