// Models as the evaluation sees them: something that reads the tokens of a window and gives logits, a few
// rows at a time, so that nobody ever holds all logits of a text (500,000 predictions over 128,000 words are
// 256 GB). And what a row of logits means: its normalizer, its first choice, its divergence from another row.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/model/transformer.hpp"

namespace fewbit::inline v0::evaluate {

/// One window being read by one thread.
class LogitStream {
public:
    virtual ~LogitStream() = default;
    /// Reads the next tokens (T) of the window and gives the logits (T, vocabulary) of what follows each of
    /// them.
    [[nodiscard]] virtual Result<void> advance(std::span<const int> tokens, MatrixView<float> logits,
                                               ExecutionContext context) = 0;
};

/// A model. Streams of one source may be used by different threads at the same time.
class LogitSource {
public:
    virtual ~LogitSource() = default;
    [[nodiscard]] virtual std::size_t vocabulary() const = 0;
    /// Starts a window of `tokens` tokens.
    [[nodiscard]] virtual Result<std::unique_ptr<LogitStream>> start(std::size_t tokens) const = 0;
};

/// A transformer as a source; it must outlive this object and its streams.
class TransformerSource final : public LogitSource {
public:
    explicit TransformerSource(const model::Transformer& transformer) : transformer_(&transformer) {}
    [[nodiscard]] std::size_t vocabulary() const override { return transformer_->shape().vocabulary; }
    [[nodiscard]] FEWBIT_API Result<std::unique_ptr<LogitStream>> start(std::size_t tokens) const override;

private:
    const model::Transformer* transformer_;
};

/// ln sum exp(logits), in double, shifted by the largest so that nothing overflows: ln p_i = logits[i] -
/// normalizer. NaN when there is no such distribution: no logits, a NaN, +infinity, or nothing but -infinity.
[[nodiscard]] FEWBIT_API double log_normalizer(std::span<const float> logits) noexcept;

/// Index of the largest logit; of equal ones the first. Precondition: not empty.
[[nodiscard]] FEWBIT_API int first_choice(std::span<const float> logits) noexcept;

/// sum p_ref ln(p_ref / p), in nats, in double; terms with p_ref = 0 are 0. Of the same logits it is exactly
/// 0; of nearly the same ones rounding may leave something like -1e-17, which is not hidden. Infinity where p
/// = 0 < p_ref. The normalizers are those of log_normalizer(). Precondition: equal lengths.
[[nodiscard]] FEWBIT_API double kl_divergence(std::span<const float> reference, double reference_normalizer,
                                              std::span<const float> logits, double normalizer) noexcept;

}  // namespace fewbit::inline v0::evaluate
