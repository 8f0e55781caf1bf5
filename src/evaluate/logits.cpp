// Definitions of evaluate/logits.hpp.
#include "fewbit/evaluate/logits.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace fewbit::inline v0::evaluate {
namespace {

class TransformerStream final : public LogitStream {
public:
    TransformerStream(const model::Transformer& transformer, model::KvCache cache)
        : transformer_(transformer), cache_(std::move(cache)) {}

    Result<void> advance(std::span<const int> tokens, MatrixView<float> logits,
                         ExecutionContext context) override {
        return transformer_.forward(tokens, cache_, logits, context);
    }

private:
    const model::Transformer& transformer_;
    model::KvCache cache_;
};

}  // namespace

Result<std::unique_ptr<LogitStream>> TransformerSource::start(std::size_t tokens) const {
    auto cache = model::KvCache::create(transformer_->shape(), tokens, transformer_->options().cache);
    if (!cache) return Unexpected{std::move(cache).error()};
    return std::unique_ptr<LogitStream>(
        std::make_unique<TransformerStream>(*transformer_, *std::move(cache)));
}

double log_normalizer(std::span<const float> logits) noexcept {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    if (logits.empty()) return nan;
    float largest = logits[0];
    for (const float logit : logits) largest = std::max(largest, logit);
    if (!std::isfinite(largest)) return nan;
    double sum = 0;
    for (const float logit : logits)
        sum += std::exp(static_cast<double>(logit) - static_cast<double>(largest));
    return static_cast<double>(largest) +
           std::log(sum);  // a NaN among the logits has become a NaN in the sum
}

int first_choice(std::span<const float> logits) noexcept {
    return static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double kl_divergence(std::span<const float> reference, double reference_normalizer,
                     std::span<const float> logits, double normalizer) noexcept {
    const double shift = normalizer - reference_normalizer;
    double sum = 0;
    for (std::size_t i = 0; i < reference.size(); ++i) {
        const double r = reference[i];
        const double p = std::exp(r - reference_normalizer);
        if (p == 0) continue;
        sum += p * ((r - static_cast<double>(logits[i])) + shift);
    }
    return sum;
}

}  // namespace fewbit::inline v0::evaluate
