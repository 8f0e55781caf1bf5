// Divergence: what a quantized model answers beside its float original, prediction by prediction.
//
//   kld     sum p_ref ln(p_ref / p), in nats; mean, quantiles and maximum over the predictions, and the interval of
//           the mean (bootstrap.hpp)
//   top1    the share of predictions in which both have the same first choice
//   flips   shares of predictions whose first choice was right and became wrong (lost); gained: the reverse
//
// A mean hides what breaks a model in use (accuracy unchanged within 2 %, 13.6 % of answers flipped: arXiv
// 2407.09141): look at p99.9, at the positions where it happens and at the predictions that are worst.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/evaluate/bootstrap.hpp"
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

/// Predictions that stand about as far from the start of their window. A prediction's position is the index
/// in its window of the token that is predicted, so 1 is the one after BOS.
struct PositionBucket {
    std::size_t first = 0, last = 0;  ///< positions, both of them included: 1-2, 3-4, 5-8, 9-16, ...
    std::size_t predictions = 0;      ///< that there are at these positions
    double mean = 0;                  ///< kld, nats
    double max = 0;                   ///< kld, nats
};

/// Values in the order of the predictions, window by window, summed up by position: every bucket from 1-2 to
/// that of the longest window. NaN among the values of a bucket: its mean and maximum are NaN. Precondition:
/// as many values as the windows have predictions.
[[nodiscard]] FEWBIT_API std::vector<PositionBucket> by_position(std::span<const Window> windows,
                                                                 std::span<const double> values);

/// One prediction in which the models disagree. The right answer is windows[window].tokens[position], and
/// what both models had read is all before it.
struct WorstPrediction {
    std::size_t window = 0;            ///< index among the windows
    std::size_t position = 0;          ///< as in PositionBucket
    double kld = 0;                    ///< nats
    int reference_choice = 0;          ///< the reference's likeliest token, of equal ones the first
    double reference_probability = 0;  ///< that the reference gives to it
    int choice = 0;                    ///< the same of the model
    double probability = 0;

    friend bool operator==(const WorstPrediction&, const WorstPrediction&) = default;
};

struct Divergence {
    Perplexity model;
    Perplexity reference;
    Distribution kld;
    std::optional<BootstrapInterval> kld_interval;  ///< of kld.mean, windows resampled; none of one window
    double top1_agreement = 1;
    double lost = 0;
    double gained = 0;
    std::vector<PositionBucket> positions;  ///< kld by position in the window
    std::vector<WorstPrediction> worst;     ///< as many as were asked for, the largest kld first
    std::vector<double> values;             ///< kld of every prediction, window by window
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

    /// Runs `model` over the same windows and compares. The `worst` predictions are collected on the way, in
    /// memory for as many of them per thread; of equal klds the one that comes first in the windows is worse,
    /// so that the list does not depend on the number of threads. Errors: those of measure_perplexity,
    /// another vocabulary.
    [[nodiscard]] FEWBIT_API Result<Divergence> measure(const LogitSource& model,
                                                        ExecutionContext context = {},
                                                        const Progress& progress = {},
                                                        std::size_t worst = 0) const;

private:
    Reference() = default;

    const LogitSource* model_ = nullptr;
    std::span<const Window> windows_;
    Perplexity perplexity_;
    Tensor logits_;                    // f32 (predictions, vocabulary), or empty
    std::vector<double> normalizers_;  // (predictions) or empty
};

}  // namespace fewbit::inline v0::evaluate
