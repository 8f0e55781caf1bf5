// Definitions of evaluate/behaviours.hpp.
#include "fewbit/evaluate/behaviours.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::evaluate {
namespace {

constexpr std::size_t extra_tokens = 8;  // that a wrong answer may be longer than the right one

struct Outcome {
    bool exact = false, well_formed = false, in_range = false;
};

/// One item being answered by one thread.
class Answering {
public:
    static Result<Answering> start(const LogitSource& model, const model::Tokenizer& tokenizer,
                                   Behaviour behaviour, const BehaviourItem& item) {
        Answering a(tokenizer, item);
        if (behaviour == Behaviour::recall) a.new_line_ = tokenizer.encode("\n", false).back();
        a.prompt_ = tokenizer.encode(item.prompt);
        a.answer_ = tokenizer.encode(item.answer, false);
        const std::size_t tokens = a.prompt_.size() + a.answer_.size() + extra_tokens;
        auto stream = model.start(tokens);
        if (!stream) return Unexpected{std::move(stream).error()};
        a.stream_ = *std::move(stream);
        auto memory = Tensor::allocate(Scalar::f32, {tokens, tokenizer.size()});
        if (!memory) return Unexpected{std::move(memory).error()};
        a.logits_ = *std::move(memory);
        return a;
    }

    /// Is every token of the answer, and an end behind it, the first choice after the right tokens before it?
    Result<bool> forced() {
        std::vector<int> tokens = prompt_;
        tokens.insert(tokens.end(), answer_.begin(), answer_.end());
        const auto logits = read(tokens);
        if (!logits) return Unexpected{logits.error()};
        for (std::size_t i = prompt_.size(); i <= tokens.size(); ++i) {
            const auto choice = choose(logits->row(i - 1));
            if (!choice) return Unexpected{choice.error()};
            if (i == tokens.size() ? !is_end(*choice) : *choice != tokens[i]) return false;
        }
        return true;
    }

    struct Text {
        std::string text;
        bool ended = false;  ///< by EOS, or as recall may end
    };
    /// What the model writes. Where only the right answer counts it is left at the first wrong character.
    Result<Text> generated(bool only_right_counts) {
        Text out;
        auto logits = read(prompt_);
        if (!logits) return Unexpected{std::move(logits).error()};
        int token = prompt_.back();
        for (std::size_t count = 0;; ++count) {
            const auto next = choose(logits->row(logits->rows - 1));
            if (!next) return Unexpected{next.error()};
            out.ended = is_end(*next);
            if (out.ended || *next == tokenizer_->bos() || count == answer_.size() + extra_tokens) return out;
            out.text += tokenizer_->piece(token, *next);
            if (only_right_counts && !item_->answer.starts_with(out.text)) return out;
            token = *next;
            logits = read({&token, 1});
            if (!logits) return Unexpected{std::move(logits).error()};
        }
    }

private:
    Answering(const model::Tokenizer& tokenizer, const BehaviourItem& item)
        : tokenizer_(&tokenizer), item_(&item) {}

    Result<MatrixView<const float>> read(std::span<const int> tokens) {
        const MatrixView<float> logits(logits_.as_mutable<float>().data(), tokens.size(), tokenizer_->size());
        if (auto done = stream_->advance(tokens, logits, {}); !done)
            return Unexpected{std::move(done).error()};
        return MatrixView<const float>(logits);
    }

    [[nodiscard]] bool is_end(int token) const {
        return token == tokenizer_->eos() || (new_line_ && token == *new_line_);
    }

    static Result<int> choose(std::span<const float> logits) {
        if (std::any_of(logits.begin(), logits.end(), [](float logit) { return std::isnan(logit); }))
            return fail(ErrorKind::bad_input, "there is NaN among the model's logits");
        return first_choice(logits);
    }

    const model::Tokenizer* tokenizer_;
    const BehaviourItem* item_;
    std::optional<int> new_line_;  // of recall, where the next question may follow
    std::vector<int> prompt_, answer_;
    std::unique_ptr<LogitStream> stream_;
    Tensor logits_;  // (tokens, vocabulary)
};

void judge_json(const std::string& text, Outcome& outcome) {
    const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    outcome.well_formed = !json.is_discarded();
    if (!json.is_object()) return;
    const auto confidence = json.find("confidence");
    outcome.in_range = confidence != json.end() && confidence->is_number_unsigned() &&
                       confidence->get<std::uint64_t>() <= 100;
}

Result<Outcome> judge(const LogitSource& model, const model::Tokenizer& tokenizer,
                      const BehaviourOptions& options, Behaviour behaviour, std::size_t index) {
    const BehaviourItem item = behaviour_item(behaviour, options.seed, options.part, index);
    auto answering = Answering::start(model, tokenizer, behaviour, item);
    if (!answering) return Unexpected{std::move(answering).error()};
    Outcome outcome;
    if (options.teacher_forced) {
        const auto exact = answering->forced();
        if (!exact) return Unexpected{exact.error()};
        outcome.exact = *exact;
        return outcome;
    }
    const auto generated = answering->generated(behaviour != Behaviour::json);
    if (!generated) return Unexpected{generated.error()};
    outcome.exact = generated->ended && generated->text == item.answer;
    if (behaviour == Behaviour::json) judge_json(generated->text, outcome);
    return outcome;
}

}  // namespace

Interval wilson_interval(std::size_t successes, std::size_t trials) noexcept {
    if (trials == 0) return {};
    constexpr double z = 1.959963984540054;  // the normal distribution's quantile of 0.975
    const double n = static_cast<double>(trials), p = static_cast<double>(successes) / n;
    const double scale = 1 / (1 + z * z / n);
    const double middle = scale * (p + z * z / (2 * n));
    const double half = scale * z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    // At the ends the formula gives exactly 0 and 1, but for rounding.
    return {successes == 0 ? 0 : middle - half, successes == trials ? 1 : middle + half};
}

Result<std::vector<BehaviourScore>> measure_behaviours(const LogitSource& model,
                                                       const model::Tokenizer& tokenizer,
                                                       const BehaviourOptions& options,
                                                       ExecutionContext context, const Progress& progress) {
    if (tokenizer.size() != model.vocabulary())
        return fail(ErrorKind::bad_input, "the tokenizer has ", tokenizer.size(),
                    " tokens, the model a vocabulary of ", model.vocabulary());
    const std::size_t total = all_behaviours.size() * options.items;
    std::vector<Outcome> outcomes(total);
    std::mutex mutex;  // guards what follows
    std::size_t done = 0, failed = total;
    std::optional<Error> error;
    context.parallel_for(total, [&](std::size_t task, std::size_t) {
        {
            const std::lock_guard lock(mutex);
            if (task > failed) return;
        }
        const Behaviour behaviour = all_behaviours[task / options.items];
        const std::size_t index = task % options.items;
        auto outcome = judge(model, tokenizer, options, behaviour, index);
        const std::lock_guard lock(mutex);
        if (outcome) {
            outcomes[task] = *outcome;
        } else if (task < failed) {  // of several errors the first item's is told, whoever was faster
            failed = task;
            error = outcome.error().within(text(name(behaviour), ", item ", index));
        }
        ++done;
        if (progress && !error) progress(done, total);
    });
    if (error) return Unexpected{*std::move(error)};

    std::vector<BehaviourScore> scores;
    for (std::size_t b = 0; b < all_behaviours.size(); ++b) {
        BehaviourScore score;
        score.behaviour = all_behaviours[b];
        score.items = options.items;
        for (const Outcome& outcome : std::span(outcomes).subspan(b * options.items, options.items)) {
            score.exact += outcome.exact;
            score.well_formed += outcome.well_formed;
            score.in_range += outcome.in_range;
        }
        if (score.items > 0)
            score.share = static_cast<double>(score.exact) / static_cast<double>(score.items);
        const Interval interval = wilson_interval(score.exact, score.items);
        score.low = interval.low;
        score.high = interval.high;
        scores.push_back(score);
    }
    return scores;
}

Result<std::vector<BehaviourScore>> measure_behaviours(const model::Transformer& model,
                                                       const model::Tokenizer& tokenizer,
                                                       const BehaviourOptions& options,
                                                       ExecutionContext context, const Progress& progress) {
    return measure_behaviours(TransformerSource(model), tokenizer, options, context, progress);
}

}  // namespace fewbit::inline v0::evaluate
