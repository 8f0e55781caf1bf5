// A model with its tokenizer in GGUF, damaged anywhere: it is refused, or what was read can be used to the end.
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>

#include "fewbit/io/model_gguf.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fewbit/model/transformer.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/shared_data.hpp"
#include "support/toy_gguf.hpp"

namespace {

using namespace fewbit;

std::string good_file() {
    const auto model = testing::toy_model(testing::toy_shape(2, 1, 4, 8, 2, 9, 16, false), 1);
    io::Vocabulary vocabulary{{"<unk>", "<s>", "</s>", "<0x41>", " ", "a", "b", " a", "ab"},
                              std::vector<float>{0, 0, 0, 0, -1, -2, -3, -4, -5},
                              {}};
    vocabulary.guess_kinds();
    vocabulary.kinds[6] = io::TokenKind::user_defined;
    vocabulary.kinds[8] = io::TokenKind::unused;
    std::random_device random;
    const auto path =
        std::filesystem::temp_directory_path() / ("fewbit-damage-" + std::to_string(random()) + ".gguf");
    REQUIRE(io::write_gguf_model(path, model, &vocabulary, {"toy", 0}));
    std::string bytes = testing::read_text(path);
    std::filesystem::remove(path);
    return bytes;
}

struct Accepted {
    std::size_t models = 0, tokenizers = 0;
};

/// Reads a copy that ends where the bytes end, and uses whatever comes out.
void use(const std::string& bytes, Accepted& accepted) {
    const std::shared_ptr<std::byte[]> copy(new std::byte[bytes.size()]);
    std::memcpy(copy.get(), bytes.data(), bytes.size());
    const auto file = io::parse_gguf({copy.get(), bytes.size()}, copy, "damaged");
    if (!file) return;
    if (const auto model = io::read_gguf_model(*file)) {
        ++accepted.models;
        std::size_t weights = 0;
        for (const auto& [name, linear] : model->linears) weights += linear.n() * linear.k();
        CHECK(weights <= bytes.size());
        const auto transformer = model::Transformer::create(*model, {exact_activations(), Fallback::allow});
        REQUIRE(transformer);
        auto cache = model::KvCache::create(model->shape, 2);
        REQUIRE(cache);
        Matrix logits(1, model->shape.vocabulary);
        const int tokens[] = {0, static_cast<int>(model->shape.vocabulary) - 1};
        // Two positions fit unless the context is one.
        CHECK((transformer->forward(tokens, *cache, logits) || model->shape.context < 2));
    }
    auto vocabulary = io::read_gguf_vocabulary(*file);
    if (!vocabulary) return;
    const auto tokenizer = model::Tokenizer::create(*std::move(vocabulary));
    if (!tokenizer) return;
    ++accepted.tokenizers;
    for (const int id : tokenizer->encode("a bA\xC3\xA4 ab<s>", true, true, model::Specials::as_tokens))
        CHECK((id >= 0 && static_cast<std::size_t>(id) < tokenizer->size()));
}

}  // namespace

TEST_CASE("models in GGUF: every cut and thousands of changed bytes") {
    const std::string whole = good_file();
    Accepted good;
    use(whole, good);
    CHECK(good.models == 1);
    CHECK(good.tokenizers == 1);

    Accepted cut;
    for (std::size_t length = 0; length < whole.size(); ++length) use(whole.substr(0, length), cut);
    CHECK(cut.models < 32);  // the padding after the last tensor may be missing

    const std::size_t head = whole.find("blk.1.ffn_down.weight");  // where names, keys and sizes stand
    REQUIRE(head != std::string::npos);
    testing::Random random(9);
    Accepted changed;
    const int rounds = 6000;
    for (int round = 0; round < rounds; ++round) {
        std::string bytes = whole;
        for (std::size_t n = 1 + random.below(2); n > 0; --n)
            bytes[random.below(head + 64)] = random.below(3) == 0 ? '\xFF' : static_cast<char>(random.bits());
        use(bytes, changed);
    }
    CHECK(changed.models > 0);
    CHECK(changed.models < rounds);
    CHECK(changed.tokenizers > 0);
    CHECK(changed.tokenizers < rounds);
}
