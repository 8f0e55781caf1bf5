// A real model in two files, llama2.c's and GGUF as others wrote it: the same shape, numbers, tokens and loss.
// And on the way out: what fewbit writes is what they wrote.
#include <cmath>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/io/llama2c.hpp"
#include "fewbit/io/model_gguf.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fewbit/model/transformer.hpp"
#include "support/catch.hpp"
#include "support/shared_data.hpp"
#include "support/toy_gguf.hpp"

namespace {

using namespace fewbit;
using io::GgufValue;
using model::Tokenizer;
using testing::read_text;
using testing::shared_file;

constexpr const char* folder = "models/stories260K/";

template <class T>
T expect(Result<T> result) {
    INFO((result ? "" : result.error().message));
    REQUIRE(result);
    return *std::move(result);
}
template <class T>
std::string message(const Result<T>& result) {
    return result ? std::string() : result.error().message;
}

/// A path that nobody has, and no file there afterwards.
class TempPath {
public:
    TempPath() {
        std::random_device random;
        path_ =
            std::filesystem::temp_directory_path() / ("fewbit-model-" + std::to_string(random()) + ".gguf");
    }
    ~TempPath() {
        std::error_code ignored;
        std::filesystem::remove(path_, ignored);
    }
    TempPath(const TempPath&) = delete;
    TempPath& operator=(const TempPath&) = delete;
    operator const std::filesystem::path&() const { return path_; }

private:
    std::filesystem::path path_;
};

Matrix logits_of(const io::ModelFile& file, const std::vector<int>& tokens) {
    const auto transformer = expect(model::Transformer::create(file, {exact_activations(), Fallback::allow}));
    auto cache = expect(model::KvCache::create(transformer.shape(), tokens.size()));
    Matrix logits(tokens.size(), transformer.shape().vocabulary);
    REQUIRE(transformer.forward(tokens, cache, logits));
    return logits;
}

/// Mean negative log probability of each token after the first.
double loss_of(const Matrix& logits, const std::vector<int>& tokens) {
    double nats = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        double sum = 0;
        for (const float logit : logits.row(i)) sum += std::exp(static_cast<double>(logit));
        nats += std::log(sum) - static_cast<double>(logits(i, static_cast<std::size_t>(tokens[i + 1])));
    }
    return nats / static_cast<double>(tokens.size() - 1);
}

void check_same_weights(const io::ModelFile& a, const io::ModelFile& b) {
    CHECK(a.vectors == b.vectors);
    REQUIRE(a.linears.size() == b.linears.size());
    for (const auto& [name, linear] : a.linears) {
        INFO(name);
        const QuantizedMatrix &x = linear.weights, &y = b.linears.at(name).weights;
        REQUIRE(x.n() == y.n());
        REQUIRE(x.k() == y.k());
        std::vector<float> left(x.k()), right(x.k());
        bool same = true;
        for (std::size_t r = 0; r < x.n(); ++r) {
            x.dequantize(r, 0, left);
            y.dequantize(r, 0, right);
            same = same && left == right;
        }
        CHECK(same);
    }
}

/// English, other scripts, runs of spaces, tabs, and what is no UTF-8.
std::vector<std::string> texts() {
    std::vector<std::string> out{
        "",
        " ",
        "   two  spaces   ",
        "\ttab\nnew line\r\n",
        "na\xC3\xAFve caf\xC3\xA9 \xE2\x80\x9Cquoted\xE2\x80\x9D \xE2\x82\xAC 5",
        "\xE6\xBC\xA2\xE5\xAD\x97 \xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xF0\x9F\x98\x80",
        "<s>not a token</s><unk><0x41>",
        "broken \xFF\xC3 end \xE2\x82",
    };
    for (const char* name : {"tinystories", "tinyshakespeare", "wikitext2_valid", "frankenstein"})
        if (const auto path = shared_file(std::string("text/") + name + ".txt"); !path.empty())
            out.push_back(read_text(path).substr(0, 200'000));
    return out;
}

bool stories_are_there() {
    return !shared_file(std::string(folder) + "stories260K.gguf").empty() &&
           !shared_file(std::string(folder) + "stories260K.bin").empty() &&
           !shared_file(std::string(folder) + "tok512.bin").empty();
}
#define SKIP_WITHOUT_STORIES() \
    if (!stories_are_there()) FEWBIT_SKIP("models/stories260K is not in FEWBIT_SHARED_DIR")

std::filesystem::path stories(const char* name) { return shared_file(folder + std::string(name)); }
Tokenizer stories_tokenizer() {
    const auto file = expect(io::open_gguf(stories("stories260K.gguf")));
    return expect(Tokenizer::create(expect(io::read_gguf_vocabulary(file))));
}

}  // namespace

TEST_CASE("stories260K: GGUF and llama2.c hold the same model") {
    SKIP_WITHOUT_STORIES();
    const auto gguf = expect(io::read_gguf_model(stories("stories260K.gguf")));
    const auto bin = expect(io::read_llama2c(stories("stories260K.bin")));
    io::ModelShape shape = gguf.shape;
    CHECK(shape.context == 2048);  // as its converter wrote, though the model was trained with 512
    shape.context = bin.shape.context;
    // The converter wrote the tied head out; its numbers are the embedding's.
    CHECK(shape.tied_head == false);
    CHECK(bin.shape.tied_head == true);
    shape.tied_head = true;
    CHECK(shape == bin.shape);
    io::ModelFile without_head = gguf;
    without_head.linears.erase("lm_head");
    check_same_weights(without_head, bin);

    const std::string text =
        "Once upon a time, there was a little girl named Lily. She loved to play outside.";
    const Tokenizer tokenizer = stories_tokenizer();
    const std::vector<int> tokens = tokenizer.encode(text);
    const Matrix a = logits_of(gguf, tokens), b = logits_of(bin, tokens);
    CHECK(std::fabs(loss_of(a, tokens) - loss_of(b, tokens)) < 1e-6);
    CHECK(loss_of(a, tokens) < 2);
}

TEST_CASE("stories260K: GGUF and tokenizer.bin cut texts into the same tokens") {
    SKIP_WITHOUT_STORIES();
    const Tokenizer gguf = stories_tokenizer();
    const Tokenizer bin = expect(Tokenizer::read_llama2c(stories("tok512.bin"), 512));
    for (const std::string& text : texts()) {
        INFO(text.substr(0, 60));
        const std::vector<int> tokens = gguf.encode(text);
        CHECK(tokens == bin.encode(text));
        CHECK(gguf.decode(tokens) == text);
    }
    CHECK(io::in_sentencepiece(bin.vocabulary()) == gguf.vocabulary());
}

TEST_CASE("stories260K: out to GGUF and back, the same model, tokens and logits") {
    SKIP_WITHOUT_STORIES();
    const auto bin = expect(io::read_llama2c(stories("stories260K.bin")));
    const Tokenizer tokenizer = expect(Tokenizer::read_llama2c(stories("tok512.bin"), 512));
    const TempPath path;
    const auto written = io::write_gguf_model(path, bin, &tokenizer.vocabulary(), {"llama", 0});
    INFO(message(written));
    REQUIRE(written);
    const auto file = expect(io::open_gguf(path));
    const auto back = expect(io::read_gguf_model(file));
    CHECK(back.shape == bin.shape);
    check_same_weights(back, bin);
    const Tokenizer again = expect(Tokenizer::create(expect(io::read_gguf_vocabulary(file))));
    for (const std::string& text : texts()) CHECK(again.encode(text) == tokenizer.encode(text));
    const std::vector<int> tokens = tokenizer.encode("One day, Tom and his dog went to the park.");
    const Matrix a = logits_of(bin, tokens), b = logits_of(back, tokens);
    for (std::size_t i = 0; i < tokens.size(); ++i)
        CHECK(std::equal(a.row(i).begin(), a.row(i).end(), b.row(i).begin()));
}

TEST_CASE("stories260K: what fewbit writes, others wrote") {
    SKIP_WITHOUT_STORIES();
    const auto theirs = expect(io::open_gguf(stories("stories260K.gguf")));
    const auto model = expect(io::read_gguf_model(theirs));
    const auto vocabulary = expect(io::read_gguf_vocabulary(theirs));
    const io::GgufMetadata ours = expect(io::gguf_metadata(model, &vocabulary, {"llama", {}}));
    std::vector<std::string> only_theirs, only_ours;
    for (const auto& [key, value] : theirs.metadata) {
        const GgufValue* mine = find(ours, key);
        INFO(key);
        if (mine == nullptr)
            only_theirs.push_back(key);
        else
            CHECK(*mine == value);  // kind and bytes
    }
    for (const auto& [key, value] : ours)
        if (find(theirs.metadata, key) == nullptr) only_ours.push_back(key);
    // Theirs: ids that a llama does not have, both -1.
    CHECK(only_theirs ==
          std::vector<std::string>{"tokenizer.ggml.seperator_token_id", "tokenizer.ggml.padding_token_id"});
    // Ours: what is the default, said all the same.
    CHECK(only_ours == std::vector<std::string>{
                           "general.quantization_version", "llama.vocab_size", "llama.rope.freq_base",
                           "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token",
                           "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.remove_extra_whitespaces"});
    const auto tensors = expect(io::gguf_tensors(model));
    REQUIRE(tensors.size() == theirs.tensors.size());
    for (const io::GgufSource& tensor : tensors) {
        INFO(tensor.name);
        const io::GgufTensor* other = theirs.find(tensor.name);
        REQUIRE(other != nullptr);
        CHECK(tensor.type == other->type);
        CHECK(tensor.sizes == other->sizes);
        std::vector<std::byte> bytes;
        REQUIRE(tensor.produce([&](std::span<const std::byte> piece) -> Result<void> {
            bytes.insert(bytes.end(), piece.begin(), piece.end());
            return {};
        }));
        CHECK(std::equal(bytes.begin(), bytes.end(), other->bytes.begin(), other->bytes.end()));
    }
}

TEST_CASE("babyllama105: out to GGUF and back, the same model and tokens") {
    const auto bin_path = shared_file("models/babyllama105/model5000.bin"),
               tok_path = shared_file("models/babyllama105/tok105.derived.bin");
    if (bin_path.empty() || tok_path.empty()) FEWBIT_SKIP("models/babyllama105 is not in FEWBIT_SHARED_DIR");
    const auto bin = expect(io::read_llama2c(bin_path));
    const Tokenizer tokenizer = expect(Tokenizer::read_llama2c(tok_path, 105));
    const TempPath path;
    const auto written = io::write_gguf_model(path, bin, &tokenizer.vocabulary(), {});
    INFO(message(written));
    REQUIRE(written);
    const auto file = expect(io::open_gguf(path));
    check_same_weights(expect(io::read_gguf_model(file)), bin);
    const Tokenizer again = expect(Tokenizer::create(expect(io::read_gguf_vocabulary(file))));
    for (const std::string& text : texts()) CHECK(again.encode(text) == tokenizer.encode(text));
}

TEST_CASE("a toy in GGUF: the same logits as the model that it was made of, biases count") {
    const auto shape = testing::toy_shape(4, 2, 6, 20, 2, 11, 64, false);
    const io::ModelFile toy = testing::toy_model(shape, 5);
    testing::ToyGguf file = testing::toy_gguf(toy);
    const std::vector<int> tokens{1, 5, 3, 8, 10, 2};
    const Matrix expected = logits_of(toy, tokens),
                 plain = logits_of(expect(io::read_gguf_model(file.file)), tokens);
    io::ModelFile biased = toy;
    const std::vector<float> bias{0.5f, -1, 2, 0, 0.25f, 1, -0.5f, 0, 1, 2, 3, -4};
    biased.linears.at("model.layers.1.self_attn.k_proj").bias = bias;
    file.add_floats("blk.1.attn_k.bias", {12}, bias);
    const Matrix other = logits_of(expect(io::read_gguf_model(file.file)), tokens),
                 expected_other = logits_of(biased, tokens);
    bool differs = false;
    for (std::size_t i = 0; i < tokens.size(); ++i)
        for (std::size_t j = 0; j < shape.vocabulary; ++j) {
            CHECK(plain(i, j) == expected(i, j));
            CHECK(other(i, j) == expected_other(i, j));
            differs = differs || other(i, j) != plain(i, j);
        }
    CHECK(differs);
}

TEST_CASE("matrices of blocks run where they lie in the file, embedding and head too") {
    const auto shape = testing::toy_shape(4, 2, 64, 512, 1, 11, 64, false);
    const io::ModelFile toy = testing::toy_model(shape, 6);
    const std::vector<int> tokens{1, 5, 3, 8, 10, 2};
    for (const ggml::BlockType type :
         {ggml::BlockType::q4_0, ggml::BlockType::q5_1, ggml::BlockType::q8_0, ggml::BlockType::q2_k,
          ggml::BlockType::q4_k, ggml::BlockType::q6_k, ggml::BlockType::iq4_xs, ggml::BlockType::mxfp4}) {
        const ggml::BlockTraits& traits = ggml::traits(type);
        INFO(traits.name);
        testing::ToyGguf file = testing::toy_gguf(toy);
        io::ModelFile decoded = toy;
        for (auto& [name, linear] : decoded.linears) {
            const std::size_t n = linear.n(), k = linear.k(), row_bytes = k / traits.elements * traits.bytes;
            std::vector<std::uint8_t> blocks(n * row_bytes);
            Matrix values(n, k);
            for (std::size_t r = 0; r < n; ++r) {
                const std::span<std::uint8_t> row = std::span(blocks).subspan(r * row_bytes, row_bytes);
                std::vector<float> x(k);
                linear.weights.dequantize(r, 0, x);
                ggml::encode_row(type, x, {}, row);
                for (std::size_t b = 0; b < k / traits.elements; ++b)
                    ggml::dequantize_block(type, row.data() + b * traits.bytes,
                                           values.row(r).data() + b * traits.elements);
            }
            linear.weights = *float_matrix(values.view());
            const auto bytes = std::as_bytes(std::span(blocks));
            const std::size_t odd = name.size() % 2;  // blocks may begin anywhere
            file.add(*io::gguf_name_of_layer(name) + ".weight", traits.name, {k, n},
                     {bytes.begin(), bytes.end()}, odd);
        }
        const auto model = expect(io::read_gguf_model(file.file));
        for (const auto& [name, linear] : model.linears) {
            const io::GgufTensor* tensor = file.file.find(*io::gguf_name_of_layer(name) + ".weight");
            CHECK(linear.weights.format() == block_format(type));
            CHECK(linear.weights.blocks.bytes().data() == tensor->bytes.data());
        }
        const Matrix a = logits_of(model, tokens), b = logits_of(decoded, tokens);
        float largest = 0, difference = 0;
        for (std::size_t i = 0; i < tokens.size(); ++i)
            for (std::size_t j = 0; j < shape.vocabulary; ++j) {
                largest = std::max(largest, std::fabs(b(i, j)));
                difference = std::max(difference, std::fabs(a(i, j) - b(i, j)));
            }
        CHECK(difference < 1e-4f * largest);  // sums of 512 f32 products in another order
        CHECK(largest > 0.1f);
        const TempPath path;
        REQUIRE(io::write_gguf_model(path, model, nullptr, {}));
        const auto written = expect(io::open_gguf(path));
        for (const io::GgufTensor& tensor : file.file.tensors) {
            INFO(tensor.name);
            const io::GgufTensor* other = written.find(tensor.name);
            REQUIRE(other != nullptr);
            CHECK(other->type == tensor.type);
            CHECK(std::equal(other->bytes.begin(), other->bytes.end(), tensor.bytes.begin(),
                             tensor.bytes.end()));
        }
    }
}
