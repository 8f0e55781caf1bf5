// Sampling and generation.
#include "fewbit/model/generate.hpp"

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "fewbit/io/llama2c.hpp"
#include "support/catch.hpp"
#include "support/shared_data.hpp"
#include "support/toy_model.hpp"

namespace {

using namespace fewbit;

model::Sampler sampler(double temperature, double top_p, std::uint64_t seed = 1) {
    auto result = model::Sampler::create({temperature, top_p, seed});
    REQUIRE(result);
    return *result;
}

/// Letters of a toy vocabulary: 0 unknown, 1 BOS, 2 EOS, then " ", "a", "b", ...
model::Tokenizer letters(std::size_t count) {
    model::Vocabulary vocabulary;
    vocabulary.pieces = {"<unk>", "<s>", "</s>", " "};
    for (char letter = 'a'; vocabulary.pieces.size() < count; ++letter)
        vocabulary.pieces.push_back(std::string(1, letter));
    vocabulary.scores.resize(count);
    vocabulary.guess_kinds();
    auto tokenizer = model::Tokenizer::create(vocabulary);
    REQUIRE(tokenizer);
    return *std::move(tokenizer);
}

}  // namespace

TEST_CASE("greedy takes the largest logit, the first of equals") {
    const std::vector<float> logits{1, 7, -3, 7};
    CHECK(*sampler(0, 1).sample(logits) == 1);
    CHECK(*sampler(0, 1).sample(std::vector<float>{-std::numeric_limits<float>::infinity(), -5}) == 1);
}

TEST_CASE("draws follow the softmax of logits / temperature") {
    const std::vector<float> logits{0, 1, 2, -1};
    for (const double temperature : {0.5, 1.0, 3.0}) {
        model::Sampler draw = sampler(temperature, 1);
        std::vector<double> expected(4), counts(4);
        double sum = 0;
        for (std::size_t i = 0; i < 4; ++i)
            sum += expected[i] = std::exp(static_cast<double>(logits[i]) / temperature);
        constexpr int draws = 40000;
        for (int i = 0; i < draws; ++i) counts[static_cast<std::size_t>(*draw.sample(logits))] += 1;
        for (std::size_t i = 0; i < 4; ++i) {
            const double p = expected[i] / sum;
            CHECK(std::fabs(counts[i] / draws - p) < 5 * std::sqrt(p * (1 - p) / draws));
        }
    }
}

TEST_CASE("top_p keeps the shortest list that reaches it") {
    const std::vector<float> logits{std::log(0.1f), std::log(0.5f), std::log(0.3f), std::log(0.1f)};
    const auto seen = [&](double top_p) {
        model::Sampler draw = sampler(1, top_p);
        std::set<int> ids;
        for (int i = 0; i < 2000; ++i) ids.insert(*draw.sample(logits));
        return ids;
    };
    CHECK(seen(0.45) == std::set<int>{1});
    CHECK(seen(0.7) == std::set<int>{1, 2});
    CHECK(seen(0.85) == std::set<int>{0, 1, 2});
    CHECK(seen(1.0) == std::set<int>{0, 1, 2, 3});
}

TEST_CASE("the same seed draws the same tokens, another seed others") {
    const std::vector<float> logits(50, 0.0f);
    const auto draws = [&](std::uint64_t seed) {
        model::Sampler draw = sampler(1, 0.9, seed);
        std::vector<int> ids;
        for (int i = 0; i < 20; ++i) ids.push_back(*draw.sample(logits));
        return ids;
    };
    CHECK(draws(3) == draws(3));
    CHECK(draws(3) != draws(4));
}

TEST_CASE("sampling that makes no sense is refused") {
    CHECK(!model::Sampler::create({-1, 1, 0}));
    CHECK(!model::Sampler::create({NAN, 1, 0}));
    CHECK(!model::Sampler::create({1, 0, 0}));
    CHECK(!model::Sampler::create({1, 1.5, 0}));
    CHECK(!sampler(1, 1).sample({}));
    const auto nan = sampler(0, 1).sample(std::vector<float>{0, NAN});
    REQUIRE(!nan);
    CHECK(nan.error().message == "the logit of token 1 is NaN");
}

TEST_CASE("generation streams its pieces and stops where it is told") {
    const io::ModelShape shape = testing::toy_shape(4, 2, 4, 20, 2, 20, 24, true);
    const auto transformer =
        model::Transformer::create(testing::toy_model(shape, 3), {exact_activations(), Fallback::allow});
    REQUIRE(transformer);
    const model::Tokenizer tokenizer = letters(20);
    model::GenerateOptions options;
    options.stop_at_end = false;
    options.max_tokens = 5;
    std::string streamed;
    const auto collect = [&](std::string_view piece) {
        streamed += piece;
        return true;
    };
    const auto five = generate(*transformer, tokenizer, "ab", options, {}, collect);
    REQUIRE(five);
    CHECK(five->tokens.size() == 5);
    CHECK(five->prompt_tokens == 4);
    CHECK(five->evaluated_tokens == 4);
    CHECK(five->stop == model::StopReason::max_tokens);
    CHECK(five->text == streamed);

    // Greedy generation is evaluation: each token is the first choice after all before it.
    std::vector<int> tokens = tokenizer.encode("ab");
    for (const int token : five->tokens) {
        auto cache = model::KvCache::create(shape, tokens.size());
        REQUIRE(cache);
        Matrix logits(1, shape.vocabulary);
        REQUIRE(transformer->forward(tokens, *cache, logits));
        CHECK(std::max_element(logits.values().begin(), logits.values().end()) - logits.values().begin() ==
              token);
        tokens.push_back(token);
    }

    options.max_tokens = 1000;
    const auto full = generate(*transformer, tokenizer, "ab", options);
    REQUIRE(full);
    CHECK(full->stop == model::StopReason::context_full);
    CHECK(full->tokens.size() == 24 - 4 + 1);

    const auto asked =
        generate(*transformer, tokenizer, "ab", options, {}, [](std::string_view) { return false; });
    REQUIRE(asked);
    CHECK(asked->stop == model::StopReason::asked);
    CHECK(asked->tokens.size() == 1);

    options.max_tokens = 0;
    const auto none = generate(*transformer, tokenizer, "", options);
    REQUIRE(none);
    CHECK(none->tokens.empty());
    CHECK(none->prompt_tokens == 1);
}

TEST_CASE("generation ends at EOS and BOS") {
    // The embedding of one token is made so large that it wins every greedy choice.
    const io::ModelShape shape = testing::toy_shape(4, 2, 4, 20, 1, 20, 24, false);
    for (const int winner : {1, 2, 5}) {
        io::ModelFile file = testing::toy_model(shape, 3);
        Matrix head(20, 16);
        for (float& value : head.row(static_cast<std::size_t>(winner))) value = 0.0f;
        for (std::size_t r = 0; r < 20; ++r)
            file.linears["lm_head"].bias.push_back(r == static_cast<std::size_t>(winner) ? 5.0f : 0.0f);
        file.linears["lm_head"].weights = *float_matrix(head.view());
        const auto transformer = model::Transformer::create(file, {exact_activations(), Fallback::allow});
        REQUIRE(transformer);
        model::GenerateOptions options;
        options.max_tokens = 3;
        const auto result = generate(*transformer, letters(20), "ab", options);
        REQUIRE(result);
        CHECK(result->tokens.size() == (winner == 5 ? 3u : 0u));
        CHECK(result->stop == (winner == 5 ? model::StopReason::max_tokens : model::StopReason::end_of_text));
    }
}

TEST_CASE("generation refuses what does not fit") {
    const io::ModelShape shape = testing::toy_shape(4, 2, 4, 20, 1, 20, 24, true);
    const auto transformer =
        model::Transformer::create(testing::toy_model(shape, 3), {exact_activations(), Fallback::allow});
    REQUIRE(transformer);
    const auto other = generate(*transformer, letters(21), "a", {});
    REQUIRE(!other);
    CHECK(other.error().message == "the tokenizer has 21 tokens, the model a vocabulary of 20");
    const auto longer = generate(*transformer, letters(20), std::string(30, 'a'), {});
    REQUIRE(!longer);
    CHECK(longer.error().message == "the prompt has 32 tokens, the model's context is 24");
    model::GenerateOptions options;
    options.sampling.temperature = -1;
    CHECK(!generate(*transformer, letters(20), "a", options));
}

TEST_CASE("stories260K tells a story") {
    const auto path = testing::shared_file("models/stories260K/stories260K.bin"),
               tokens = testing::shared_file("models/stories260K/tok512.bin");
    if (path.empty() || tokens.empty()) FEWBIT_SKIP("models/stories260K is not in FEWBIT_SHARED_DIR");
    const auto file = io::read_llama2c(path);
    REQUIRE(file);
    const auto transformer = model::Transformer::create(*file, {exact_activations(), Fallback::allow});
    const auto tokenizer = model::Tokenizer::read_llama2c(tokens, file->shape.vocabulary);
    REQUIRE(transformer);
    REQUIRE(tokenizer);
    model::GenerateOptions options;
    options.max_tokens = 60;
    const auto story = generate(*transformer, *tokenizer, "", options);
    REQUIRE(story);
    INFO(story->text);
    CHECK(story->text.substr(0, 57) == "Once upon a time, there was a little girl named Lily. She");
}
