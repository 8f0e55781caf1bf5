// Model files whose parts are sound and whose sum is a lie.
#include <functional>

#include "fewbit/core/text.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "io_support.hpp"
#include "model_support.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

const std::string up = "model.layers.0.mlp.up_proj";
const std::string query = "model.layers.0.self_attn.q_proj";

Tensor zeros(Scalar type, Tensor::Shape shape) {
    auto tensor = *Tensor::allocate(type, std::move(shape));
    for (std::byte& byte : tensor.mutable_bytes()) byte = std::byte{0};
    return tensor;
}

Tensor words(const std::vector<std::uint32_t>& values) {
    auto tensor = *Tensor::allocate(Scalar::u32, {values.size()});
    std::copy(values.begin(), values.end(), tensor.as_mutable<std::uint32_t>().begin());
    return tensor;
}

std::vector<std::uint32_t> counting(std::uint32_t count) {
    std::vector<std::uint32_t> values(count);
    for (std::uint32_t i = 0; i < count; ++i) values[i] = i;
    return values;
}

struct Lie {
    const char* what;
    std::function<void(io::NamedTensors&)> tell;
    std::string sentence;
};

std::vector<Lie> lies() {
    const auto set = [](const std::string& key, const std::string& value) {
        return [=](io::NamedTensors& file) { file.metadata["fewbit." + key] = value; };
    };
    const auto drop = [](const std::string& key) {
        return [=](io::NamedTensors& file) { file.metadata.erase("fewbit." + key); };
    };
    const auto put = [](const std::string& name, const Tensor& tensor) {
        return [=](io::NamedTensors& file) { file.tensors[name] = tensor; };
    };
    const auto lose = [](const std::string& name) {
        return [=](io::NamedTensors& file) { file.tensors.erase(name); };
    };
    auto twice = counting(24), far = counting(24);
    twice[3] = 4;
    far[7] = 24;
    Tensor scales = zeros(Scalar::f32, {24});
    return {
        {"no version", drop("version"), "no 'fewbit.version'"},
        {"later version", set("version", "2"), "layout version '2'"},
        {"version text", set("version", "1.0"), "layout version '1.0'"},
        {"unknown key", set("secret", "1"), "'fewbit.secret' is not known"},
        {"unknown model key", set("model.experts", "8"), "more about the model"},
        {"model key missing", drop("model.heads"), "lacks 'fewbit.model.heads'"},
        {"model number missing", drop("model.rope_base"), "lacks 'fewbit.model.rope_base'"},
        {"tied missing", drop("model.tied_head"), "lacks 'fewbit.model.tied_head'"},
        {"heads is no count", set("model.heads", "-4"), "'-4', not a count"},
        {"heads is hexadecimal", set("model.heads", "0x4"), "not a count"},
        {"heads overflows", set("model.heads", "18446744073709551616"), "not a count"},
        {"zero heads", set("model.heads", "0"), "number of heads is 0"},
        {"billions of heads", set("model.heads", "4294967296"), "number of heads"},
        {"heads not divided", set("model.kv_heads", "3"), "do not divide"},
        {"odd head length", set("model.head_dim", "5"), "even"},
        {"other head length", set("model.head_dim", "8"), "12 rows, but the model has 2 such heads of 8"},
        {"fewer layers", set("model.layers", "1"), "1 layers does not have"},
        {"endless layers", set("model.layers", "99999999999"), "number of layers"},
        {"huge context", set("model.context", "9999999999999"), "context"},
        {"other width", set("model.dim", "32"), "shape asks for"},
        {"other vocabulary", set("model.vocabulary", "12"), "12 x 24"},
        {"base is NaN", set("model.rope_base", "nan"), "rotary base"},
        {"base is infinite", set("model.rope_base", "inf"), "rotary base"},
        {"base is zero", set("model.rope_base", "0"), "rotary base"},
        {"epsilon is negative", set("model.norm_epsilon", "-1"), "norm epsilon"},
        {"epsilon is text", set("model.norm_epsilon", "1e-5x"), "not a number"},
        {"tied is text", set("model.tied_head", "yes"), "'true' or 'false'"},
        {"tied, but a head is there", set("model.tied_head", "true"), "'lm_head' of its own"},
        {"unknown format", set("format." + up, "int4-g8-magic"), "'int4-g8-magic' is not a format"},
        {"format with newline", set("format." + up, "int4\n"), "'int4\\x0a'"},
        {"empty format", set("format." + up, ""), "'' is not a format"},
        {"float format for codes", set("format." + up, "f32"), "a float layer"},
        {"other bits", set("format." + up, "int4-g8-asym"), "asks for U8 (20, 12)"},
        {"other groups", set("format." + up, "int3-g16-asym"), "F16 (20, 2)"},
        {"other scale type", set("format." + up, "int3-g8-asym-sf32"), "F32 (20, 3)"},
        {"per tensor", set("format." + up, "int3-tensor-asym"), "F32 (1, 1)"},
        {"symmetric, zeros left over", set("format." + up, "int3-g8"),
         up + ".weight.zeros' belongs to no layer"},
        {"float offsets missing", set("format." + up, "int3-g8-fzero"), up + ".weight.offsets' is missing"},
        {"format of nothing", set("format.model.layers.0.mlp.side_proj", "int3-g8-asym"), "is missing"},
        {"format of a float layer", set("format.model.embed_tokens", "int3-g8-asym"), "is missing"},
        {"format without k", drop("k." + up), "up_proj' is missing or not a count"},
        {"k without format", set("k.nothing", "3"), "belongs to no 'fewbit.format.nothing'"},
        {"k is no count", set("k." + up, "24.0"), "not a count"},
        {"k too small", set("k." + up, "16"), "asks for U8 (20, 6)"},
        {"k one less, same groups", set("k." + up, "23"), "bits behind the last code"},
        {"k overflows", set("k." + up, "18446744073709551615"), "overflows"},
        {"codes missing", lose(up + ".weight.codes"), up + ".weight.codes' is missing"},
        {"scales missing", lose(up + ".weight.scales"), up + ".weight.scales' is missing"},
        {"zeros missing", lose(up + ".weight.zeros"), up + ".weight.zeros' is missing"},
        {"codes of another type", put(up + ".weight.codes", zeros(Scalar::i8, {20, 9})), "I8 (20, 9)"},
        {"codes flat", put(up + ".weight.codes", zeros(Scalar::u8, {180})), "not two extents"},
        {"codes of fewer rows", put(up + ".weight.codes", zeros(Scalar::u8, {19, 9})), "(19, 3)"},
        {"codes of no rows", put(up + ".weight.codes", zeros(Scalar::u8, {0, 9})), "(0, 0)"},
        {"query of fewer rows", put(query + ".weight.codes", zeros(Scalar::u8, {23, 9})),
         "4 such heads of 6"},
        {"scales flat", put(up + ".weight.scales", zeros(Scalar::f16, {60})), "F16 (60)"},
        {"extra tensor", put("left.over", zeros(Scalar::u8, {1})), "'left.over' belongs to no layer"},
        {"extra part", put(up + ".weight.extra", zeros(Scalar::u8, {1})), "belongs to no layer"},
        {"offsets beside zeros", put(up + ".weight.offsets", zeros(Scalar::f16, {20, 3})),
         "belongs to no layer"},
        {"bias of nothing", put("nothing.bias", zeros(Scalar::f32, {3})), "belongs to no layer"},
        {"codes and floats", put(up + ".weight", zeros(Scalar::f32, {20, 24})),
         "both as floats and as codes"},
        {"bias too short", put(up + ".bias", zeros(Scalar::f32, {19})), "not 20 values"},
        {"bias of integers", put(up + ".bias", zeros(Scalar::i32, {20})), "I32"},
        {"channel scales too long", put(up + ".channel_scales", zeros(Scalar::f32, {25})), "not 24 values"},
        {"channel scale of zero", put(up + ".channel_scales", scales), "channel scale 0 is 0"},
        {"permutation too short", put(up + ".permutation", words(counting(23))), "U32 (23)"},
        {"permutation of another type", put(up + ".permutation", zeros(Scalar::i32, {24})), "I32 (24)"},
        {"permutation twice", put(up + ".permutation", words(twice)), "stands there twice"},
        {"permutation out of range", put(up + ".permutation", words(far)), "out of range"},
        {"columns without values", put(up + ".float_columns.channels", words({1})),
         "float_columns.values' is missing"},
        {"values without columns", put(up + ".float_columns.values", zeros(Scalar::f16, {20, 1})),
         "float_columns.channels' is missing"},
        {"columns of fewer rows",
         [=](io::NamedTensors& file) {
             file.tensors[up + ".float_columns.channels"] = words({1});
             file.tensors[up + ".float_columns.values"] = zeros(Scalar::f16, {19, 1});
         },
         "has 19 rows"},
        {"column out of range",
         [=](io::NamedTensors& file) {
             file.tensors[up + ".float_columns.channels"] = words({24});
             file.tensors[up + ".float_columns.values"] = zeros(Scalar::f16, {20, 1});
         },
         "channels ascend"},
        {"columns not ascending",
         [=](io::NamedTensors& file) {
             file.tensors[up + ".float_columns.channels"] = words({2, 2});
             file.tensors[up + ".float_columns.values"] = zeros(Scalar::f16, {20, 2});
         },
         "channels ascend"},
        {"weight of integers", put("model.embed_tokens.weight", zeros(Scalar::i32, {11, 24})),
         "not a matrix of F32"},
        {"weight of three dimensions", put("model.embed_tokens.weight", zeros(Scalar::f32, {11, 24, 1})),
         "not a matrix"},
        {"weight without dimensions", put("model.embed_tokens.weight", zeros(Scalar::f32, {})),
         "not a matrix"},
        {"matrix where a vector belongs", put("model.norm.weight", zeros(Scalar::f32, {1, 24})),
         "a vector of 24"},
        {"vector where a matrix belongs", put("model.embed_tokens.weight", zeros(Scalar::f32, {264})),
         "11 x 24"},
        {"norm too long", put("model.norm.weight", zeros(Scalar::f32, {25})), "a vector of 25"},
        {"norm of integers", put("model.norm.weight", zeros(Scalar::i64, {24})), "I64"},
        {"path in a name", put("../../etc/passwd.weight", zeros(Scalar::f32, {1})),
         "not the name of a layer"},
        {"backslash in a name", put("a\\b.weight", zeros(Scalar::f32, {1})), "not the name of a layer"},
        {"blank in a name", put("a b.weight", zeros(Scalar::f32, {1})), "not the name of a layer"},
        {"no name", put(".weight", zeros(Scalar::f32, {1})), "not the name of a layer"},
        {"empty word in a name", put("a..b.weight", zeros(Scalar::f32, {1})), "not the name of a layer"},
        {"layer number too large", put("model.layers.2.input_layernorm.weight", zeros(Scalar::f32, {24})),
         "does not have"},
        {"layer number huge",
         put("model.layers.18446744073709551615.input_layernorm.weight", zeros(Scalar::f32, {24})),
         "does not have"},
        {"dirty padding",
         put("model.layers.0.mlp.down_proj.weight.codes",
             [] {
                 Tensor tensor = zeros(Scalar::u8, {24, 8});  // 20 codes of 3 bits: 60 of 64 bits
                 tensor.mutable_bytes()[7] = std::byte{0x10};
                 return tensor;
             }()),
         "bits behind the last code"},
    };
}

}  // namespace

TEST_CASE("model files that contradict themselves", "[io][hostile]") {
    const TempFolder folder;
    const auto model = small_model(*parse_format("int3-g8-asym"));
    REQUIRE(io::write_safetensors_model(folder / "good", model));
    const auto good = io::load_tensors(folder / "good");
    REQUIRE(good);
    const auto all = lies();
    CHECK(all.size() >= 60);
    for (const Lie& lie : all) {
        INFO(lie.what);
        io::NamedTensors file = *good;
        lie.tell(file);
        REQUIRE(message(io::save_tensors(folder / "bad", file.tensors, file.metadata)) == "");
        const auto read = io::read_safetensors_model(folder / "bad");
        REQUIRE_FALSE(read);
        INFO(read.error().message);
        CHECK(contains(read.error().message, (folder / "bad").string()));
        CHECK(contains(read.error().message, lie.sentence));
    }
}

TEST_CASE("every flipped bit of a model's header gives an error or a sound model", "[io][hostile]") {
    const TempFolder folder;
    io::ModelFile model;
    std::mt19937 random(9);
    model.linears["a"] = random_linear(*parse_format("int3-g8-asym"), 3, 9, random, true);
    model.vectors["n"] = {1, 2};
    REQUIRE(io::write_safetensors_model(folder / "m", model));
    const std::string seed = read_file(folder / "m");
    const auto parsed = parse(seed);
    REQUIRE(parsed);
    REQUIRE(message(io::read_safetensors_model(*parsed, folder.path())) == "");
    std::size_t data_bytes = 0, accepted = 0;
    for (const auto& [name, entry] : parsed->entries()) data_bytes += entry.size_bytes;
    for (std::size_t i = 0; i < seed.size() - data_bytes; ++i)
        for (int bit = 0; bit < 8; ++bit) {
            std::string bytes = seed;
            bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
            const auto file = parse(bytes);
            if (!file) continue;
            const auto read = io::read_safetensors_model(*file, folder.path());
            if (!read) continue;
            ++accepted;
            for (const auto& [name, linear] : read->linears) {
                std::vector<float> row(linear.k());
                for (std::size_t r = 0; r < linear.n(); ++r) linear.weights.dequantize(r, 0, row);
            }
        }
    CHECK(accepted > 0);
}

TEST_CASE("the writer refuses models that could not be read back", "[io]") {
    const TempFolder folder;
    const auto good = small_model(*parse_format("int4-g8"), true);
    const auto refused = [&](const std::function<void(io::ModelFile&)>& spoil) {
        io::ModelFile model = good;
        spoil(model);
        const std::string sentence = message(io::write_safetensors_model(folder / "out", model));
        CHECK(contains(sentence, "out"));
        CHECK(folder.files() == 0);
        return sentence;
    };
    CHECK(contains(refused([](auto& m) { m.metadata["fewbit.version"] = "7"; }), "keeps for itself"));
    CHECK(contains(refused([](auto& m) { m.metadata["a"] = "\xff"; }), "UTF-8"));
    CHECK(contains(refused([](auto& m) { m.shape.kv_heads = 3; }), "do not divide"));
    CHECK(contains(refused([](auto& m) { m.shape.layers = 1; }), "does not have"));
    CHECK(contains(refused([](auto& m) { m.shape.tied_head = true; }), "lm_head"));
    CHECK(contains(refused([](auto& m) { m.linears["../x"] = m.linears[up]; }), "not the name"));
    CHECK(contains(refused([](auto& m) { m.linears[std::string("a\0b", 3)] = m.linears[up]; }),
                   "not the name"));
    CHECK(contains(refused([](auto& m) { m.linears["x"] = Linear(); }), "layer 'x'"));
    CHECK(contains(refused([](auto& m) { m.vectors[up] = {1}; }), "both a matrix and a vector"));
    CHECK(contains(refused([](auto& m) { m.linears[up].bias.pop_back(); }), "bias has 19"));
    CHECK(contains(refused([](auto& m) { m.linears[up].transform.channel_scales[2] = -1; }),
                   "channel scale 2 is -1"));
    CHECK(
        contains(refused([](auto& m) { m.linears[up].transform.permutation[2] = 99; }), "99, out of range"));
    CHECK(contains(refused([](auto& m) { m.linears[up].columns.channels.pop_back(); }), "float columns"));
    CHECK(contains(refused([](auto& m) { m.linears[up].weights.scales = Tensor(); }), "scales"));
    CHECK(contains(refused([](auto& m) { m.linears[up].weights.codes = BitMatrix(); }), "codes"));
    CHECK(contains(refused([](auto& m) { m.linears[query].weights = m.linears[up].weights; }), ""));
}

TEST_CASE("config.json that is missing something or asks for too much", "[io][hostile]") {
    const TempFolder folder;
    const auto model = small_model(*parse_format("f32"));
    REQUIRE(io::write_safetensors_model(folder / "m", model));
    const auto tensors = io::load_tensors(folder / "m")->tensors;
    REQUIRE(io::save_tensors(folder / "model.safetensors", tensors));
    const std::map<std::string, std::string> good{{"hidden_size", "24"},
                                                  {"intermediate_size", "20"},
                                                  {"num_attention_heads", "4"},
                                                  {"num_key_value_heads", "2"},
                                                  {"num_hidden_layers", "2"},
                                                  {"rms_norm_eps", "1e-6"},
                                                  {"max_position_embeddings", "64"},
                                                  {"vocab_size", "11"}};
    const auto read_with = [&](const std::string& json) {
        write_file(folder / "config.json", json);
        return message(io::read_safetensors_model(folder.path()));
    };
    const auto read_config = [&](const std::map<std::string, std::string>& keys) {
        std::string json;
        for (const auto& [key, value] : keys) json += text(json.empty() ? "{" : ",", "\"", key, "\":", value);
        return read_with(json + "}");
    };
    CHECK(read_config(good) == "");
    for (const auto& [key, value] : good) {
        if (key == "num_key_value_heads") continue;  // missing: as many as heads
        auto keys = good;
        keys.erase(key);
        CHECK(contains(read_config(keys), "lacks '" + key + "'"));
        for (const char* wrong : {"null", "-1", "\"24\"", "true", "99999999999999999999999"}) {
            if (key == "rms_norm_eps" && wrong[0] == '9') continue;
            keys[key] = wrong;
            INFO(key << " = " << wrong);
            CHECK(contains(read_config(keys), "config.json"));
        }
    }
    const auto changed = [&](const std::string& key, const std::string& value) {
        auto keys = good;
        keys[key] = value;
        return read_config(keys);
    };
    CHECK(contains(changed("model_type", "\"gemma3\""), "'gemma3'"));
    CHECK(contains(changed("hidden_act", "\"gelu\""), "'gelu'"));
    CHECK(contains(changed("rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8}"), "'llama3'"));
    CHECK(contains(changed("quantization_config", "{\"quant_method\":\"gptq\"}"), "quantization_config"));
    CHECK(contains(changed("num_key_value_heads", "3"), "do not divide"));
    CHECK(contains(changed("head_dim", "7"), "even"));
    CHECK(contains(changed("hidden_size", "26"), "26 is not a multiple of 'num_attention_heads' 4"));
    CHECK(contains(changed("vocab_size", "12"), "12 x 24"));
    CHECK(contains(changed("tie_word_embeddings", "1"), "not true or false"));
    CHECK(changed("rope_parameters", "{\"rope_theta\":5e5,\"rope_type\":\"default\"}") == "");
    CHECK(contains(read_with("[]"), "not an object"));
    CHECK(contains(read_with("3"), "not an object"));
    CHECK(contains(read_with("{"), "not valid JSON"));
    CHECK(contains(read_with("{\"a\":1,\"a\":2}"), "stands twice"));
    CHECK(contains(read_with(std::string(2'000'000, ' ')), "2000000 bytes"));
    CHECK(contains(read_with("{\"a\":" + std::string(100'000, '[')), "inside each other"));

    const auto with_tensor = [&](const std::string& name, const Tensor& tensor) {
        auto more = tensors;
        more[name] = tensor;
        REQUIRE(read_config(good) == "");
        REQUIRE(io::save_tensors(folder / "other.safetensors", more));
        return message(io::read_safetensors_model(folder / "other.safetensors"));
    };
    CHECK(contains(with_tensor("model.layers.0.mlp.experts.weight", zeros(Scalar::f32, {2, 2})),
                   "not part of a llama model"));
    CHECK(contains(with_tensor("stranger", zeros(Scalar::f32, {2, 2})), "belongs to no layer"));
    fs::remove(folder / "model.safetensors");
    write_file(folder / "model.safetensors.index.json", "{}");
    CHECK(contains(message(io::read_safetensors_model(folder.path())), "has no 'weight_map'"));
    fs::remove(folder / "model.safetensors.index.json");
    CHECK(contains(message(io::read_safetensors_model(folder.path())), "No such file"));
}
