// Divergence: what a quantized model answers beside its float original, prediction by prediction.
//
//   kld     sum p_ref ln(p_ref / p), in nats; mean, quantiles and maximum over the predictions
//   top1    the share of predictions in which both have the same first choice
//   flips   shares of predictions whose first choice was right and became wrong (lost); gained: the reverse
//
// A mean hides what breaks a model in use (accuracy unchanged within 2 %, 13.6 % of answers flipped: arXiv
// 2407.09141): look at p99.9.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/evaluate/documents.hpp"
#include "fewbit/evaluate/logits.hpp"
#include "fewbit/evaluate/perplexity.hpp"

namespace fewbit::inline v0::evaluate {

/// Quantiles interpolate: sorted values x_0 .. x_{n-1}, quantile q is x at position q (n - 1), linear between
/// its neighbours (numpy's default, llama-perplexity's). All 0 for no values.
struct Distribution {
    double mean = 0;
    double median = 0;
    double p90 = 0;
    double p99 = 0;
    double p999 = 0;
    double max = 0;
};

/// Quantile q in [0, 1] of values in ascending order; 0 for none.
[[nodiscard]] FEWBIT_API double quantile(std::span<const double> sorted, double q) noexcept;
/// Mean in the order given, quantiles of the sorted values. NaN among the values: everything is NaN.
[[nodiscard]] FEWBIT_API Distribution distribution(std::span<const double> values);

struct Divergence {
    Perplexity model;
    Perplexity reference;
    Distribution kld;
    double top1_agreement = 1;
    double lost = 0;
    double gained = 0;
    std::vector<double> values;  ///< kld of every prediction, window by window
};

/// The float model's answers to given windows: kept where they fit into a budget, computed again where they
/// do not. Measure any number of candidates against one. Model and windows must outlive it.
class Reference {
public:
    /// Runs the model over the windows. Up to `budget_bytes` of logits (4 bytes x predictions x vocabulary)
    /// are kept. Errors: those of measure_perplexity.
    [[nodiscard]] FEWBIT_API static Result<Reference> create(const LogitSource& model,
                                                             std::span<const Window> windows,
                                                             std::size_t budget_bytes = std::size_t{256}
                                                                                        << 20,
                                                             ExecutionContext context = {},
                                                             const Progress& progress = {});
    /// A model that would be gone before it is read.
    static Result<Reference> create(const LogitSource&& model, std::span<const Window> windows,
                                    std::size_t budget_bytes = 0, ExecutionContext context = {},
                                    const Progress& progress = {}) = delete;

    [[nodiscard]] const Perplexity& perplexity() const noexcept { return perplexity_; }
    [[nodiscard]] std::span<const Window> windows() const noexcept { return windows_; }
    /// Whether the logits are kept.
    [[nodiscard]] bool is_kept() const noexcept { return logits_.size_bytes() != 0; }

    /// Runs `model` over the same windows and compares. Errors: those of measure_perplexity, another
    /// vocabulary.
    [[nodiscard]] FEWBIT_API Result<Divergence> measure(const LogitSource& model,
                                                        ExecutionContext context = {},
                                                        const Progress& progress = {}) const;

private:
    Reference() = default;

    const LogitSource* model_ = nullptr;
    std::span<const Window> windows_;
    Perplexity perplexity_;
    Tensor logits_;                    // f32 (predictions, vocabulary), or empty
    std::vector<double> normalizers_;  // (predictions) or empty
};

}  // namespace fewbit::inline v0::evaluate
