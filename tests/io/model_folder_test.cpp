#include "fewbit/io/model_folder.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "fewbit/io/model_safetensors.hpp"
#include "fewbit/model/transformer.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "io_support.hpp"
#include "support/catch.hpp"
#include "support/toy_model.hpp"
#include "word_support.hpp"

using namespace fewbit;
using namespace fewbit_test;
using io::FolderLayout;
using Json = nlohmann::json;

namespace {

constexpr const char* q0 = "model.layers.0.self_attn.q_proj";
constexpr const char* down1 = "model.layers.1.mlp.down_proj";

/// A toy of sizes that every layout takes; blocks quantized, embedding and head as they are.
io::ModelFile quantized_toy(const std::string& format, bool tied = false, bool head = false) {
    io::ModelFile model = testing::toy_model(testing::toy_shape(4, 4, 8, 64, 2, 32, 16, tied), 5);
    model.metadata["tokenizer"] = "a test's own";
    for (auto& [name, linear] : model.linears) {
        if (name == "model.embed_tokens" || (name == "lm_head" && !head)) continue;
        if (format == "f32") continue;
        Matrix values(linear.n(), linear.k());
        for (std::size_t r = 0; r < linear.n(); ++r) linear.weights.dequantize(r, 0, values.row(r));
        auto quantized = quantize(std::as_const(values).view(), {}, *parse_format(format), RtnOptions{});
        REQUIRE(quantized);
        linear.weights = quantized->linear.weights;
    }
    return model;
}

std::vector<float> logits_of(const io::ModelFile& model, const char* activations) {
    const auto transformer =
        model::Transformer::create(model, {*parse_activation_format(activations), Fallback::allow}, {});
    REQUIRE(message(transformer) == "");
    const std::vector<int> tokens{1, 9, 3, 30, 12};
    auto cache = model::KvCache::create(model.shape, tokens.size());
    REQUIRE(cache);
    Matrix logits(tokens.size(), model.shape.vocabulary);
    REQUIRE(transformer->forward(tokens, *cache, logits.view()));
    return {logits.values().begin(), logits.values().end()};
}

Json config_in(const fs::path& folder) { return Json::parse(read_file(folder / "config.json")); }

std::string refusal(const io::ModelFile& model, FolderLayout layout) {
    const TempFolder folder;
    const auto done = io::write_model_folder(folder / "out", model, layout);
    CHECK_FALSE(fs::exists(folder / "out"));
    return done ? std::string() : done.error().message;
}

struct Case {
    const char* format;
    FolderLayout layout;
    const char* comes_back;
};

}  // namespace

TEST_CASE("model folders: the model comes back bit by bit and computes the same logits", "[io]") {
    constexpr auto gptq = FolderLayout::gptq, compressed = FolderLayout::compressed_tensors;
    const std::vector<Case> cases{{"int4-g32", gptq, "int4-g32"},
                                  {"int4-g32-asym", gptq, "int4-g32-asym"},
                                  {"int8-g16-sbf16", gptq, "int8-g16-sbf16"},
                                  {"int4-channel-sf16", gptq, "int4-channel-sf16"},
                                  {"int4-g32-narrow", gptq, "int4-g32"},
                                  {"int3-g9-asym", gptq, "int3-g9-asym"},
                                  {"int2-g8", gptq, "int2-g8"},
                                  {"int4-g32", compressed, "int4-g32"},
                                  {"int4-g16-asym", compressed, "int4-g16-asym"},
                                  {"int8-channel", compressed, "int8-channel"},
                                  {"int8-channel-asym-sf16", compressed, "int8-channel-asym-sf16"},
                                  {"int8-g32", compressed, "int8-g32"},
                                  {"int5-channel-narrow", compressed, "int5-channel"},
                                  {"int3-g8-asym-sbf16", compressed, "int3-g8-asym-sbf16"}};
    for (const Case& one : cases)
        for (const bool tied : {false, true}) {
            INFO(one.format << " as " << io::name(one.layout) << (tied ? ", tied" : ""));
            const TempFolder folder;
            const io::ModelFile model = quantized_toy(one.format, tied, !tied);
            const auto written = io::write_model_folder(folder / "out", model, one.layout);
            REQUIRE((written ? "" : written.error().message) == "");
            const auto back = io::read_safetensors_model(folder / "out");
            REQUIRE(message(back) == "");
            CHECK(back->linears.at(q0).weights.format() == *parse_format(one.comes_back));
            if (std::string(one.format) == one.comes_back) CHECK(difference(model, *back) == "");
            for (const char* activations : {"f32", "int8-g32"})
                CHECK(same_bits(logits_of(model, activations), logits_of(*back, activations)));
            const auto again = io::write_model_folder(folder / "again", *back, one.layout);
            REQUIRE(again);
            for (const char* file : {"model.safetensors", "config.json"})
                CHECK(read_file(folder / "out" / file) == read_file(folder / "again" / file));
        }
}

TEST_CASE("model folders: rows of q_proj and k_proj are Hugging Face's", "[io]") {
    const TempFolder folder;
    const io::ModelFile model = quantized_toy("int8-channel");
    REQUIRE(io::write_model_folder(folder / "out", model, FolderLayout::compressed_tensors));
    const auto file = io::open_safetensors(folder / "out" / "model.safetensors");
    REQUIRE(file);
    for (const char* name : {q0, "model.layers.1.self_attn.k_proj", "model.layers.0.self_attn.v_proj"}) {
        const auto& w = model.linears.at(name).weights;
        const Tensor codes = *file->tensor(std::string(name) + ".weight");
        const Tensor scales = *file->tensor(std::string(name) + ".weight_scale");
        const bool rotary = std::string(name).find("v_proj") == std::string::npos;
        for (std::size_t r = 0; r < w.n(); ++r) {
            // Heads of 8: rows 0..3 of the file are the even ones, rows 4..7 the odd ones.
            const std::size_t in_head = r % 8, from = !rotary       ? r
                                                      : in_head < 4 ? r - in_head + 2 * in_head
                                                                    : r - in_head + 2 * (in_head - 4) + 1;
            CHECK(codes.as<std::int8_t>()[r * w.k() + 5] == w.codes.code(from, 5) - 128);
            CHECK(scales.as<float>()[r] == w.scale(from, 0));
        }
    }
}

TEST_CASE("model folders: config.json", "[io]") {
    const TempFolder folder;
    io::ModelFile model = quantized_toy("int4-g32");
    REQUIRE(io::write_model_folder(folder / "g", model, FolderLayout::gptq));
    Json config = config_in(folder / "g");
    CHECK(config["architectures"] == Json::array({"LlamaForCausalLM"}));
    CHECK(config["hidden_size"] == 32);
    CHECK(config["intermediate_size"] == 64);
    CHECK(config["num_key_value_heads"] == 4);
    CHECK(config["head_dim"] == 8);
    CHECK(config["rms_norm_eps"] == 1e-5);
    CHECK(config["rope_theta"] == 10000.0);
    CHECK(config["tie_word_embeddings"] == false);
    CHECK(config["attention_bias"] == false);
    CHECK(config["torch_dtype"] == "float16");
    const Json& gptq = config["quantization_config"];
    CHECK(gptq["quant_method"] == "gptq");
    CHECK(gptq["bits"] == 4);
    CHECK(gptq["group_size"] == 32);
    CHECK(gptq["sym"] == true);
    CHECK(gptq["desc_act"] == false);
    CHECK(gptq["lm_head"] == false);
    CHECK(gptq["checkpoint_format"] == "gptq");
    CHECK_FALSE(gptq.contains("dynamic"));

    // A zero point of 0 anywhere: all of the model as v2. A layer that stays float is named.
    model = quantized_toy("int4-channel-asym-sf16", false, true);
    auto& zeros = model.linears.at(down1).weights.zeros;
    zeros.pack_row(0, std::vector<std::uint8_t>{0});
    model.linears.at(q0) = quantized_toy("f32").linears.at(q0);
    REQUIRE(io::write_model_folder(folder / "v2", model, FolderLayout::gptq));
    config = config_in(folder / "v2")["quantization_config"];
    CHECK(config["checkpoint_format"] == "gptq_v2");
    CHECK(config["group_size"] == -1);
    CHECK(config["sym"] == false);
    CHECK(config["lm_head"] == true);
    CHECK(config["dynamic"] == Json{{"-:^model\\.layers\\.0\\.self_attn\\.q_proj$", Json::object()}});
    CHECK(difference(model, *io::read_safetensors_model(folder / "v2")) == "");

    model = quantized_toy("int4-g32-sbf16");
    model.linears.at(down1) = quantized_toy("f32").linears.at(down1);
    REQUIRE(io::write_model_folder(folder / "c", model, FolderLayout::compressed_tensors));
    config = config_in(folder / "c");
    CHECK(config["torch_dtype"] == "bfloat16");
    config = config["quantization_config"];
    CHECK(config["quant_method"] == "compressed-tensors");
    CHECK(config["format"] == "pack-quantized");
    CHECK(config["quantization_status"] == "compressed");
    CHECK(config["ignore"] == Json::array({down1, "lm_head"}));
    const Json& group = config["config_groups"]["group_0"];
    CHECK(group["targets"] == Json::array({"Linear"}));
    CHECK(group["weights"]["num_bits"] == 4);
    CHECK(group["weights"]["strategy"] == "group");
    CHECK(group["weights"]["group_size"] == 32);
    CHECK(group["weights"]["symmetric"] == true);
}

TEST_CASE("model folders: several formats, biases and inputs in another order", "[io]") {
    const TempFolder folder;
    io::ModelFile model = quantized_toy("int4-g32");
    model.linears.at(down1) = quantized_toy("int8-channel-asym-sf16").linears.at(down1);
    CHECK(contains(refusal(model, FolderLayout::gptq), "one format for all"));
    model.linears.at("model.layers.0.mlp.down_proj") =
        quantized_toy("int4-g32").linears.at("model.layers.0.mlp.down_proj");
    std::mt19937 random(37);
    for (auto& [name, linear] : model.linears) {
        if (name.find("self_attn") == std::string::npos) continue;
        for (std::size_t r = 0; r < linear.n(); ++r)
            linear.bias.push_back(static_cast<float>(r) /
                                  (name.find("q_proj") != std::string::npos ? 3.0f : 4.0f));
    }
    std::vector<std::uint32_t> order;
    for (std::uint32_t j = 0; j < 64; ++j) order.push_back(j < 32 ? 2 * j : 2 * (j - 32) + 1);
    model.linears.at("model.layers.0.mlp.down_proj").transform.permutation = order;
    REQUIRE(io::write_model_folder(folder / "c", model, FolderLayout::compressed_tensors));
    const auto back = io::read_safetensors_model(folder / "c");
    REQUIRE(message(back) == "");
    CHECK(difference(model, *back) == "");
    CHECK(same_bits(logits_of(model, "f32"), logits_of(*back, "f32")));
    const Json config = config_in(folder / "c");
    CHECK(config["attention_bias"] == true);
    CHECK(config["mlp_bias"] == false);
    CHECK(config["quantization_config"]["format"] == "mixed-precision");
    CHECK(config["quantization_config"]["config_groups"].size() == 2);
    const auto file = io::open_safetensors(folder / "c" / "model.safetensors");
    CHECK(file->find("model.layers.0.self_attn.v_proj.bias")->type == io::SafetensorsType::f16);  // quarters
    CHECK(file->find(std::string(q0) + ".bias")->type == io::SafetensorsType::f32);               // thirds

    model = quantized_toy("int4-g32-asym");
    for (auto& [name, linear] : model.linears)
        if (linear.weights.format().is_float() == false) raise_zeros(linear.weights);
    model.linears.at("model.layers.0.mlp.down_proj").transform.permutation = order;
    REQUIRE(io::write_model_folder(folder / "g", model, FolderLayout::gptq));
    CHECK(config_in(folder / "g")["quantization_config"]["desc_act"] == true);
    CHECK(config_in(folder / "g")["quantization_config"]["checkpoint_format"] == "gptq");
    CHECK(difference(model, *io::read_safetensors_model(folder / "g")) == "");
}

TEST_CASE("model folders: what they cannot hold is refused before anything is written", "[io]") {
    for (const auto layout : {FolderLayout::gptq, FolderLayout::compressed_tensors}) {
        io::ModelFile model = quantized_toy("f32");
        CHECK(contains(refusal(model, layout), "no layer is quantized"));
        CHECK(contains(refusal(quantized_toy("int4-g32-fzero"), layout), "int4-g32-asym fits"));
        CHECK(contains(refusal(quantized_toy("q8_0"), layout), ".gguf"));
        CHECK(contains(refusal(quantized_toy("nf4-g32"), layout), "not codebooks; int4-g128 is one"));
        CHECK(contains(refusal(quantized_toy("int4-g32-asym-dq"), layout), "int4-g32-asym fits"));
        model = quantized_toy("int4-g32");
        model.linears["model.embed_tokens"].weights = model.linears["lm_head"].weights =
            *QuantizedMatrix::allocate(*parse_format("int4-g32"), 32, 32);
        CHECK(contains(refusal(model, layout), "an embedding stays as floats"));
        model = quantized_toy("int4-g32");
        model.linears[q0].transform.channel_scales.assign(32, 1.0f);
        CHECK(contains(refusal(model, layout), "channel scales"));
        model = quantized_toy("int4-g32");
        model.linears[q0].columns.channels = {1};
        model.linears[q0].columns.values = *QuantizedMatrix::allocate(float_format(Scalar::f32), 32, 1);
        CHECK(contains(refusal(model, layout), "float columns"));
        model = quantized_toy("int4-g32");
        model.linears[q0].bias.assign(32, 1.0f);
        CHECK(contains(refusal(model, layout), "1 of 8 matrices"));
        model = quantized_toy("int4-g32");
        model.metadata["fewbit.version"] = "1";
        CHECK(contains(refusal(model, layout), "fewbit.version"));
        model = quantized_toy("int4-g32");
        model.linears["stranger"] = model.linears[q0];
        CHECK(contains(refusal(model, layout), "'stranger' is not part of a llama model"));
        model.shape = {};
        CHECK(contains(refusal(model, layout), "no architecture"));
    }
    CHECK(contains(refusal(quantized_toy("int8-channel"), FolderLayout::gptq), "int8-channel-sf16 fits"));
    CHECK(contains(refusal(quantized_toy("int6-g32"), FolderLayout::gptq), "compressed-tensors"));
}

TEST_CASE("model folders: AutoGPTQ's quantize_config.json, other spellings, and warnings", "[io]") {
    const TempFolder folder;
    const io::ModelFile model = quantized_toy("int4-g32");
    REQUIRE(io::write_model_folder(folder / "m", model, FolderLayout::gptq));
    Json config = config_in(folder / "m");
    config.erase("quantization_config");
    write_file(folder / "m" / "config.json", config.dump());
    CHECK(contains(message(io::read_safetensors_model(folder / "m")), "quantize_config.json"));
    const auto with = [&](const std::string& json) {
        write_file(folder / "m" / "quantize_config.json", json);
        const auto back = io::read_safetensors_model(folder / "m");
        return back ? difference(model, *back) : back.error().message;
    };
    CHECK(with(R"({"bits":4,"group_size":32,"desc_act":false,"sym":true})") == "");
    CHECK(with(R"({"w_bit":4,"q_group_size":32,"quant_method":"gptq","format":"gptq"})") == "");
    CHECK(contains(with(R"({"bits":4,"group_size":32,"checkpoint_format":"marlin"})"), "'marlin'"));
    CHECK(contains(with(R"({"bits":4,"group_size":32,"is_marlin_format":true})"), "is_marlin_format"));
    CHECK(contains(with(R"({"bits":4,"group_size":32,"pack_dtype":"int16"})"), "'int16'"));
    CHECK(contains(with(R"({"bits":4,"group_size":32,"dynamic":{"+:.*q_proj":{"bits":8}}})"), "dynamic"));
    CHECK(with(R"({"bits":4,"group_size":32,"dynamic":{"-:.*lm_head":{}}})") == "");

    // v2 read as v1: zeros of 8 become 9, none wraps. All ones do, and that is said.
    auto tensors = io::load_tensors(folder / "m" / "model.safetensors")->tensors;
    Tensor zeros = *Tensor::allocate(Scalar::i32, tensors.at(std::string(q0) + ".qzeros").shape());
    std::ranges::fill(zeros.mutable_bytes(), std::byte{0xFF});
    tensors.at(std::string(q0) + ".qzeros") = zeros;
    REQUIRE(io::save_tensors(folder / "m" / "model.safetensors", tensors));
    write_file(folder / "m" / "quantize_config.json", R"({"bits":4,"group_size":32})");
    const auto back = io::read_safetensors_model(folder / "m");
    REQUIRE(message(back) == "");
    CHECK(contains(back->metadata.at("warning"), "32 zero points"));
    CHECK(back->linears.at(q0).weights.zero(3, 0) == 0);
}

TEST_CASE("model folders: hostile configs and tensors", "[io][hostile]") {
    const TempFolder folder;
    for (const auto layout : {FolderLayout::gptq, FolderLayout::compressed_tensors}) {
        const bool gptq = layout == FolderLayout::gptq;
        REQUIRE(io::write_model_folder(folder / "m", quantized_toy("int4-g32"), layout));
        const Json good = config_in(folder / "m");
        const auto read = [&] { return message(io::read_safetensors_model(folder / "m")); };
        const auto with = [&](const char* pointer, const Json& value) {
            Json config = good;
            config["quantization_config"][Json::json_pointer(pointer)] = value;
            write_file(folder / "m" / "config.json", config.dump());
            INFO(pointer << " = " << value.dump());
            return read();
        };
        const char* bits = gptq ? "/bits" : "/config_groups/group_0/weights/num_bits";
        const char* group = gptq ? "/group_size" : "/config_groups/group_0/weights/group_size";
        for (const Json& wrong :
             {Json(0), Json(-4), Json(4.5), Json("4"), Json(1000), Json(1e300), Json(true)})
            CHECK(contains(with(bits, wrong), bits + std::string(bits).rfind('/') + 1));
        for (const Json& wrong : {Json(0), Json(-2), Json(1.5), Json("x"), Json(-1e300), Json(false)})
            CHECK(contains(with(group, wrong), "group_size"));
        for (const Json& wrong : {Json(16), Json(33), Json(18446744073709551615ull), Json(-1)})
            CHECK(with(group, wrong) != "");
        CHECK(with(bits, 8) != "");
        CHECK(contains(with("/quant_method", "awq"), "'awq' is not read"));
        CHECK(contains(with("/quant_method", Json()), "is not read"));
        if (!gptq) {
            CHECK(contains(with("/config_groups", Json::object()), "config_groups"));
            CHECK(contains(with("/config_groups/group_0/format", "nvfp4-pack-quantized"), "nvfp4"));
            CHECK(contains(with("/config_groups/group_0/weights/strategy", "tensor"), "'tensor'"));
            CHECK(contains(with("/config_groups/group_0/weights/type", "float"), "'float'"));
            CHECK(contains(with("/config_groups/group_1",
                                {{"targets", Json::array({"re:.*"})}, {"weights", {{"num_bits", 4}}}}),
                           "'re:.*'"));
            CHECK(contains(with("/kv_cache_scheme", {{"num_bits", 8}}), "kv_cache_scheme"));
            CHECK(contains(with("/config_groups/group_0/weights/symmetric", false),
                           "weight_zero_point is missing"));
        }
        Json no_config = good;
        no_config.erase("quantization_config");
        write_file(folder / "m" / "config.json", no_config.dump());
        CHECK(contains(read(), gptq ? "quantize_config.json" : "belongs to no layer"));
        write_file(folder / "m" / "config.json", good.dump());
        REQUIRE(read() == "");

        const auto tensors = io::load_tensors(folder / "m" / "model.safetensors")->tensors;
        const auto changed = [&](const std::string& name, const std::optional<Tensor>& tensor) {
            auto more = tensors;
            more.erase(name);
            if (tensor) more[name] = *tensor;
            REQUIRE(io::save_tensors(folder / "m" / "model.safetensors", more));
            return read();
        };
        const std::string layer = q0;
        for (const char* part : gptq ? std::vector<const char*>{".qzeros", ".scales"}
                                     : std::vector<const char*>{".weight_shape", ".weight_scale"}) {
            CHECK(contains(changed(layer + part, {}), part + 1));
            CHECK(contains(changed(layer + part, words_tensor({1}, {7})), "q_proj"));
        }
        const std::string weight = layer + (gptq ? ".qweight" : ".weight_packed");
        CHECK(changed(weight, {}) != "");
        CHECK(contains(changed(weight, words_tensor({0, 32}, {})), "q_proj"));
        CHECK(contains(changed(weight, words_tensor({2}, {1, 2})), "q_proj"));
        CHECK(contains(changed(weight, words_tensor({8, 8}, std::vector<std::uint32_t>(64))), "q_proj"));
        CHECK(contains(changed("model.layers.7.mlp.up_proj" + weight.substr(layer.size()),
                               words_tensor({4, 32}, std::vector<std::uint32_t>(128))),
                       "model.layers.7"));
        CHECK(contains(changed("stranger" + weight.substr(layer.size()), words_tensor({1}, {1})),
                       "not part of a llama model"));
        CHECK(contains(changed(layer + ".weight_scale_2", words_tensor({1}, {1})), "belongs to no layer"));
        CHECK(contains(changed(layer + (gptq ? ".g_idx" : ".weight_g_idx"),
                               words_tensor({32}, std::vector<std::uint32_t>(32, 5))),
                       "group 5"));
        CHECK(contains(changed(layer + ".weight", words_tensor({2, 2}, {1, 2, 3, 4})), "q_proj"));
    }
}
