// Rotations change no function: with quantization off the logits come back, whatever is rotated; and they do what they are for.
#include "fewbit/pipeline/rotations.hpp"

#include <cmath>
#include <vector>

#include "fewbit/io/model_safetensors.hpp"
#include "fewbit/model/transformer.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "fewbit/pipeline/outliers.hpp"
#include "support/catch.hpp"
#include "support/logits.hpp"
#include "support/random.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::pipeline;

namespace {

/// 6 query heads of 8 that share 2 key-value heads; dim 48 = 12 x 4, hidden 40 = 20 x 2.
io::ModelFile rotations_toy(bool tied) {
    io::ModelFile file = testing::toy_model(testing::toy_shape(6, 2, 8, 40, 3, 50, 64, tied), 5);
    testing::Random random(17);
    for (auto& [norm, gains] : file.vectors)
        for (float& gain : gains) gain = static_cast<float>(std::exp(random.uniform(-1, 1)));
    auto& v = file.linears.at("model.layers.1.self_attn.v_proj");
    for (std::size_t i = 0; i < v.n(); ++i) v.bias.push_back(0.05f * static_cast<float>(i));
    auto& down = file.linears.at("model.layers.2.mlp.down_proj");
    for (std::size_t i = 0; i < down.n(); ++i) down.bias.push_back(0.02f * static_cast<float>(i));
    return file;
}

std::vector<int> tokens_of(int seed) {
    std::vector<int> tokens;
    for (int i = 0; i < 40; ++i) tokens.push_back((i * 7 + seed * 11) % 50);
    return tokens;
}

Matrix rotated_logits(const io::ModelFile& file, const ActivationFormat& activations = exact_activations()) {
    return testing::logits_of(file, tokens_of(0), activations);
}

double distance(const Matrix& a, const Matrix& b) {
    double lost = 0, all = 0;
    for (std::size_t i = 0; i < a.values().size(); ++i) {
        const double e = static_cast<double>(a.values()[i]) - static_cast<double>(b.values()[i]);
        lost += e * e;
        all += static_cast<double>(b.values()[i]) * static_cast<double>(b.values()[i]);
    }
    return std::sqrt(lost / all);
}

}  // namespace

TEST_CASE("rotations: the logits stay, and the weights move", "[pipeline][rotations]") {
    const bool tied = GENERATE(true, false);
    const io::ModelFile given = rotations_toy(tied);
    const Matrix before = rotated_logits(given);
    for (int places = 1; places < 8; ++places) {
        INFO("places " << places << ", tied " << tied);
        const RotationOptions options{(places & 1) != 0, (places & 2) != 0, (places & 4) != 0, 3};
        io::ModelFile file = given;
        const auto report = rotate(file, options);
        REQUIRE(report);
        CHECK(report->residual == (options.residual ? 48u : 0u));
        CHECK(report->heads == (options.heads ? 8u : 0u));
        CHECK(report->down == (options.down ? 40u : 0u));
        CHECK(report->untied == (tied && options.residual));
        CHECK(file.metadata.at("rotations") == report->text());
        // Three blocks of f32 roundings, each relative to the whole.
        CHECK(distance(rotated_logits(file), before) < 3e-6);
        const auto first = [](const io::ModelFile& model, const char* layer) {
            float value = 0;
            model.linears.at(layer).weights.dequantize(0, 0, {&value, 1});
            return value;
        };
        const auto moved = [&](const char* layer) { return first(file, layer) != first(given, layer); };
        CHECK(moved("model.layers.0.self_attn.q_proj") == options.residual);
        CHECK(moved("model.embed_tokens") == options.residual);
        CHECK(moved("model.layers.0.self_attn.v_proj") == (options.residual || options.heads));
        CHECK(moved("model.layers.0.mlp.down_proj") == (options.residual || options.down));
    }
}

TEST_CASE("rotations: files keep them", "[pipeline][rotations]") {
    io::ModelFile file = rotations_toy(true);
    REQUIRE(rotate(file));
    const auto path = std::filesystem::temp_directory_path() / "fewbit-rotated.safetensors";
    REQUIRE(io::write_safetensors_model(path, file));
    const auto read = io::read_safetensors_model(path);
    std::filesystem::remove(path);
    REQUIRE(read);
    CHECK(read->linears.at("model.layers.0.mlp.down_proj").transform.hadamard == 40);
    CHECK(distance(rotated_logits(*read), rotated_logits(file)) == 0);
}

TEST_CASE("rotations: methods that calibrate see what is rotated", "[pipeline][rotations]") {
    io::ModelFile file = rotations_toy(false);
    REQUIRE(rotate(file));
    std::vector<std::vector<int>> windows;
    for (int i = 0; i < 12; ++i) windows.push_back(tokens_of(i));
    const std::string down = "model.layers.1.mlp.down_proj";
    // What the layer does to its inputs, by running it: the inputs are those of the float model, which runs up to there.
    Matrix x(12 * 40, 40);
    std::size_t row = 0;
    const auto transformer = model::Transformer::create(file, {exact_activations(), Fallback::allow});
    REQUIRE(transformer);
    for (const auto& window : windows) {
        auto cache = model::KvCache::create(file.shape, window.size());
        Matrix logits(1, file.shape.vocabulary);
        REQUIRE(transformer->forward(window, *cache, logits, {},
                                     [&](std::string_view layer, MatrixView<const float> in) {
                                         if (layer != down) return;
                                         for (std::size_t m = 0; m < in.rows; ++m)
                                             std::ranges::copy(in.row(m), x.row(row++).begin());
                                     }));
    }
    REQUIRE(row == x.rows());
    const auto outputs_of = [&](Linear linear) {
        linear.bias.clear();
        const auto packed = PackedLinear::create(linear, exact_activations(), Fallback::allow);
        REQUIRE(packed);
        Matrix y(x.rows(), linear.n());
        REQUIRE(packed->apply(std::as_const(x).view(), y));
        return y;
    };
    const Matrix expected = outputs_of(file.linears.at(down));
    const auto error_of = [&](const Method& method) {
        auto done = quantize_calibrated(file, {{down, {*parse_format("int3-g8"), method}}}, windows);
        REQUIRE(done);
        CHECK(done->file.linears.at(down).transform.hadamard == 40);
        const double lost = distance(outputs_of(done->file.linears.at(down)), expected);
        CHECK(*done->layers.at(down).output_error == Catch::Approx(lost * lost).epsilon(1e-3));
        return lost;
    };
    CHECK(error_of(GptqOptions{}) < 0.8 * error_of(MseOptions{}));
    GptqOptions permuted;
    permuted.order = ColumnOrder::permuted;
    CHECK(error_of(permuted) < 0.8 * error_of(MseOptions{}));
    CHECK(error_of(OwqOptions{}) < 0.8 * error_of(MseOptions{}));
}

TEST_CASE("rotations: outliers no longer decide what 8-bit activations lose", "[pipeline][rotations]") {
    io::ModelFile given = rotations_toy(false);
    REQUIRE(add_outliers(given, 50));
    const Matrix exact = rotated_logits(given);
    const auto activations = *parse_activation_format("int8-row");
    const auto lost = [&](io::ModelFile file) {
        for (auto& [name, linear] : file.linears)
            if (name.starts_with("model.layers.")) {
                auto done = quantize_rtn(dequantized(linear).view(), *parse_format("int8-channel"));
                REQUIRE(done);
                linear.weights = std::move(done->linear.weights);
            }
        return distance(rotated_logits(file, activations), exact);
    };
    io::ModelFile file = given;
    REQUIRE(rotate(file));
    CHECK(lost(file) < 0.3 * lost(given));
}

TEST_CASE("rotations: what cannot be leaves the file as it was", "[pipeline][rotations]") {
    const io::ModelFile given = rotations_toy(false);
    io::ModelFile file = given;
    CHECK(rotate(file, {false, false, false})->text().empty());
    CHECK_FALSE(file.metadata.contains("rotations"));
    REQUIRE(rotate(file, {false, false, true}));
    const auto twice = rotate(file, {false, false, true});
    REQUIRE_FALSE(twice);
    CHECK(twice.error().message ==
          "matrix 'model.layers.0.mlp.down_proj' is f32 with an input transform or float columns; rotations "
          "are of "
          "float models, before anything is quantized");
    file = given;
    file.vectors.erase("model.layers.2.post_attention_layernorm");
    const auto missing = rotate(file);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().message.find("no norm 'model.layers.2.post_attention_layernorm' of 48 gains") !=
          std::string::npos);
    CHECK(distance(dequantized(file.linears.at("lm_head")), dequantized(given.linears.at("lm_head"))) == 0);
    CHECK_FALSE(file.metadata.contains("rotations"));
}
