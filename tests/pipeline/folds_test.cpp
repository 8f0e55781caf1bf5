// Folds change no function: with quantization off every fold, awq's and SmoothQuant's among them, gives the logits back.
#include "fewbit/pipeline/folds.hpp"

#include <cmath>
#include <vector>

#include "fewbit/model/transformer.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "support/catch.hpp"
#include "support/logits.hpp"
#include "support/random.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::pipeline;

namespace {

io::ModelFile folds_toy() { return testing::toy_model(testing::toy_shape(6, 2, 8, 40, 3, 50, 64, false), 5); }

Matrix folds_logits(const io::ModelFile& file) {
    std::vector<int> tokens;
    for (int i = 0; i < 40; ++i) tokens.push_back(i * 7 % 50);
    return testing::logits_of(file, tokens);
}

double furthest(const Matrix& a, const Matrix& b) {
    double most = 0;
    for (std::size_t i = 0; i < a.values().size(); ++i)
        most =
            std::max(most, std::abs(static_cast<double>(a.values()[i]) - static_cast<double>(b.values()[i])));
    return most;
}

std::vector<float> scales_for(const Fold& fold, std::uint64_t seed) {
    testing::Random random(seed);
    std::vector<float> by_source(fold.k), scales(fold.k);
    for (float& scale : by_source) scale = static_cast<float>(std::exp(random.uniform(-3, 3)));
    for (std::size_t k = 0; k < fold.k; ++k) scales[k] = by_source[fold.source[k]];
    return scales;
}

}  // namespace

TEST_CASE("folds: the logits stay, and the weights move", "[pipeline][folds]") {
    const io::ModelFile given = folds_toy();
    const Matrix before = folds_logits(given);
    double largest = 0;
    for (const float value : before.values())
        largest = std::max(largest, std::abs(static_cast<double>(value)));
    io::ModelFile all = given;
    std::uint64_t seed = 0;
    for (std::size_t block = 0; block < given.shape.layers; ++block)
        for (const FoldSite site : fold_sites) {
            const Fold fold = fold_of(given.shape, block, site);
            const auto scales = scales_for(fold, ++seed);
            io::ModelFile file = given;
            REQUIRE(fold_scales(file, fold, scales));
            REQUIRE(fold_scales(all, fold, scales));
            // A few roundings of f32 on the way through 3 blocks.
            INFO("block " << block << ", site " << static_cast<int>(site));
            CHECK(furthest(folds_logits(file), before) < 1e-5 * largest);
            for (const std::string& reader : fold.readers) {
                std::vector<float> now(fold.k), then(fold.k);
                file.linears.at(reader).weights.dequantize(1, 0, now);
                given.linears.at(reader).weights.dequantize(1, 0, then);
                for (std::size_t k = 0; k < fold.k; ++k) CHECK(now[k] == then[k] * scales[k]);
            }
        }
    CHECK(furthest(folds_logits(all), before) < 1e-4 * largest);
}

TEST_CASE("folds: a bias of what is divided is divided too", "[pipeline][folds]") {
    io::ModelFile file = folds_toy();
    auto& bias = file.linears.at("model.layers.1.mlp.up_proj").bias;
    for (std::size_t i = 0; i < 40; ++i) bias.push_back(0.1f * static_cast<float>(i));
    const Matrix before = folds_logits(file);
    const Fold fold = fold_of(file.shape, 1, FoldSite::up);
    REQUIRE(fold_scales(file, fold, scales_for(fold, 1)));
    CHECK(furthest(folds_logits(file), before) < 1e-5 * 40);
}

TEST_CASE("folds: what cannot be leaves the file as it was", "[pipeline][folds]") {
    const io::ModelFile given = folds_toy();
    io::ModelFile file = given;
    const Fold value = fold_of(file.shape, 0, FoldSite::value), mlp = fold_of(file.shape, 0, FoldSite::mlp);
    CHECK(value.k == 48);
    CHECK(value.source[8 * 2 + 3] == 3);   // query heads 0, 1 and 2 read key-value head 0
    CHECK(value.source[8 * 4 + 3] == 11);  // 3, 4 and 5 read head 1
    std::vector<float> scales(48, 2.0f);
    scales[3] = 1;
    CHECK(fold_scales(file, value, scales).error().message ==
          "channels that 'model.layers.0.self_attn.v_proj' writes as one have scales of 1 and 2");
    scales[3] = 0;
    CHECK(fold_scales(file, value, scales).error().message ==
          "the scale of channel 3 of 'model.layers.0.self_attn.v_proj' is 0, not a positive number");
    CHECK_FALSE(fold_scales(file, value, std::vector<float>(47, 1.0f)));
    CHECK(fold_scales(file, mlp, std::vector<float>(48, 3e38f))
              .error()
              .message.find("leaves the normal numbers") != std::string::npos);
    io::ModelFile large = given;
    REQUIRE(fold_scales(large, value, std::vector<float>(48, 1e30f)));
    CHECK(fold_scales(large, value, std::vector<float>(48, 1e30f)).error().message ==
          "a weight of 'model.layers.0.self_attn.o_proj' leaves the range of f32 when scales are folded");
    io::ModelFile quantized = given;
    Linear& up = quantized.linears.at("model.layers.0.mlp.up_proj");
    Matrix w(up.n(), up.k());
    up.weights = quantize_rtn(w, *parse_format("int4-g16"))->linear.weights;
    CHECK(fold_scales(quantized, mlp, std::vector<float>(48, 2.0f)).error().message ==
          "matrix 'model.layers.0.mlp.up_proj' is int4-g16; scales are folded into float matrices");
    for (const auto& [name, linear] : given.linears)
        CHECK(std::ranges::equal(linear.weights.codes.bytes().bytes(),
                                 file.linears.at(name).weights.codes.bytes().bytes()));
    CHECK(file.vectors == given.vectors);
}

TEST_CASE("folds: awq and SmoothQuant in the pipeline keep the function where nothing is rounded",
          "[pipeline][folds]") {
    const io::ModelFile file = folds_toy();
    const Matrix before = folds_logits(file);
    std::vector<std::vector<int>> windows(6);
    testing::Random random(2);
    for (auto& window : windows)
        for (int i = 0; i < 40; ++i) window.push_back(static_cast<int>(random.uniform(0, 50)));
    for (const bool smooth : {false, true}) {
        std::map<std::string, LayerChoice> plan;
        for (const auto& [layer, linear] : file.linears)
            if (layer.find("layers") != std::string::npos)
                plan.insert(
                    {layer, {*parse_format("f32"), smooth ? Method{RtnOptions{}} : Method{AwqOptions{}}}});
        CalibratedOptions options;
        if (smooth) options.smoothquant.emplace();
        const auto done = quantize_calibrated(file, plan, windows, options);
        REQUIRE(done);
        CHECK(furthest(folds_logits(done->file), before) < 1e-4 * 10);
        if (smooth) {
            // The ranges of x / s and W diag s meet in every channel.
            CHECK(done->layers.at("model.layers.1.mlp.gate_proj").scales == "max|x|^0.5 / max|w|^0.5");
            CHECK_FALSE(done->file.vectors == file.vectors);
        }
    }
    // Few bits: with awq every layer is scaled, and the model is closer to the float one than with mse.
    for (const double factor : {1.0, 20.0}) {
        io::ModelFile model = file;
        const Fold fold = fold_of(model.shape, 1, FoldSite::mlp);
        std::vector<float> outlier(fold.k, 1.0f);
        outlier[5] = static_cast<float>(1 / factor);  // gains times the factor, columns over it
        REQUIRE(fold_scales(model, fold, outlier));
        std::vector<double> distances;
        for (const Method& method : {Method{MseOptions{}}, Method{AwqOptions{}}}) {
            std::map<std::string, LayerChoice> plan;
            for (const auto& [layer, linear] : model.linears)
                if (layer.find("layers") != std::string::npos)
                    plan.insert({layer, {*parse_format("int3-g16"), method}});
            const auto done = quantize_calibrated(model, plan, windows);
            REQUIRE(done);
            const Matrix after = folds_logits(done->file);
            double sum = 0;
            for (std::size_t i = 0; i < after.values().size(); ++i)
                sum += std::pow(
                    static_cast<double>(after.values()[i]) - static_cast<double>(before.values()[i]), 2);
            distances.push_back(sum);
        }
        CHECK(distances[1] < distances[0]);
    }
}
