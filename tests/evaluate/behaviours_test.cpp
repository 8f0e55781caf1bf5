// Scores of models that know the answers and make known mistakes, and of a transformer against
// model::generate.
#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "evaluate/corpus_support.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/evaluate/behaviours.hpp"
#include "fewbit/model/generate.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;
using fewbit_test::embedded_tokenizer;

namespace {

/// Writes what it was told to write behind each prompt it knows, and EOS. Elsewhere it wants the letter z.
class Oracle final : public LogitSource {
public:
    explicit Oracle(const model::Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

    /// `ends`: EOS follows; otherwise z for ever.
    void teach(const std::string& prompt, const std::string& written, bool ends = true) {
        std::vector<int> tokens = tokenizer_->encode(written, false);
        if (ends) tokens.push_back(tokenizer_->eos());
        written_[tokenizer_->encode(prompt)] = tokens;
    }

    [[nodiscard]] std::size_t vocabulary() const override { return tokenizer_->size(); }
    [[nodiscard]] Result<std::unique_ptr<LogitStream>> start(std::size_t) const override {
        return std::unique_ptr<LogitStream>(std::make_unique<Stream>(*this));
    }

private:
    struct Stream final : LogitStream {
        explicit Stream(const Oracle& oracle_) : oracle(oracle_) {}
        Result<void> advance(std::span<const int> tokens, MatrixView<float> logits,
                             ExecutionContext) override {
            for (std::size_t t = 0; t < tokens.size(); ++t) {
                read.push_back(tokens[t]);
                if (prompt == 0 && oracle.written_.count(read) != 0) {
                    written = oracle.written_.at(read);
                    prompt = read.size();
                }
                const std::size_t at = read.size() - prompt;
                const int next = prompt != 0 && at < written.size()
                                     ? written[at]
                                     : oracle.tokenizer_->encode("z", false)[0];
                std::fill(logits.row(t).begin(), logits.row(t).end(), -1.0f);
                logits(t, static_cast<std::size_t>(next)) = 1;
            }
            return {};
        }
        const Oracle& oracle;
        std::vector<int> read, written;
        std::size_t prompt = 0;  // tokens of it; 0: not read yet
    };

    const model::Tokenizer* tokenizer_;
    std::map<std::vector<int>, std::vector<int>> written_;
};

model::Transformer toy_transformer(std::size_t vocabulary, std::size_t context) {
    const auto file = testing::toy_model(testing::toy_shape(2, 1, 8, 24, 2, vocabulary, context, true), 5);
    auto made = model::Transformer::create(file, {.activations = {}, .fallback = Fallback::allow});
    REQUIRE(made);
    return *std::move(made);
}

bool same(const std::vector<BehaviourScore>& a, const std::vector<BehaviourScore>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
        return x.behaviour == y.behaviour && x.items == y.items && x.exact == y.exact && x.share == y.share &&
               x.low == y.low && x.high == y.high && x.well_formed == y.well_formed &&
               x.in_range == y.in_range;
    });
}

}  // namespace

TEST_CASE("Wilson's interval: known values, ends, no trials") {
    const auto check = [](std::size_t successes, std::size_t trials, double low, double high) {
        const Interval interval = wilson_interval(successes, trials);
        CHECK(interval.low == Catch::Approx(low).margin(5e-5));
        CHECK(interval.high == Catch::Approx(high).margin(5e-5));
    };
    // Newcombe 1998, table I, method 3 (score, without continuity correction).
    check(81, 263, 0.2553, 0.3662);
    check(15, 148, 0.0624, 0.1605);
    check(0, 20, 0.0000, 0.1611);
    check(1, 29, 0.0061, 0.1718);
    check(29, 29, 0.8830, 1.0000);
    CHECK(wilson_interval(0, 20).low == 0);
    CHECK(wilson_interval(29, 29).high == 1);
    CHECK(wilson_interval(0, 0).low == 0);
    CHECK(wilson_interval(0, 0).high == 1);
}

TEST_CASE("an oracle with known mistakes gets the score it deserves, either way of asking") {
    const model::Tokenizer t = embedded_tokenizer();
    BehaviourOptions options{.items = 40, .seed = 6};
    Oracle oracle(t);
    std::vector<std::size_t> exact(all_behaviours.size());
    for (const Behaviour behaviour : all_behaviours)
        for (std::size_t i = 0; i < options.items; ++i) {
            const auto [prompt, answer] = behaviour_item(behaviour, options.seed, options.part, i);
            std::string wrong = answer;
            switch (i % 8) {
                case 0: wrong.front() = '#'; break;
                case 1: wrong.back() = '#'; break;
                case 2: wrong.pop_back(); break;
                case 3: wrong += "0"; break;
                default: break;
            }
            // A model that never ends is wrong even where all it wrote was right; a new line ends recall.
            const bool another_line = i % 8 == 5 && behaviour == Behaviour::recall;
            oracle.teach(prompt, another_line ? wrong + "\n" : wrong, i % 8 != 4 && !another_line);
            exact[static_cast<std::size_t>(behaviour)] += i % 8 > 4;
        }
    for (const bool teacher_forced : {false, true}) {
        options.teacher_forced = teacher_forced;
        const auto scores = measure_behaviours(oracle, t, options);
        REQUIRE(scores);
        REQUIRE(scores->size() == all_behaviours.size());
        for (std::size_t b = 0; b < scores->size(); ++b) {
            const BehaviourScore& score = (*scores)[b];
            INFO(name(score.behaviour));
            CHECK(score.behaviour == all_behaviours[b]);
            CHECK(score.items == 40);
            CHECK(score.exact == exact[b]);
            CHECK(score.exact == 15);
            CHECK(score.share == 0.375);
            CHECK(score.low == wilson_interval(15, 40).low);
            CHECK(score.high == wilson_interval(15, 40).high);
            // Mistakes 0 to 4 all spoil JSON.
            const bool judged = score.behaviour == Behaviour::json && !teacher_forced;
            CHECK(score.well_formed == (judged ? 15 : 0));
            CHECK(score.in_range == (judged ? 15 : 0));
        }
    }
}

TEST_CASE("JSON that is no right answer may still be well-formed, and its confidence in range") {
    const model::Tokenizer t = embedded_tokenizer();
    const std::vector<std::pair<const char*, int>> written{
        // 0: no JSON, 1: well-formed, 2: in range too
        {"{\"confidence\":100}", 2},
        {"{\"confidence\":0,\"a\":[]}", 2},
        {"{\"confidence\":101}", 1},
        {"{\"confidence\":-1}", 1},
        {"{\"confidence\":5.5}", 1},
        {"{\"confidence\":\"5\"}", 1},
        {"{\"a\":5}", 1},
        {"[5]", 1},
        {"5", 1},
        {"{\"confidence\":5", 0},
        {"{confidence:5}", 0},
        {"", 0},
        {"{\"confidence\":5}}", 0},
        {"{\"confidence\":5,}", 0},
        {"{\"confidence\":18446744073709551617}", 1},
    };
    BehaviourOptions options{.items = written.size()};
    Oracle oracle(t);
    std::size_t well_formed = 0, in_range = 0;
    for (std::size_t i = 0; i < written.size(); ++i) {
        oracle.teach(behaviour_item(Behaviour::json, options.seed, options.part, i).prompt, written[i].first);
        well_formed += written[i].second >= 1;
        in_range += written[i].second >= 2;
    }
    const auto scores = measure_behaviours(oracle, t, options);
    REQUIRE(scores);
    const BehaviourScore& score = (*scores)[static_cast<std::size_t>(Behaviour::json)];
    CHECK(score.exact == 0);
    CHECK(score.well_formed == well_formed);
    CHECK(score.in_range == in_range);
}

TEST_CASE("a transformer's score does not depend on threads and is that of model::generate") {
    const model::Tokenizer t = embedded_tokenizer();
    const model::Transformer toy = toy_transformer(t.size(), 512);
    ThreadPool pool(4);
    for (const bool teacher_forced : {false, true}) {
        const BehaviourOptions options{.items = 6, .teacher_forced = teacher_forced};
        const auto alone = measure_behaviours(toy, t, options);
        REQUIRE(alone);
        std::size_t calls = 0, last = 0;
        const auto together =
            measure_behaviours(toy, t, options, pool, [&](std::size_t done, std::size_t total) {
                CHECK(total == 36);
                CHECK(done == ++calls);
                last = done;
            });
        REQUIRE(together);
        CHECK(last == 36);
        CHECK(same(*alone, *together));
        for (const BehaviourScore& score : *alone) {
            std::size_t exact = 0;
            for (std::size_t i = 0; i < options.items; ++i) {
                const auto item = behaviour_item(score.behaviour, options.seed, options.part, i);
                model::GenerateOptions generate_options;
                generate_options.max_tokens = t.encode(item.answer, false).size() + 8;
                const auto made = model::generate(toy, t, item.prompt, generate_options);
                REQUIRE(made);
                exact += made->stop == model::StopReason::end_of_text && made->text == item.answer;
            }
            CHECK(score.exact == exact);
        }
    }
}

namespace {

/// Passes everything on to a transformer and keeps the tokens that each stream has read.
class Recorder final : public LogitSource {
public:
    explicit Recorder(const model::Transformer& model) : source_(model) {}
    [[nodiscard]] std::size_t vocabulary() const override { return source_.vocabulary(); }
    [[nodiscard]] Result<std::unique_ptr<LogitStream>> start(std::size_t tokens) const override {
        auto inner = source_.start(tokens);
        if (!inner) return Unexpected{std::move(inner).error()};
        return std::unique_ptr<LogitStream>(std::make_unique<Stream>(*this, *std::move(inner)));
    }
    mutable std::vector<std::vector<int>> read;  // one thread only

private:
    struct Stream final : LogitStream {
        Stream(const Recorder& recorder_, std::unique_ptr<LogitStream> inner_)
            : recorder(recorder_), inner(std::move(inner_)) {}
        ~Stream() override { recorder.read.push_back(tokens_read); }
        Result<void> advance(std::span<const int> tokens, MatrixView<float> logits,
                             ExecutionContext context) override {
            tokens_read.insert(tokens_read.end(), tokens.begin(), tokens.end());
            return inner->advance(tokens, logits, context);
        }
        const Recorder& recorder;
        std::unique_ptr<LogitStream> inner;
        std::vector<int> tokens_read;
    };
    TransformerSource source_;
};

}  // namespace

TEST_CASE("the tokens that are generated are those of model::generate, as long as they may be right") {
    const model::Tokenizer t = embedded_tokenizer();
    const model::Transformer toy = toy_transformer(t.size(), 512);
    const Recorder recorder(toy);
    const BehaviourOptions options{.items = 4};
    REQUIRE(measure_behaviours(recorder, t, options));
    REQUIRE(recorder.read.size() == 24);
    for (std::size_t at = 0; at < recorder.read.size(); ++at) {
        const Behaviour behaviour = all_behaviours[at / 4];
        const auto item = behaviour_item(behaviour, options.seed, options.part, at % 4);
        model::GenerateOptions generate_options;
        generate_options.max_tokens = t.encode(item.answer, false).size() + 8;
        const auto made = model::generate(toy, t, item.prompt, generate_options);
        REQUIRE(made);
        std::vector<int> expected = t.encode(item.prompt);
        if (behaviour == Behaviour::json)  // the others are left at the first wrong character
            expected.insert(expected.end(), made->tokens.begin(), made->tokens.end());
        else
            REQUIRE_FALSE(item.answer.starts_with(made->text));
        CHECK(recorder.read[at].size() >= expected.size());
        CHECK(std::equal(expected.begin(), expected.end(), recorder.read[at].begin()));
    }
}

TEST_CASE("errors name the item, the same with any number of threads") {
    const model::Tokenizer t = embedded_tokenizer();
    const BehaviourOptions options{.items = 8};
    const auto message = [](const auto& scores) {
        REQUIRE_FALSE(scores);
        return scores.error().message;
    };
    ThreadPool pool(3);
    const model::Transformer short_context = toy_transformer(t.size(), 64);
    const std::string too_long = message(measure_behaviours(short_context, t, options));
    CHECK(too_long.starts_with("recall, item 0: "));
    CHECK(too_long.find("context of 64") != std::string::npos);
    CHECK(message(measure_behaviours(short_context, t, options, pool)) == too_long);

    const model::Transformer other_words = toy_transformer(100, 512);
    CHECK(message(measure_behaviours(other_words, t, options)).find("768") != std::string::npos);

    auto file = testing::toy_model(testing::toy_shape(2, 1, 8, 24, 2, t.size(), 512, true), 5);
    file.vectors.at("model.norm")[0] = std::numeric_limits<float>::quiet_NaN();
    const auto broken = model::Transformer::create(file, {.activations = {}, .fallback = Fallback::allow});
    REQUIRE(broken);
    for (const bool teacher_forced : {false, true}) {
        const auto scores =
            measure_behaviours(*broken, t, {.items = 2, .teacher_forced = teacher_forced}, pool);
        CHECK(message(scores) == "addition, item 0: there is NaN among the model's logits");
    }
}

TEST_CASE("no items: no shares") {
    const model::Tokenizer t = embedded_tokenizer();
    const auto scores = measure_behaviours(Oracle(t), t, {.items = 0});
    REQUIRE(scores);
    REQUIRE(scores->size() == all_behaviours.size());
    for (const BehaviourScore& score : *scores) {
        CHECK(score.items == 0);
        CHECK(score.share == 0);
        CHECK(score.high == 1);
    }
}
