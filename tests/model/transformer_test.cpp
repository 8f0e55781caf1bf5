// The decoder against a naive one in double precision, and against itself: cut differently, on other numbers
// of threads.
#include "fewbit/model/transformer.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/io/llama2c.hpp"
#include "support/catch.hpp"
#include "support/naive_transformer.hpp"
#include "support/shared_data.hpp"
#include "support/toy_model.hpp"

namespace {

using namespace fewbit;
using testing::toy_model;
using testing::toy_shape;

const std::vector<io::ModelShape> shapes{
    toy_shape(4, 2, 8, 44, 2, 31, 80, true),  toy_shape(6, 2, 10, 37, 3, 53, 80, false),
    toy_shape(5, 1, 2, 13, 1, 7, 80, true),   toy_shape(1, 1, 14, 1, 2, 2, 80, false),
    toy_shape(3, 3, 6, 100, 2, 19, 80, true), toy_shape(8, 4, 16, 172, 2, 64, 80, false),
};

std::vector<int> random_tokens(std::size_t count, std::size_t vocabulary, std::uint64_t seed) {
    testing::Random random(seed);
    std::vector<int> tokens(count);
    for (int& token : tokens) token = static_cast<int>(random.below(vocabulary));
    return tokens;
}

model::Transformer create(const io::ModelFile& file,
                          model::ModelOptions options = {exact_activations(), Fallback::allow}) {
    auto result = model::Transformer::create(file, options);
    INFO((result ? "" : result.error().message));
    REQUIRE(result);
    return *std::move(result);
}

/// Logits of all tokens, evaluated in calls of `step` tokens.
Matrix logits_of(const model::Transformer& transformer, const std::vector<int>& tokens, std::size_t step,
                 ExecutionContext context = {}) {
    const std::size_t vocabulary = transformer.shape().vocabulary;
    Matrix logits(tokens.size(), vocabulary);
    auto cache = model::KvCache::create(transformer.shape(), tokens.size());
    REQUIRE(cache);
    for (std::size_t begin = 0; begin < tokens.size(); begin += step) {
        const std::size_t count = std::min(step, tokens.size() - begin);
        auto done = transformer.forward(std::span(tokens).subspan(begin, count), *cache,
                                        logits.view().rows_from(begin, count), context);
        INFO((done ? "" : done.error().message));
        REQUIRE(done);
    }
    CHECK(cache->length() == tokens.size());
    return logits;
}

/// What float roundings may cost: each of the products, norms and sums of a block adds about sqrt(K)
/// roundings to values of the size of the logits; 4 is for the unlucky.
double rounding_tolerance(const io::ModelShape& s, double largest) {
    const auto widest = static_cast<double>(std::max({s.dim, s.hidden, s.heads * s.head_dim}));
    return 4 * 0x1p-24 * std::sqrt(widest) * static_cast<double>(2 * s.layers + 1) * std::max(largest, 1.0);
}

double largest_of(const Matrix& logits) {
    double largest = 0;
    for (const float value : logits.values())
        largest = std::max(largest, std::fabs(static_cast<double>(value)));
    return largest;
}

}  // namespace

TEST_CASE("odd shapes agree with the naive decoder in double precision") {
    double worst = 0;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
        const io::ModelFile file = toy_model(shapes[i], i + 1);
        const auto tokens = random_tokens(70, shapes[i].vocabulary, i);
        const auto truth = testing::naive_logits(file, tokens);
        const Matrix logits = logits_of(create(file), tokens, tokens.size());
        const double allowed = rounding_tolerance(shapes[i], largest_of(logits));
        for (std::size_t t = 0; t < tokens.size(); ++t)
            for (std::size_t v = 0; v < shapes[i].vocabulary; ++v) {
                const double error = std::fabs(truth[t][v] - static_cast<double>(logits(t, v)));
                worst = std::max(worst, error / allowed);
                if (!(error <= allowed))
                    FAIL("shape " << i << ", position " << t << ", token " << v << ": " << logits(t, v)
                                  << ", not " << truth[t][v]);
            }
    }
    INFO("largest error / rounding_tolerance: " << worst);
    CHECK(worst > 1e-3);  // a tolerance that nothing could exceed would test nothing
}

TEST_CASE("the three file versions of a model: v0 and v1 give the same bits, v2 the naive decoder's answer") {
    const io::ModelShape shape = toy_shape(4, 2, 8, 40, 2, 24, 80, false);
    const io::ModelFile original = toy_model(shape, 9);
    const auto tokens = random_tokens(40, shape.vocabulary, 9);
    const auto parse = [&](int version) {
        const auto owner =
            std::make_shared<const std::vector<std::byte>>(testing::llama2c_bytes(original, version, 8));
        auto file = io::parse_llama2c(*owner, owner, "toy.bin");
        REQUIRE(file);
        return *std::move(file);
    };
    const Matrix a = logits_of(create(parse(0)), tokens, 40), b = logits_of(create(parse(1)), tokens, 40);
    CHECK(std::memcmp(a.values().data(), b.values().data(), a.values().size_bytes()) == 0);

    const io::ModelFile int8 = parse(2);
    const Matrix c = logits_of(create(int8), tokens, 40);
    const auto truth = testing::naive_logits(int8, tokens);
    const double allowed = rounding_tolerance(shape, largest_of(c));
    for (std::size_t t = 0; t < tokens.size(); ++t)
        for (std::size_t v = 0; v < shape.vocabulary; ++v)
            CHECK(std::fabs(truth[t][v] - static_cast<double>(c(t, v))) <= allowed);
}

TEST_CASE("a prompt in one call, in pieces and token by token") {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
        const io::ModelFile file = toy_model(shapes[i], i + 1);
        const auto tokens = random_tokens(70, shapes[i].vocabulary, i);
        const Matrix whole = logits_of(create(file), tokens, tokens.size());
        const double allowed = rounding_tolerance(shapes[i], largest_of(whole));
        for (const std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{64}}) {
            const Matrix pieces = logits_of(create(file), tokens, step);
            const Matrix chunks =
                logits_of(create(file, {exact_activations(), Fallback::allow, step}), tokens, tokens.size());
            CHECK(std::memcmp(pieces.values().data(), chunks.values().data(), pieces.values().size_bytes()) ==
                  0);
            for (std::size_t j = 0; j < whole.values().size(); ++j)
                if (!(std::fabs(static_cast<double>(whole.values()[j]) -
                                static_cast<double>(pieces.values()[j])) <= allowed))
                    FAIL("shape " << i << ", steps of " << step << ", logit " << j << ": "
                                  << pieces.values()[j] << ", not " << whole.values()[j]);
        }
    }
}

TEST_CASE("the bits do not depend on the number of threads") {
    const io::ModelShape shape =
        toy_shape(8, 4, 16, 300, 2, 301, 400, true);  // large enough that all operators split
    io::ModelFile file = toy_model(shape, 4);
    const auto tokens = random_tokens(330, shape.vocabulary, 4);
    const auto owner = std::make_shared<const std::vector<std::byte>>(
        testing::llama2c_bytes(toy_model(toy_shape(8, 4, 16, 296, 2, 304, 400, true), 4), 2, 8));
    const auto int8_file = io::parse_llama2c(*owner, owner, "toy.bin");
    REQUIRE(int8_file);
    const std::pair<const io::ModelFile*, ActivationFormat> cases[] = {
        {&file, exact_activations()},
        {&*int8_file, exact_activations()},
        {&*int8_file, int8_group_activations(32)}};
    for (const auto& [model_file, activations] : cases) {
        const model::Transformer transformer = create(*model_file, {activations, Fallback::allow});
        for (const std::size_t step : {tokens.size(), std::size_t{110}}) {
            const Matrix one = logits_of(transformer, tokens, step);
            for (const std::size_t threads : {7, 2}) {
                if (fewbit_test::sampled() && threads == 2) continue;
                ThreadPool pool(threads);
                const Matrix many = logits_of(transformer, tokens, step, pool);
                INFO(threads << " threads, " << name(activations));
                CHECK(std::memcmp(one.values().data(), many.values().data(), one.values().size_bytes()) == 0);
            }
        }
    }
}

TEST_CASE("logits of the last position only, or of none") {
    const io::ModelFile file = toy_model(shapes[1], 2);
    const model::Transformer transformer = create(file, {exact_activations(), Fallback::allow, 16});
    const auto tokens = random_tokens(40, shapes[1].vocabulary, 2);
    const Matrix all = logits_of(transformer, tokens, tokens.size());
    auto cache = model::KvCache::create(shapes[1], 40);
    REQUIRE(cache);
    REQUIRE(transformer.forward(std::span(tokens).first(20), *cache, MatrixView<float>{}));
    CHECK(cache->length() == 20);
    Matrix last(1, shapes[1].vocabulary);
    REQUIRE(transformer.forward(std::span(tokens).subspan(20), *cache, last));
    const double allowed = rounding_tolerance(shapes[1], largest_of(all));
    for (std::size_t v = 0; v < shapes[1].vocabulary; ++v)
        CHECK(std::fabs(static_cast<double>(last(0, v)) - static_cast<double>(all(39, v))) <= allowed);

    cache->truncate(20);  // the same beginning, continued once more
    Matrix again(1, shapes[1].vocabulary);
    REQUIRE(transformer.forward(std::span(tokens).subspan(20), *cache, again));
    CHECK(std::memcmp(last.values().data(), again.values().data(), last.values().size_bytes()) == 0);
}

TEST_CASE("what cannot be evaluated is refused and leaves the cache alone") {
    const io::ModelShape& shape = shapes[0];
    const model::Transformer transformer = create(toy_model(shape, 1));
    auto cache = model::KvCache::create(shape, 10);
    REQUIRE(cache);
    Matrix logits(1, shape.vocabulary);
    const std::vector<int> good(8, 3);
    REQUIRE(transformer.forward(good, *cache, logits));
    const auto refused = [&](const std::vector<int>& tokens, model::KvCache& to, MatrixView<float> out,
                             const std::string& part) {
        const std::size_t length = to.length();
        const auto done = transformer.forward(tokens, to, out);
        REQUIRE(!done);
        INFO(done.error().message);
        CHECK(done.error().message.find(part) != std::string::npos);
        CHECK(to.length() == length);
    };
    refused({}, *cache, logits, "no tokens");
    refused({3, 31}, *cache, logits, "token 1 is 31, outside the vocabulary of 31");
    refused({-1}, *cache, logits, "token 0 is -1");
    refused({1, 2, 3}, *cache, logits,
            "3 tokens after 8 do not fit into 10 positions (the model's context is 80)");
    Matrix narrow(1, shape.vocabulary - 1), three(3, shape.vocabulary);
    refused({1}, *cache, narrow, "logits of 1 x 30 do not fit");
    refused({1, 2}, *cache, three, "logits of 3 x 31 do not fit 2 tokens");
    auto other = model::KvCache::create(shapes[1], 10);
    REQUIRE(other);
    refused({1}, *other, logits, "the key-value cache is for 3 layers");
    REQUIRE(transformer.forward(std::vector<int>{1, 2}, *cache, logits));  // still usable, and now full
    refused({1}, *cache, logits, "1 tokens after 10");

    const auto too_long = model::KvCache::create(shape, 81);
    REQUIRE(!too_long);
    CHECK(too_long.error().message.find("81 positions is longer than the model's context of 80") !=
          std::string::npos);
    io::ModelShape endless = shape;
    endless.context = SIZE_MAX;
    CHECK(!model::KvCache::create(endless, SIZE_MAX / 2));
}

TEST_CASE("models that lack a part or have one of the wrong shape are refused by its name") {
    const auto refused = [](auto&& damage, const std::string& part) {
        io::ModelFile file = toy_model(shapes[1], 1);
        damage(file);
        const auto result = model::Transformer::create(file, {exact_activations(), Fallback::allow});
        REQUIRE(!result);
        INFO(result.error().message);
        CHECK(result.error().message.find(part) != std::string::npos);
    };
    refused([](auto& f) { f.linears.erase("model.layers.2.mlp.up_proj"); },
            "no matrix 'model.layers.2.mlp.up_proj'");
    refused([](auto& f) { f.linears.erase("lm_head"); }, "no matrix 'lm_head'");
    refused([](auto& f) { f.linears["model.layers.0.self_attn.k_proj"] = f.linears["lm_head"]; },
            "'model.layers.0.self_attn.k_proj' is 53 x 60; the model's shape asks for 20 x 60");
    refused([](auto& f) { f.vectors.erase("model.norm"); }, "no vector 'model.norm'");
    refused([](auto& f) { f.vectors["model.layers.1.input_layernorm"].pop_back(); },
            "'model.layers.1.input_layernorm' has 59 elements");
    refused([](auto& f) { f.linears["model.embed_tokens"].bias.resize(53); }, "rows of an embedding cannot");
    refused([](auto& f) { f.linears["model.layers.0.mlp.gate_proj"].bias.resize(3); },
            "model.layers.0.mlp.gate_proj");
    refused([](auto& f) { f.shape.kv_heads = 4; }, "4 key-value heads do not divide 6");
    refused([](auto& f) { f.shape.head_dim = 5; }, "heads of 5 elements");
    refused([](auto& f) { f.shape.vocabulary = 0; }, "vocabulary 0");
    refused([](auto& f) { f.shape.rope_base = -1; }, "rotary base -1");
    refused([](auto& f) { f.shape.norm_epsilon = NAN; }, "norm epsilon nan");
    refused([](auto& f) { f.shape.layers = 99; }, "model.layers.3.");
}

TEST_CASE("the observer sees the input of every layer, in order") {
    const io::ModelShape& shape = shapes[0];
    const model::Transformer transformer = create(toy_model(shape, 1));
    auto cache = model::KvCache::create(shape, 5);
    REQUIRE(cache);
    std::vector<std::string> names;
    std::vector<std::size_t> widths;
    const float* last = nullptr;
    bool shared = false;
    Matrix logits(5, shape.vocabulary);
    REQUIRE(transformer.forward(std::vector<int>{1, 2, 3, 4, 5}, *cache, logits, {},
                                [&](std::string_view name, MatrixView<const float> x) {
                                    CHECK(x.rows == 5);
                                    names.emplace_back(name);
                                    widths.push_back(x.cols);
                                    if (name == "model.layers.1.self_attn.k_proj") shared = x.data == last;
                                    last = x.data;
                                }));
    REQUIRE(names.size() == 15);
    CHECK(names[0] == "model.layers.0.self_attn.q_proj");
    CHECK(names[3] == "model.layers.0.self_attn.o_proj");
    CHECK(names[6] == "model.layers.0.mlp.down_proj");
    CHECK(widths[6] == shape.hidden);
    CHECK(names[14] == "lm_head");
    CHECK(shared);
}

TEST_CASE("kernels() says what runs where, and why float layers do not take int8 activations") {
    const io::ModelShape shape = toy_shape(4, 2, 8, 40, 2, 24, 80, false);
    const auto owner =
        std::make_shared<const std::vector<std::byte>>(testing::llama2c_bytes(toy_model(shape, 1), 2, 8));
    auto file = io::parse_llama2c(*owner, owner, "toy.bin");
    REQUIRE(file);
    file->linears["lm_head"] = toy_model(shape, 1).linears["lm_head"];  // one float layer among the others
    const auto uses = create(*file, {int8_group_activations(32), Fallback::allow}).kernels();
    REQUIRE(uses.size() == 2);
    CHECK(uses[0].kernel.substr(0, 11) == "int_grouped");
    CHECK(uses[0].activations == int8_group_activations(32));
    CHECK(uses[0].layers.size() == 14);
    CHECK(uses[0].note.empty());
    CHECK(uses[1].kernel.substr(0, 5) == "dense");
    CHECK(uses[1].activations == exact_activations());
    CHECK(uses[1].layers == std::vector<std::string>{"lm_head"});
    CHECK(uses[1].note == "float weights take f32 activations, not int8-g32");
}

TEST_CASE("f32 weights run where the file has them, and keep it alive") {
    const io::ModelFile original = toy_model(shapes[1], 1);
    std::size_t weights = 0;
    for (const auto& [name, linear] : original.linears)
        weights += name == "model.embed_tokens" ? linear.k() * 4 : linear.weights.size_bytes();
    auto owner = std::make_shared<const std::vector<std::byte>>(testing::llama2c_bytes(original, 1));
    const std::weak_ptr<const std::vector<std::byte>> alive = owner;
    {
        const model::Transformer transformer = [&] {
            const auto file = io::parse_llama2c(*owner, owner, "toy.bin");
            REQUIRE(file);
            return create(*file);
        }();
        owner.reset();
        CHECK(!alive.expired());
        CHECK(transformer.bytes_per_token() == weights);
        const auto tokens = random_tokens(5, shapes[1].vocabulary, 1);
        const Matrix mapped = logits_of(transformer, tokens, 5),
                     copied = logits_of(create(original), tokens, 5);
        CHECK(std::memcmp(mapped.values().data(), copied.values().data(), mapped.values().size_bytes()) == 0);
    }
    CHECK(alive.expired());
}

TEST_CASE("stories260K: v0 and v1 give the same logits, one prompt or token by token") {
    const auto v0 = testing::shared_file("models/stories260K/stories260K.bin"),
               v1 = testing::shared_file("models/stories260K/stories260K_v1.bin");
    if (v0.empty() || v1.empty()) FEWBIT_SKIP("models/stories260K is not in FEWBIT_SHARED_DIR");
    const auto a = io::read_llama2c(v0), b = io::read_llama2c(v1);
    REQUIRE(a);
    REQUIRE(b);
    const auto tokens = random_tokens(200, a->shape.vocabulary, 1);
    const Matrix x = logits_of(create(*a), tokens, 200), y = logits_of(create(*b), tokens, 200),
                 z = logits_of(create(*a), tokens, 1);
    CHECK(std::memcmp(x.values().data(), y.values().data(), x.values().size_bytes()) == 0);
    const double allowed = rounding_tolerance(a->shape, largest_of(x));
    double worst = 0;
    for (std::size_t i = 0; i < x.values().size(); ++i)
        worst = std::max(worst,
                         std::fabs(static_cast<double>(x.values()[i]) - static_cast<double>(z.values()[i])));
    CHECK(worst <= allowed);
}
