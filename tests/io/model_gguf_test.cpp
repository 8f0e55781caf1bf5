// Models in GGUF files: a model made by hand comes back number by number, without a copy; what contradicts
// itself or asks for what fewbit cannot do is refused, by name.
#include "fewbit/io/model_gguf.hpp"

#include <functional>
#include <limits>
#include <memory>

#include "fewbit/io/mapped_file.hpp"
#include "io_support.hpp"
#include "model_support.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/toy_gguf.hpp"

using namespace fewbit;
using namespace fewbit_test;
using io::GgufKind;
using io::GgufValue;
using testing::toy_gguf;
using testing::ToyGguf;

namespace {

io::ModelShape small(bool tied = false) { return testing::toy_shape(4, 2, 6, 20, 2, 11, 64, tied); }
io::ModelFile small_toy(bool tied = false) { return testing::toy_model(small(tied), 3); }

std::string refusal(const ToyGguf& toy) { return message(io::read_gguf_model(toy.file)); }

GgufValue number(GgufKind kind, std::uint64_t bits, std::size_t size) {
    std::vector<std::byte> bytes;
    for (std::size_t i = 0; i < size; ++i) bytes.push_back(static_cast<std::byte>(bits >> (8 * i)));
    return GgufValue::of_bytes(kind, kind, 1, bytes);
}
GgufValue per_layer(std::vector<std::int32_t> values) { return GgufValue::of_integers(values); }

/// The same numbers, by name.
void check_equal(const io::ModelFile& model, const io::ModelFile& expected) {
    CHECK(model.shape == expected.shape);
    CHECK(model.vectors == expected.vectors);
    REQUIRE(model.linears.size() == expected.linears.size());
    for (const auto& [name, linear] : expected.linears) {
        INFO(name);
        REQUIRE(model.linears.contains(name));
        CHECK(same(model.linears.at(name).weights, linear.weights));
    }
}

struct Wrong {
    const char* what;
    std::function<void(ToyGguf&)> change;
    const char* sentence;  // must stand in the message
};

void check_refused(const std::vector<Wrong>& list) {
    for (const Wrong& wrong : list) {
        INFO(wrong.what);
        ToyGguf toy = toy_gguf(small_toy());
        wrong.change(toy);
        const std::string said = refusal(toy);
        INFO(said);
        CHECK(contains(said, wrong.sentence));
        CHECK(contains(said, "'toy.gguf'"));
    }
}

auto set(const char* key, GgufValue value) {
    return [=](ToyGguf& toy) { toy.set(key, value); };
}
auto drop(const char* key) {
    return [=](ToyGguf& toy) { toy.drop(key); };
}
GgufValue u32(std::uint32_t value) { return GgufValue::of_u32(value); }
GgufValue f32(float value) { return GgufValue::of_f32(value); }

}  // namespace

TEST_CASE("a llama in GGUF, number by number, head tied or not", "[io]") {
    for (const bool tied : {false, true}) {
        const io::ModelFile expected = small_toy(tied);
        const auto model = io::read_gguf_model(toy_gguf(expected).file);
        INFO(message(model));
        REQUIRE(model);
        check_equal(*model, expected);
        CHECK(model->type == "GGUF");
        CHECK(model->metadata.at("source") == "toy.gguf");
    }
    // Heads that together are not as wide as the model.
    io::ModelShape wide = small();
    wide.head_dim = 10;
    wide.rope_base = 500000.0f;
    wide.norm_epsilon = 1e-6f;
    const io::ModelFile expected = testing::toy_model(wide, 4);
    const auto model = io::read_gguf_model(toy_gguf(expected).file);
    INFO(message(model));
    REQUIRE(model);
    check_equal(*model, expected);
}

TEST_CASE("counts may be of any integer kind, and one per layer", "[io]") {
    const io::ModelFile expected = small_toy();
    ToyGguf toy = toy_gguf(expected);
    toy.set("llama.embedding_length", GgufValue::of_u64(24));
    toy.set("llama.block_count", number(GgufKind::u8, 2, 1));
    toy.set("llama.context_length", number(GgufKind::i64, 64, 8));
    toy.set("llama.rope.dimension_count", GgufValue::of_u16(6));
    toy.set("llama.feed_forward_length", per_layer({20, 20}));
    toy.set("llama.attention.head_count", per_layer({4, 4}));
    toy.set("llama.attention.head_count_kv", number(GgufKind::i8, 2, 1));
    toy.set("llama.vocab_size", GgufValue::of_i32(11));
    toy.set("llama.rope.scaling.type", GgufValue::of_text("linear"));
    toy.set("llama.rope.scaling.factor", f32(1));
    toy.set("llama.expert_count", u32(0));
    toy.set("llama.attention.sliding_window", u32(64));
    toy.set("llama.tensor_data_layout", GgufValue::of_text("Meta AI original pth"));
    toy.set("other.attention.head_count", u32(99));
    auto model = io::read_gguf_model(toy.file);
    INFO(message(model));
    REQUIRE(model);
    check_equal(*model, expected);
    toy.set("llama.rope.scaling.type", GgufValue::of_text("none"));
    toy.set("llama.rope.scaling.factor", f32(8));  // counts for nothing then
    CHECK(io::read_gguf_model(toy.file));
    toy.drop("llama.attention.head_count_kv");  // as many as heads
    CHECK(contains(refusal(toy),
                   "'blk.0.attn_k.weight' has the sizes (24, 12), but the model's shape asks "
                   "for (24, 24)"));
    toy.drop("llama.rope.freq_base");
    toy.set("llama.attention.head_count_kv", u32(2));
    model = io::read_gguf_model(toy.file);
    REQUIRE(model);
    CHECK(model->shape.rope_base == 10000.0f);
}

TEST_CASE("floats of 16 bits, biases, and vectors that are no f32", "[io]") {
    const io::ModelFile expected = small_toy();
    ToyGguf toy = toy_gguf(expected);
    std::vector<std::byte> half(2 * 24 * 24), gains(2 * 24);
    for (std::size_t i = 0; i < 24 * 24; ++i)
        store_float(Scalar::bf16, static_cast<float>(i), half.data() + 2 * i);
    for (std::size_t i = 0; i < 24; ++i)
        store_float(Scalar::f16, 1.5f + static_cast<float>(i), gains.data() + 2 * i);
    toy.add("blk.0.attn_q.weight", "bf16", {24, 24}, half);
    toy.add("blk.1.ffn_norm.weight", "f16", {24}, gains);
    toy.add("blk.0.attn_output.weight", "bf16", {24, 24}, half, 1);  // no address for 16 bits
    std::vector<float> bias(24);
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i) - 3;
    toy.add_floats("blk.0.attn_q.bias", {24}, bias);
    const auto model = io::read_gguf_model(toy.file);
    INFO(message(model));
    REQUIRE(model);
    const Linear& q = model->linears.at("model.layers.0.self_attn.q_proj");
    CHECK(q.weights.format() == float_format(Scalar::bf16));
    CHECK(q.bias == bias);
    for (const char* name : {"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.o_proj"}) {
        std::vector<float> row(24);
        model->linears.at(name).weights.dequantize(5, 0, row);
        CHECK(row[7] == 127.0f);  // 5 * 24 + 7
    }
    CHECK(model->vectors.at("model.layers.1.post_attention_layernorm")[23] == 24.5f);
    CHECK(model->linears.at("model.layers.0.self_attn.k_proj").bias.empty());
}

TEST_CASE("matrices lie in the mapped file and keep it mapped", "[io]") {
    const TempFolder folder;
    const io::ModelFile expected = small_toy();
    REQUIRE(io::write_gguf_model(folder / "toy.gguf", expected, nullptr, {}));
    const auto mapped = io::open_gguf(folder / "toy.gguf");
    REQUIRE(mapped);
    auto model = io::read_gguf_model(*mapped);
    INFO(message(model));
    REQUIRE(model);
    for (const auto& [name, linear] : model->linears) {
        const auto layer = io::gguf_name_of_layer(name);
        REQUIRE(layer);
        const io::GgufTensor* tensor = mapped->find(*layer + ".weight");
        REQUIRE(tensor != nullptr);
        CHECK(static_cast<const void*>(linear.weights.codes.bytes().bytes().data()) == tensor->bytes.data());
        CHECK(linear.weights.codes.bytes().size_bytes() == tensor->bytes.size());
    }
    // Nobody but the matrices holds the file now, and its folder loses it.
    auto alone = io::read_gguf_model(folder / "toy.gguf");
    REQUIRE(alone);
    const auto one = alone->linears.at("lm_head");
    alone = fail(ErrorKind::io, "gone");
    fs::remove(folder / "toy.gguf");
    CHECK(same(one.weights, expected.linears.at("lm_head").weights));
}

TEST_CASE("metadata that asks for another model is refused", "[io]") {
    check_refused({
        {"no architecture", drop("general.architecture"), "no text 'general.architecture'"},
        {"a number for it", set("general.architecture", u32(1)), "no text 'general.architecture'"},
        {"another", set("general.architecture", GgufValue::of_text("qwen2")), "its architecture is 'qwen2'"},
        {"no width", drop("llama.embedding_length"), "it lacks 'llama.embedding_length'"},
        {"no layers", drop("llama.block_count"), "it lacks 'llama.block_count'"},
        {"no context", drop("llama.context_length"), "it lacks 'llama.context_length'"},
        {"no hidden", drop("llama.feed_forward_length"), "it lacks 'llama.feed_forward_length'"},
        {"no heads", drop("llama.attention.head_count"), "it lacks 'llama.attention.head_count'"},
        {"no epsilon", drop("llama.attention.layer_norm_rms_epsilon"),
         "it lacks 'llama.attention.layer_norm_rms_epsilon'"},
        {"a text for a width", set("llama.embedding_length", GgufValue::of_text("24")),
         "'llama.embedding_length' is of kind text, not a count"},
        {"a real width", set("llama.embedding_length", f32(24)), "is of kind f32, not a count"},
        {"a negative width", set("llama.embedding_length", GgufValue::of_i32(-24)), "not a count"},
        {"an integer epsilon", set("llama.attention.layer_norm_rms_epsilon", u32(1)), "not a real number"},
        {"an infinite epsilon",
         set("llama.attention.layer_norm_rms_epsilon", f32(std::numeric_limits<float>::infinity())),
         "'llama.attention.layer_norm_rms_epsilon' is inf"},
        {"a double beyond f32", set("llama.rope.freq_base", number(GgufKind::f64, 0x7FEFFFFFFFFFFFFF, 8)),
         "'llama.rope.freq_base'"},
        {"base 0", set("llama.rope.freq_base", f32(0)), "rotary base is 0"},
        {"heads per layer differ", set("llama.attention.head_count", per_layer({4, 2})),
         "'llama.attention.head_count' differs between layers (4 and 2)"},
        {"too few of them", set("llama.attention.head_count", per_layer({4})),
         "an array of 1 values of kind i32, not of 2 counts"},
        {"none of them", set("llama.attention.head_count", per_layer({})), "an array of 0 values"},
        {"negative ones", set("llama.attention.head_count_kv", per_layer({-2, -2})), "is -2, not a count"},
        {"reals", set("llama.attention.head_count", GgufValue::of_floats(std::vector<float>{4, 4})),
         "an array of 2 values of kind f32"},
        {"0 heads", set("llama.attention.head_count", u32(0)), "number of heads is 0"},
        {"0 key heads", set("llama.attention.head_count_kv", u32(0)), "key and value heads is 0"},
        {"heads that do not divide", set("llama.attention.head_count_kv", u32(3)),
         "4 heads, which 3 key and value heads do not divide"},
        {"heads that do not divide the width", set("llama.attention.head_count", u32(5)),
         "'llama.embedding_length' 24 is not a multiple of 'llama.attention.head_count' 5"},
        {"odd heads", set("llama.attention.head_count", u32(8)), "head length is 3; rotary pairs need"},
        {"values of another length", set("llama.attention.value_length", u32(8)),
         "keys have a length of 6, values of 8"},
        {"half a head rotates", set("llama.rope.dimension_count", u32(4)),
         "'llama.rope.dimension_count' is 4, but heads have a length of 6"},
        {"2^32 - 1 layers", set("llama.block_count", u32(0xFFFFFFFF)), "number of layers is 4294967295"},
        {"0 layers", set("llama.block_count", u32(0)), "number of layers is 0"},
        {"2^63 wide", set("llama.embedding_length", GgufValue::of_u64(std::uint64_t{1} << 63)),
         "embedding length is 9223372036854775808"},
        {"no context at all", set("llama.context_length", u32(0)), "context is 0"},
        {"another vocabulary", set("llama.vocab_size", u32(12)),
         "'llama.vocab_size' is 12, but the embedding has 11 rows"},
        {"yarn", set("llama.rope.scaling.type", GgufValue::of_text("yarn")),
         "'llama.rope.scaling.type' is 'yarn'"},
        {"scaled", set("llama.rope.scaling.factor", f32(4)), "'llama.rope.scaling.factor' is 4"},
        {"scaled the old way", set("llama.rope.scale_linear", f32(4)), "'llama.rope.scale_linear' is 4"},
        {"a factor of 0", set("llama.rope.scaling.factor", f32(0)), "'llama.rope.scaling.factor' is 0"},
        {"attention factor", set("llama.rope.scaling.attn_factor", f32(1.2f)), "attn_factor' is 1.2"},
        {"an unknown rotation", set("llama.rope.dimension_sections", per_layer({1})),
         "'llama.rope.dimension_sections', which fewbit does not know"},
        {"an unknown attention", set("llama.attention.clamp_kqv", f32(8)),
         "'llama.attention.clamp_kqv', which fewbit does not know"},
        {"attention scale", set("llama.attention.scale", f32(0.5f)), "'llama.attention.scale' is 0.5"},
        {"both ways", set("llama.attention.causal", GgufValue::of_boolean(false)), "causal' is 0"},
        {"a window", set("llama.attention.sliding_window", u32(32)), "is 32, less than the context of 64"},
        {"experts", set("llama.expert_count", u32(8)), "'llama.expert_count' is 8"},
        {"capped logits", set("llama.final_logit_softcapping", f32(30)), "softcapping' is 30"},
        {"scaled logits", set("llama.logit_scale", f32(8)), "'llama.logit_scale' is 8"},
        {"too few tokens",
         set("tokenizer.ggml.tokens", GgufValue::of_texts(std::vector<std::string>(10, "a"))),
         "'tokenizer.ggml.tokens' has 10 tokens, but the embedding 11 rows"},
    });
}

TEST_CASE("tensors that do not fit the model are refused", "[io]") {
    const auto floats = [](const char* name, std::vector<std::size_t> sizes, float value = 1) {
        return [=](ToyGguf& toy) {
            std::size_t count = 1;
            for (const std::size_t size : sizes) count *= size;
            toy.add_floats(name, sizes, std::vector<float>(count, value));
        };
    };
    const auto without = [](const char* name) { return [=](ToyGguf& toy) { toy.drop_tensor(name); }; };
    const auto typed = [](const char* name, const char* type, std::vector<std::size_t> sizes,
                          std::size_t bytes) {
        return [=](ToyGguf& toy) { toy.add(name, type, sizes, std::vector<std::byte>(bytes)); };
    };
    const float nan = std::numeric_limits<float>::quiet_NaN();
    check_refused({
        {"no embedding", without("token_embd.weight"), "it has no tensor 'token_embd.weight'"},
        {"no norm", without("output_norm.weight"), "it has no tensor 'output_norm.weight'"},
        {"no down", without("blk.1.ffn_down.weight"), "it has no tensor 'blk.1.ffn_down.weight'"},
        {"a layer too few", set("llama.block_count", u32(3)), "it has no tensor 'blk.2.attn_norm.weight'"},
        {"a layer too many", set("llama.block_count", u32(1)), "belongs to no layer of a llama of 1 layers"},
        {"65536 layers", set("llama.block_count", u32(65536)), "it has no tensor 'blk.2.attn_norm.weight'"},
        {"transposed", floats("blk.0.ffn_down.weight", {24, 20}),
         "'blk.0.ffn_down.weight' has the sizes (24, 20), but the model's shape asks for (20, 24)"},
        {"flattened", floats("blk.0.ffn_down.weight", {480}), "has the sizes (480)"},
        {"three sizes", floats("blk.0.attn_q.weight", {24, 6, 4}), "has the sizes (24, 6, 4)"},
        {"another head", floats("output.weight", {24, 12}), "'output.weight' has the sizes (24, 12)"},
        {"a short gain", floats("blk.0.attn_norm.weight", {23}), "has the sizes (23)"},
        {"a gain of two rows", floats("blk.0.attn_norm.weight", {24, 2}), "has the sizes (24, 2)"},
        {"a gain of NaN", floats("blk.1.attn_norm.weight", {24}, nan),
         "'blk.1.attn_norm.weight' holds nan at 0"},
        {"a gain of integers", typed("output_norm.weight", "i32", {24}, 96), "is of type i32"},
        {"a matrix of integers", typed("blk.0.attn_q.weight", "i8", {24, 24}, 576),
         "'blk.0.attn_q.weight': it is of type i8"},
        {"a matrix of doubles", typed("blk.0.attn_q.weight", "f64", {24, 24}, 8 * 576), "of type f64"},
        {"blocks that fewbit does not decode", typed("blk.0.attn_q.weight", "iq2_xxs", {24, 24}, 1),
         "'blk.0.attn_q.weight': it is of type iq2_xxs"},
        {"a gain of blocks", typed("output_norm.weight", "q8_0", {24}, 34), "is of type q8_0; vectors are"},
        {"a bias of another length", floats("blk.0.attn_q.bias", {23}), "'blk.0.attn_q.bias' has the sizes"},
        {"a bias of NaN", floats("blk.0.attn_q.bias", {24}, nan), "'blk.0.attn_q.bias' holds nan"},
        {"a bias of a gain", floats("output_norm.bias", {24}), "'output_norm.bias' belongs to no layer"},
        {"scaled rotation", floats("rope_freqs.weight", {3}), "'rope_freqs.weight' scales the rotary"},
        {"experts", floats("blk.0.ffn_gate_inp.weight", {24, 8}),
         "'blk.0.ffn_gate_inp.weight' belongs to no"},
        {"layer 007", floats("blk.00.attn_q.weight", {24, 24}), "'blk.00.attn_q.weight' belongs to no"},
    });
}

TEST_CASE("names of layers there and back", "[io]") {
    const std::pair<const char*, const char*> names[] = {
        {"token_embd", "model.embed_tokens"},
        {"output_norm", "model.norm"},
        {"output", "lm_head"},
        {"blk.0.attn_norm", "model.layers.0.input_layernorm"},
        {"blk.1.ffn_norm", "model.layers.1.post_attention_layernorm"},
        {"blk.12.attn_q", "model.layers.12.self_attn.q_proj"},
        {"blk.12.attn_k", "model.layers.12.self_attn.k_proj"},
        {"blk.12.attn_v", "model.layers.12.self_attn.v_proj"},
        {"blk.12.attn_output", "model.layers.12.self_attn.o_proj"},
        {"blk.12.ffn_gate", "model.layers.12.mlp.gate_proj"},
        {"blk.12.ffn_up", "model.layers.12.mlp.up_proj"},
        {"blk.12.ffn_down", "model.layers.12.mlp.down_proj"},
    };
    for (const auto& [gguf, layer] : names) {
        CHECK(io::gguf_name_of_layer(layer) == gguf);
        CHECK(io::layer_of_gguf_name(gguf) == layer);
    }
    for (const char* name : {"", "blk", "blk.", "blk.0", "blk.x.attn_q", "blk.-1.attn_q", "blk.01.attn_q",
                             "blk.0.attn_q.weight", "blk.99999999999999999999.attn_q", "model.norm"})
        CHECK_FALSE(io::layer_of_gguf_name(name));
    CHECK_FALSE(io::gguf_name_of_layer("output"));
}

TEST_CASE("a model is written and comes back bit by bit", "[io]") {
    const TempFolder folder;
    for (const char* format : {"f32", "f16", "bf16"}) {
        INFO(format);
        io::ModelFile model = small_model(*parse_format(format));
        model.linears.at("model.layers.0.mlp.up_proj").bias.assign(20, 0.25f);
        const auto written = io::write_gguf_model(folder / "m.gguf", model, nullptr, {"a name", 1});
        INFO(message(written));
        REQUIRE(written);
        const auto back = io::read_gguf_model(folder / "m.gguf");
        INFO(message(back));
        REQUIRE(back);
        model.metadata = back->metadata;
        CHECK(difference(*back, model) == "");
        CHECK(back->metadata.at("name") == "a name");
    }
}

TEST_CASE("models that GGUF cannot hold are refused", "[io]") {
    const io::ModelFile good = small_model(float_format(Scalar::f32));
    REQUIRE(io::gguf_tensors(good));
    const auto refused = [&](const auto& change, std::string_view part) {
        io::ModelFile model = good;
        change(model);
        const std::string said = message(io::gguf_tensors(model));
        INFO(said);
        CHECK(contains(said, part));
    };
    const std::string up = "model.layers.0.mlp.up_proj";
    refused([](io::ModelFile& m) { m.shape = {}; }, "no architecture");
    refused([](io::ModelFile& m) { m.linears.erase("lm_head"); }, "has no 'lm_head'");
    refused([](io::ModelFile& m) { m.vectors.erase("model.norm"); }, "has no 'model.norm'");
    refused([](io::ModelFile& m) { m.vectors["model.other"] = {1.0f}; }, "GGUF would lose the others");
    refused([&](io::ModelFile& m) { m.linears[up].transform.channel_scales.assign(24, 2.0f); },
            "an input transform");
    refused([](io::ModelFile& m) { m = small_model(*parse_format("int4-g8")); },
            "no type of ggml has the grid of int4-g8");
    refused([](io::ModelFile& m) { m.shape.hidden = 21; }, "asks for");

    io::Vocabulary vocabulary{std::vector<std::string>(11, "a"), std::vector<float>(11), {}};
    vocabulary.guess_kinds();
    CHECK(io::gguf_metadata(good, &vocabulary, {}));
    vocabulary.eos = 11;
    CHECK(contains(message(io::gguf_metadata(good, &vocabulary, {})), "eos_token_id' would be 11"));
    vocabulary.eos = 2;
    vocabulary.pieces.emplace_back("b");
    CHECK(contains(message(io::gguf_metadata(good, &vocabulary, {})), "the tokenizer has 12 tokens"));
}
