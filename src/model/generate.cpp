// Sampling and the generation loop.
#include "fewbit/model/generate.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "fewbit/core/random.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::model {

Result<Sampler> Sampler::create(const SamplingOptions& options) {
    if (!std::isfinite(options.temperature) || options.temperature < 0)
        return fail(ErrorKind::bad_input, "the temperature is ", options.temperature,
                    "; it must be 0 or more");
    if (!(options.top_p > 0 && options.top_p <= 1))
        return fail(ErrorKind::bad_input, "top_p is ", options.top_p, "; it must be above 0 and at most 1");
    return Sampler(options);
}

/// Uniform in [0, 1).
double Sampler::random_unit() noexcept { return unit_interval(splitmix_next(state_)); }

Result<int> Sampler::sample(std::span<const float> logits) {
    if (logits.empty()) return fail(ErrorKind::bad_input, "there are no logits to choose from");
    for (std::size_t i = 0; i < logits.size(); ++i)
        if (std::isnan(logits[i])) return fail(ErrorKind::bad_input, "the logit of token ", i, " is NaN");
    const auto largest = std::max_element(logits.begin(), logits.end());
    if (options_.temperature == 0 || std::isinf(*largest)) return static_cast<int>(largest - logits.begin());

    candidates_.resize(logits.size());
    double sum = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
        const double difference = static_cast<double>(logits[i]) - static_cast<double>(*largest);
        candidates_[i] = {std::exp(difference / options_.temperature), static_cast<int>(i)};
        sum += candidates_[i].probability;
    }
    std::size_t count = candidates_.size();
    if (options_.top_p < 1) {  // the shortest beginning of the sorted list that reaches top_p
        std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
            return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
        });
        double reached = 0;
        for (count = 0; count < candidates_.size() && reached < options_.top_p * sum; ++count)
            reached += candidates_[count].probability;
        count = std::max<std::size_t>(count, 1);
        sum = reached;
    }
    double left = random_unit() * sum;
    for (std::size_t i = 0; i < count; ++i)
        if ((left -= candidates_[i].probability) < 0) return candidates_[i].id;
    return candidates_[count - 1].id;  // roundings ate the rest
}

std::size_t positions_of(const io::ModelShape& shape, const Tokenizer& tokenizer, std::string_view prompt,
                         const GenerateOptions& options) {
    // The last generated token is never evaluated, so it needs no place.
    const std::size_t tokens = tokenizer.encode(prompt, tokenizer.vocabulary().add_bos).size();
    return tokens > shape.context ? 0 : tokens + std::min(shape.context - tokens, options.max_tokens);
}

Result<Generation> generate(const Transformer& model, const Tokenizer& tokenizer, std::string_view prompt,
                            const GenerateOptions& options, ExecutionContext context,
                            const PieceCallback& on_piece) {
    auto sequence =
        TransformerSequence::create(model, positions_of(model.shape(), tokenizer, prompt, options));
    if (!sequence) return Unexpected{std::move(sequence).error()};
    return generate(*sequence, tokenizer, prompt, options, context, on_piece);
}

Result<Generation> generate(Sequence& sequence, const Tokenizer& tokenizer, std::string_view prompt,
                            const GenerateOptions& options, ExecutionContext context,
                            const PieceCallback& on_piece) {
    const io::ModelShape& shape = sequence.shape();
    if (tokenizer.size() != shape.vocabulary)
        return fail(ErrorKind::bad_input, "the tokenizer has ", tokenizer.size(),
                    " tokens, the model a vocabulary of ", shape.vocabulary);
    auto sampler = Sampler::create(options.sampling);
    if (!sampler) return Unexpected{std::move(sampler).error()};
    const std::vector<int> prompt_tokens = tokenizer.encode(prompt, tokenizer.vocabulary().add_bos);
    if (prompt_tokens.size() > shape.context)
        return fail(ErrorKind::bad_input, "the prompt has ", prompt_tokens.size(),
                    " tokens, the model's context is ", shape.context);
    Matrix logits(1, shape.vocabulary);

    using Clock = std::chrono::steady_clock;
    const auto seconds_since = [](Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    const KeepAwake awake(context);
    Generation result;
    result.prompt_tokens = prompt_tokens.size();
    const auto prompt_start = Clock::now();
    if (auto done = sequence.forward(prompt_tokens, logits, context); !done)
        return Unexpected{std::move(done).error()};
    result.prompt_seconds = seconds_since(prompt_start);

    const auto start = Clock::now();
    int previous = prompt_tokens.back();
    for (;;) {
        if (result.tokens.size() == options.max_tokens) {
            result.stop = StopReason::max_tokens;
            break;
        }
        const auto next = sampler->sample(logits.row(0));
        if (!next) return Unexpected{next.error()};
        if (options.stop_at_end && (*next == tokenizer.eos() || *next == tokenizer.bos())) {
            result.stop = StopReason::end_of_text;
            break;
        }
        result.tokens.push_back(*next);
        const std::string_view piece = tokenizer.piece(previous, *next);
        result.text += piece;
        if (on_piece && !on_piece(piece)) {
            result.stop = StopReason::asked;
            break;
        }
        if (result.tokens.size() == options.max_tokens) continue;
        if (sequence.length() == sequence.capacity()) {
            result.stop = StopReason::context_full;
            break;
        }
        if (auto done = sequence.forward({&*next, 1}, logits, context); !done)
            return Unexpected{std::move(done).error()};
        ++result.evaluated_tokens;
        previous = *next;
    }
    result.generation_seconds = seconds_since(start);
    return result;
}

}  // namespace fewbit::inline v0::model
