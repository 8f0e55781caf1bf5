// Vocabularies in GGUF files: what stands there comes back, what cannot be right is refused by key and value.
#include <functional>
#include <limits>

#include "fewbit/io/model_gguf.hpp"
#include "io_support.hpp"
#include "support/catch.hpp"
#include "support/toy_gguf.hpp"

using namespace fewbit;
using namespace fewbit_test;
using io::GgufValue;
using io::TokenKind;
using testing::ToyGguf;

namespace {

const std::vector<std::string> tokens{"<unk>", "<s>", "</s>", "<0x0A>", "\xE2\x96\x81", "a", ""};

ToyGguf toy() {
    ToyGguf out;
    out.file.source = "toy.gguf";
    testing::add_tokenizer(out, tokens);
    return out;
}

struct WrongVocabulary {
    const char* what;
    std::function<void(ToyGguf&)> change;
    const char* sentence;
};
auto set_key(const char* key, GgufValue value) {
    return [=](ToyGguf& out) { out.set(key, value); };
}
auto drop_key(const char* key) {
    return [=](ToyGguf& out) { out.drop(key); };
}
GgufValue texts(std::vector<std::string> values) { return GgufValue::of_texts(values); }
GgufValue floats(std::vector<float> values) { return GgufValue::of_floats(values); }
GgufValue integers(std::vector<std::int32_t> values) { return GgufValue::of_integers(values); }

}  // namespace

TEST_CASE("a vocabulary in GGUF as it stands there", "[io]") {
    ToyGguf file = toy();
    file.set("tokenizer.ggml.padding_token_id", GgufValue::of_u32(0xFFFFFFFF));  // nobody asks for it
    const auto plain = io::read_gguf_vocabulary(file.file);
    INFO(message(plain));
    REQUIRE(plain);
    CHECK(plain->pieces == tokens);
    CHECK(plain->scores == std::vector<float>{0, 0, 0, -3, -4, -5, -6});
    CHECK(plain->kinds == std::vector<TokenKind>{TokenKind::unknown, TokenKind::control, TokenKind::control,
                                                 TokenKind::byte, TokenKind::normal, TokenKind::normal,
                                                 TokenKind::normal});
    CHECK(plain->dialect == io::TokenDialect::sentencepiece);
    CHECK(plain->unknown == 0);
    CHECK(plain->bos == 1);
    CHECK(plain->eos == 2);
    CHECK(plain->add_bos);
    CHECK_FALSE(plain->add_eos);
    CHECK(plain->space_prefix);
    CHECK_FALSE(plain->trim_spaces);

    file.drop("tokenizer.ggml.token_type");  // then they follow from ids and spelling
    CHECK(io::read_gguf_vocabulary(file.file)->kinds == plain->kinds);

    file.set("tokenizer.ggml.token_type", integers({5, 4, 3, 6, 1, 1, 2}));
    file.set("tokenizer.ggml.bos_token_id", GgufValue::of_u64(5));
    file.set("tokenizer.ggml.eos_token_id", GgufValue::of_i32(6));
    file.set("tokenizer.ggml.unknown_token_id", GgufValue::of_u16(3));
    file.set("tokenizer.ggml.add_bos_token", GgufValue::of_boolean(false));
    file.set("tokenizer.ggml.add_eos_token", GgufValue::of_boolean(true));
    file.set("tokenizer.ggml.add_space_prefix", GgufValue::of_boolean(false));
    file.set("tokenizer.ggml.remove_extra_whitespaces", GgufValue::of_boolean(true));
    const auto other = io::read_gguf_vocabulary(file.file);
    REQUIRE(other);
    CHECK(other->kinds[0] == TokenKind::unused);
    CHECK(other->kinds[1] == TokenKind::user_defined);
    CHECK(other->kinds[6] == TokenKind::unknown);
    CHECK(other->bos == 5);
    CHECK(other->eos == 6);
    CHECK(other->unknown == 3);
    CHECK_FALSE(other->add_bos);
    CHECK(other->add_eos);
    CHECK_FALSE(other->space_prefix);
    CHECK(other->trim_spaces);
}

TEST_CASE("vocabularies in GGUF that cannot be right are refused", "[io]") {
    const char *ids = "tokenizer.ggml.bos_token_id", *types = "tokenizer.ggml.token_type",
               *scores = "tokenizer.ggml.scores", *words = "tokenizer.ggml.tokens";
    const WrongVocabulary list[] = {
        {"none", drop_key("tokenizer.ggml.model"), "it holds no tokenizer"},
        {"no text", set_key("tokenizer.ggml.model", GgufValue::of_u32(1)), "it holds no tokenizer"},
        {"gpt2", set_key("tokenizer.ggml.model", GgufValue::of_text("gpt2")),
         "of the kind 'gpt2'; fewbit reads those of the kind 'llama'"},
        {"no tokens", drop_key(words), "it lacks 'tokenizer.ggml.tokens'"},
        {"tokens of numbers", set_key(words, integers({1, 2})), "is an array of i32, not an array of text"},
        {"one text", set_key(words, GgufValue::of_text("abc")), "is text, not an array of text"},
        {"0 tokens", set_key(words, texts({})), "no id of 0 tokens"},
        {"no scores", drop_key(scores), "it lacks 'tokenizer.ggml.scores'"},
        {"scores of integers", set_key(scores, integers({1, 2, 3, 4, 5, 6, 7})), "not an array of f32"},
        {"types of reals", set_key(types, floats({1, 1, 1, 1, 1, 1, 1})), "not an array of integers"},
        {"a score too few", set_key(scores, floats({0, 0, 0, 0, 0, 0})), "7 tokens, 6 scores and 7 types"},
        {"a type too many", set_key(types, integers({1, 1, 1, 6, 1, 1, 1, 1})), "7 tokens, 7 scores and 8"},
        {"type 0", set_key(types, integers({0, 1, 1, 6, 1, 1, 1})), "'tokenizer.ggml.token_type'[0] is 0"},
        {"type 7", set_key(types, integers({1, 1, 1, 6, 1, 1, 7})), "[6] is 7; types are 1 to 6"},
        {"type -1", set_key(types, integers({-1, 1, 1, 6, 1, 1, 1})), "[0] is -1"},
        {"a letter called byte", set_key(types, integers({1, 1, 1, 6, 1, 6, 1})),
         "token 5 is a byte, but reads 'a'"},
        {"byte -1", set_key(words, texts({"<unk>", "<s>", "</s>", "<0x-1>", "b", "a", ""})),
         "token 3 is a byte, but reads '<0x-1>'"},
        {"a token twice", set_key(words, texts({"a", "<s>", "</s>", "<0x0A>", "b", "a", ""})),
         "tokens 0 and 5 are both 'a'"},
        {"BOS 7", set_key(ids, GgufValue::of_u32(7)),
         "'tokenizer.ggml.bos_token_id' is 7, no id of 7 tokens"},
        {"BOS 2^32 - 1", set_key(ids, GgufValue::of_u32(0xFFFFFFFF)), "is 4294967295, no id"},
        {"BOS -1", set_key(ids, GgufValue::of_i32(-1)), "no id of 7 tokens"},
        {"BOS as a text", set_key(ids, GgufValue::of_text("1")), "is of kind text, no id"},
        {"EOS 7", set_key("tokenizer.ggml.eos_token_id", GgufValue::of_u32(7)), "eos_token_id' is 7"},
        {"unknown 9", set_key("tokenizer.ggml.unknown_token_id", GgufValue::of_u32(9)), "token_id' is 9"},
        {"a flag as a number", set_key("tokenizer.ggml.add_bos_token", GgufValue::of_u32(1)),
         "'tokenizer.ggml.add_bos_token' is u32, not boolean"},
    };
    for (const WrongVocabulary& wrong : list) {
        INFO(wrong.what);
        ToyGguf file = toy();
        wrong.change(file);
        const std::string said = message(io::read_gguf_vocabulary(file.file));
        INFO(said);
        CHECK(contains(said, wrong.sentence));
        CHECK(contains(said, "'toy.gguf'"));
    }
}

TEST_CASE("llama2.c's spelling becomes SentencePiece's", "[io]") {
    io::Vocabulary given{
        {"<unk>", "\n<s>\n", "\n</s>\n", "<0x20>", " ", " a b", "\n"}, std::vector<float>(7), {}};
    given.guess_kinds();
    const io::Vocabulary spelled = io::in_sentencepiece(given);
    CHECK(spelled.pieces == std::vector<std::string>{"<unk>", "<s>", "</s>", "<0x20>", "\xE2\x96\x81",
                                                     "\xE2\x96\x81"
                                                     "a\xE2\x96\x81"
                                                     "b",
                                                     "\n"});
    CHECK(spelled.dialect == io::TokenDialect::sentencepiece);
    CHECK(io::in_sentencepiece(spelled) == spelled);
}
