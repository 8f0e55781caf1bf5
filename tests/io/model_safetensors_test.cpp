#include "fewbit/io/model_safetensors.hpp"

#include <algorithm>
#include <limits>

#include "io_support.hpp"
#include "model_support.hpp"
#include "support/all_formats.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

const std::string query0 = "model.layers.0.self_attn.q_proj";
const std::string key1 = "model.layers.1.self_attn.k_proj";

std::vector<std::string> all_formats() {
    std::vector<std::string> names{"f32", "f16", "bf16"};
    for (int bits = 2; bits <= 8; ++bits)
        for (const char* granularity : {"-tensor", "-channel", "-g8", "-g9", "-g16", "-g1000"})
            for (const char* offset : {"", "-narrow", "-asym", "-fzero"})
                for (const char* scale : {"-sf32", "-sf16", "-sbf16"})
                    names.push_back("int" + std::to_string(bits) + granularity + offset + scale);
    for (const auto& format : testing::codebook_and_dq_formats({8, 9, 16})) names.push_back(name(format));
    return names;
}

constexpr const char* config_json = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
  "hidden_size": 24, "intermediate_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
  "rms_norm_eps": 1e-06, "rope_theta": 12345.678, "rope_scaling": null, "max_position_embeddings": 64, "vocab_size": 11,
  "tie_word_embeddings": false, "eos_token_id": [1, 2, {"rope_theta": 3}], "quantization": {"nested": {"bits": 4}}
})";

}  // namespace

TEST_CASE("layers of every format come back bit by bit", "[io]") {
    const TempFolder folder;
    const auto formats = all_formats();
    io::ModelFile model;
    model.shape = small_shape();
    model.shape.layers = formats.size();
    std::mt19937 random(3);
    for (std::size_t i = 0; i < formats.size(); ++i) {
        const auto format = *parse_format(formats[i]);
        const std::string base = "model.layers." + std::to_string(i) + ".";
        model.linears[base + "self_attn.q_proj"] = random_linear(format, 24, 24, random);
        model.linears[base + "self_attn.k_proj"] = random_linear(format, 12, 24, random);
        model.linears[base + "mlp.down_proj"] = random_linear(format, 24, 20, random);
    }
    REQUIRE(message(io::write_safetensors_model(folder / "m", model)) == "");
    const auto back = io::read_safetensors_model(folder / "m");
    REQUIRE(message(back) == "");
    CHECK(difference(model, *back) == "");
    CHECK(formats.size() > 450);
}

TEST_CASE("a whole model with everything that a layer can have comes back, again and again", "[io]") {
    const TempFolder folder;
    for (const char* format : {"f16", "int3-g8-asym", "int4-g16", "int5-channel-fzero",
                               "int8-tensor-asym-sbf16", "nf4-g8-dq", "mxfp8"}) {
        INFO(format);
        const auto model = small_model(*parse_format(format), true);
        REQUIRE(message(io::write_safetensors_model(folder / "a", model)) == "");
        const auto back = io::read_safetensors_model(folder / "a");
        REQUIRE(message(back) == "");
        CHECK(difference(model, *back) == "");
        CHECK(back->type == "safetensors");
        REQUIRE(io::write_safetensors_model(folder / "b", *back));
        CHECK(read_file(folder / "a") == read_file(folder / "b"));
        REQUIRE(io::write_safetensors_model(folder / "a", *back));  // over the file that it borrows from
        CHECK(read_file(folder / "a") == read_file(folder / "b"));
        CHECK(difference(*back, *io::read_safetensors_model(folder / "a")) == "");
    }
}

TEST_CASE("layers of awkward sizes, and bags of layers without an architecture", "[io]") {
    const TempFolder folder;
    std::mt19937 random(5);
    io::ModelFile model;
    for (const char* format : {"f32", "bf16", "int2-g8", "int3-channel-asym", "int7-tensor", "int8-g9-fzero",
                               "nf4-g8-dq", "mxfp8"})
        for (const auto& [n, k] :
             {std::pair<std::size_t, std::size_t>{0, 0}, {0, 5}, {5, 0}, {1, 1}, {7, 13}, {3, 257}})
            model.linears[std::string(format) + "." + std::to_string(n) + "x" + std::to_string(k)] =
                random_linear(*parse_format(format), n, k, random);
    model.linears["some.self_attn.q_proj"] =
        random_linear(*parse_format("int4-g8"), 5, 9, random);  // no heads: rows stay
    model.vectors["empty"] = {};
    model.vectors["odd"] = {std::numeric_limits<float>::quiet_NaN(), -0.0f,
                            std::numeric_limits<float>::denorm_min()};
    REQUIRE(message(io::write_safetensors_model(folder / "m", model)) == "");
    const auto back = io::read_safetensors_model(folder / "m");
    REQUIRE(message(back) == "");
    CHECK(difference(model, *back) == "");
    REQUIRE(io::write_safetensors_model(folder / "none", {}));
    CHECK(difference({}, *io::read_safetensors_model(folder / "none")) == "");
}

TEST_CASE("ggml's blocks lie in the file as they are, and must fill their rows", "[io]") {
    const TempFolder folder;
    std::mt19937 random(7);
    io::ModelFile model;
    model.shape = small_shape();
    model.shape.dim = 512;
    model.shape.heads = model.shape.kv_heads = 1;
    model.shape.head_dim = 4;
    for (const char* type : {"q4_0", "q6_k", "mxfp4", "tq1_0"}) {
        const Format format = *parse_format(type);
        const std::size_t k = 512, row = ggml::row_bytes(format.block, k);
        auto blocks = *Tensor::allocate(Scalar::u8, {4, row});
        for (std::byte& byte : blocks.mutable_bytes()) byte = static_cast<std::byte>(random());
        model.linears[std::string(type) + ".up_proj"].weights =
            *QuantizedMatrix::from_blocks(format, 4, k, blocks);
    }
    model.linears[query0].weights = model.linears["q4_0.up_proj"].weights;
    REQUIRE(message(io::write_safetensors_model(folder / "m", model)) == "");
    const auto back = io::read_safetensors_model(folder / "m");
    REQUIRE(message(back) == "");
    for (const auto& [name, linear] : model.linears) {
        INFO(name);
        const QuantizedMatrix& found = back->linears.at(name).weights;
        REQUIRE(found.format() == linear.weights.format());
        CHECK(std::ranges::equal(found.blocks.bytes(), linear.weights.blocks.bytes()));
    }
    const auto bag = *io::load_tensors(folder / "m");
    // The file has the halves of a head one after the other: rows 0, 2, 1, 3 of ours.
    const auto ours = model.linears.at(query0).weights.blocks.bytes();
    const auto theirs = bag.tensors.at(query0 + ".weight.blocks").bytes();
    const std::size_t row = ours.size() / 4;
    for (const std::size_t r : {0, 1, 2, 3}) {
        const std::size_t from = r == 1 ? 2 : r == 2 ? 1 : r;
        CHECK(std::ranges::equal(theirs.subspan(r * row, row), ours.subspan(from * row, row)));
    }
    const auto refusal = [&](const std::string& key, const std::string& value) {
        auto metadata = bag.metadata;
        metadata[key] = value;
        REQUIRE(io::save_tensors(folder / "bad", bag.tensors, metadata));
        return message(io::read_safetensors_model(folder / "bad"));
    };
    CHECK(contains(refusal("fewbit.k.q4_0.up_proj", "511"), "multiple"));
    CHECK(contains(refusal("fewbit.k.q4_0.up_proj", "480"), "q4_0.up_proj.weight.blocks"));
    CHECK(contains(refusal("fewbit.format.q4_0.up_proj", "q8_0"), "q4_0.up_proj.weight.blocks"));
}

TEST_CASE("matrices borrow the file, rotary ones are copies", "[io]") {
    const TempFolder folder;
    REQUIRE(io::write_safetensors_model(folder / "m", small_model(*parse_format("int4-g8"))));
    auto back = *io::read_safetensors_model(folder / "m");
    CHECK(back.linears.at("lm_head").weights.codes.mutable_row(0) == nullptr);
    CHECK(back.linears.at(query0).weights.codes.mutable_row(0) != nullptr);
}

TEST_CASE("q_proj and k_proj lie in half-split order in the file, parameters with their rows", "[io]") {
    const TempFolder folder;
    io::ModelFile model = small_model(*parse_format("int8-channel-asym"), true);
    REQUIRE(io::write_safetensors_model(folder / "m", model));
    const auto file = io::open_safetensors(folder / "m");
    REQUIRE(file);
    // Head of 6: file rows 0..5 are model rows 0, 2, 4, 1, 3, 5.
    const std::size_t order[] = {0, 2, 4, 1, 3, 5};
    for (const std::string& name : {query0, key1}) {
        const Linear& linear = model.linears.at(name);
        const auto rows_match = [&](const std::string& part, const std::byte* rows, std::size_t row_bytes) {
            const auto stored = file->bytes(*file->find(name + part));
            REQUIRE(stored.size() == linear.n() * row_bytes);
            for (std::size_t r = 0; r < linear.n(); ++r)
                CHECK(std::memcmp(stored.data() + r * row_bytes,
                                  rows + (r / 6 * 6 + order[r % 6]) * row_bytes, row_bytes) == 0);
        };
        const QuantizedMatrix& w = linear.weights;
        rows_match(".weight.codes", w.codes.bytes().bytes().data(), w.codes.row_bytes());
        rows_match(".weight.scales", w.scales.bytes().data(), 4);
        rows_match(".weight.zeros", w.zeros.bytes().bytes().data(), w.zeros.row_bytes());
        rows_match(".bias", std::as_bytes(std::span(linear.bias)).data(), 4);
        rows_match(".float_columns.values", linear.columns.values.codes.bytes().bytes().data(),
                   linear.columns.values.codes.row_bytes());
    }
    const auto value = model.linears.at("model.layers.0.self_attn.v_proj").weights.codes.bytes().bytes();
    CHECK(std::memcmp(file->bytes(*file->find("model.layers.0.self_attn.v_proj.weight.codes")).data(),
                      value.data(), value.size()) == 0);
}

TEST_CASE("a float export is a plain Hugging Face file, and a plain file is read", "[io]") {
    const TempFolder folder;
    io::ModelFile model = small_model(*parse_format("bf16"));
    REQUIRE(io::write_safetensors_model(folder / "m", model));
    auto tensors = io::load_tensors(folder / "m");
    REQUIRE(tensors);
    CHECK(tensors->metadata.at("format") == "pt");
    CHECK(tensors->tensors.size() == 3 + 2 * 9);
    for (const auto& [name, tensor] : tensors->tensors) CHECK(name.ends_with(".weight"));
    CHECK(tensors->tensors.at(query0 + ".weight").type() == Scalar::bf16);
    CHECK(tensors->tensors.at(query0 + ".weight").shape() == Tensor::Shape{24, 24});

    fs::create_directory(folder / "hf");
    tensors->tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = *Tensor::allocate(Scalar::f32, {3});
    REQUIRE(io::save_tensors(folder / "hf" / "model.safetensors", tensors->tensors, {{"format", "pt"}}));
    CHECK(contains(message(io::read_safetensors_model(folder / "hf")), "config.json"));
    write_file(folder / "hf" / "config.json", config_json);
    const auto plain = io::read_safetensors_model(folder / "hf");
    REQUIRE(message(plain) == "");
    model.metadata.clear();
    CHECK(difference(model, *plain) == "");
    CHECK(difference(*plain, *io::read_safetensors_model(folder / "hf" / "model.safetensors")) == "");
    REQUIRE(io::write_safetensors_model(folder / "again", *plain));
    CHECK(difference(*plain, *io::read_safetensors_model(folder / "again")) == "");
}

TEST_CASE("norms and biases of 16 bits are widened; a tied head may be stored twice", "[io]") {
    const TempFolder folder;
    io::ModelFile model = small_model(*parse_format("f32"));
    REQUIRE(io::write_safetensors_model(folder / "m", model));
    auto tensors = io::load_tensors(folder / "m")->tensors;
    Tensor norm = *Tensor::allocate(Scalar::bf16, {24}), bias = *Tensor::allocate(Scalar::f16, {24});
    for (std::size_t i = 0; i < 24; ++i) {
        store_float(Scalar::bf16, static_cast<float>(i), norm.mutable_bytes().data() + 2 * i);
        store_float(Scalar::f16, static_cast<float>(i), bias.mutable_bytes().data() + 2 * i);
    }
    tensors["model.norm.weight"] = norm;
    tensors[query0 + ".bias"] = bias;
    REQUIRE(io::save_tensors(folder / "model.safetensors", tensors));
    std::string config = config_json;
    config.replace(config.find("\"tie_word_embeddings\": false"), 28, "\"tie_word_embeddings\": true");
    write_file(folder / "config.json", config);
    const auto read = io::read_safetensors_model(folder.path());
    REQUIRE(message(read) == "");
    CHECK(read->shape.tied_head);
    CHECK_FALSE(read->linears.contains("lm_head"));
    CHECK(read->vectors.at("model.norm")[5] == 5.0f);
    CHECK(read->linears.at(query0).bias[1] == 3.0f);  // half-split row 3 of a head of 6 is row 1
    CHECK(read->linears.at(query0).bias[2] == 1.0f);
}
