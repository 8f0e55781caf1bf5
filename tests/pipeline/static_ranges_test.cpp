// Static ranges: what calibration finds is what the layers read, and whole models with 8-bit activations.
#include "fewbit/pipeline/static_ranges.hpp"

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/model/transformer.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "support/catch.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

const io::ModelShape shape = toy_shape(4, 2, 16, 176, 2, 97, 64, false);

io::ModelFile quantized_model(const char* weights, bool tied = false) {
    io::ModelShape s = shape;
    s.tied_head = tied;
    io::ModelFile file = toy_model(s, 11);
    for (auto& [layer, linear] : file.linears) {
        if (layer == "model.embed_tokens" && !tied) continue;
        Matrix w(linear.n(), linear.k());
        for (std::size_t n = 0; n < linear.n(); ++n) linear.weights.dequantize(n, 0, w.row(n));
        linear.weights = quantize_rtn(w, *parse_format(weights))->linear.weights;
    }
    return file;
}

std::vector<std::vector<int>> windows_of(std::size_t count, std::uint64_t seed) {
    Random random(seed);
    std::vector<std::vector<int>> windows(count, std::vector<int>(40));
    for (auto& window : windows)
        for (int& token : window) token = static_cast<int>(random.below(shape.vocabulary));
    return windows;
}

Matrix static_logits(const io::ModelFile& file, const model::ModelOptions& options,
                     const std::vector<int>& tokens, ExecutionContext context = {},
                     const model::LayerObserver& observer = {}) {
    const auto transformer = model::Transformer::create(file, options);
    if (!transformer) FAIL(transformer.error().message);
    auto cache = model::KvCache::create(file.shape, tokens.size());
    REQUIRE(cache);
    Matrix logits(tokens.size(), file.shape.vocabulary);
    REQUIRE(transformer->forward(tokens, *cache, logits, context, observer));
    return logits;
}

model::ModelOptions options_of(const char* activations) {
    model::ModelOptions options;
    options.activations = *parse_activation_format(activations);
    options.fallback = Fallback::allow;
    return options;
}

double relative_error(const Matrix& y, const Matrix& truth) {
    double error = 0, energy = 0;
    for (std::size_t i = 0; i < y.values().size(); ++i) {
        const auto exact = static_cast<double>(truth.values()[i]);
        error += std::pow(static_cast<double>(y.values()[i]) - exact, 2);
        energy += exact * exact;
    }
    return std::sqrt(error / energy);
}

/// Values of variance 1 lie within 4 or so: a step is 8 / 2^bits, its rounding noise step / sqrt(12),
/// relative to the values. Two products in a row in each half of a block, and the head, add theirs; times 2
/// for values that reach farther (products of two activations do).
double activation_noise(int bits) {
    return 2 * std::sqrt(4.0 * static_cast<double>(shape.layers) + 1) * 8 /
           (std::exp2(bits) * std::sqrt(12.0));
}

}  // namespace

TEST_CASE("min-max ranges are those of what the layers read, transforms included") {
    for (const bool tied : {false, true}) {
        io::ModelFile file = quantized_model("int8-channel", tied);
        Linear& down = file.linears.at("model.layers.1.mlp.down_proj");
        for (std::size_t k = 0; k < down.k(); ++k) {
            down.transform.channel_scales.push_back(0.5f + static_cast<float>(k % 3));
            down.transform.permutation.push_back(static_cast<std::uint32_t>(down.k() - 1 - k));
        }
        Linear& floats = file.linears.at("model.layers.0.self_attn.o_proj");
        floats.weights = *float_matrix(gaussian_matrix(floats.n(), floats.k(), 3).view());
        const auto windows = windows_of(3, 5);

        std::map<std::string, StaticRange, std::less<>> expected;
        const model::LayerObserver observer = [&](std::string_view layer, MatrixView<const float> x) {
            StaticRange& range =
                expected.try_emplace(std::string(layer), StaticRange{INFINITY, -INFINITY}).first->second;
            for (std::size_t m = 0; m < x.rows; ++m)
                for (std::size_t k = 0; k < x.cols; ++k) {
                    float value = x(m, k);
                    if (layer == "model.layers.1.mlp.down_proj")
                        value /= down.transform.channel_scales[x.cols - 1 - k];
                    range = {std::min(range.min, value), std::max(range.max, value)};
                }
        };
        for (const auto& window : windows) static_logits(file, options_of("f32"), window, {}, observer);
        expected.erase("model.layers.0.self_attn.o_proj");

        const ActivationFormat format = *parse_activation_format("int8-tensor-static");
        const auto ranges = pipeline::calibrate_static_ranges(file, windows, format);
        REQUIRE(ranges);
        CHECK(*ranges == expected);
        CHECK(ranges->size() == 7 * shape.layers);  // with the head, less the float layer
        ThreadPool pool(3);
        CHECK(*pipeline::calibrate_static_ranges(file, windows, format, {}, pool) == *ranges);
        model::ModelOptions options = options_of("int8-tensor-static");
        options.static_ranges = *ranges;
        const Matrix y = static_logits(file, options, windows[0]);
        CHECK(relative_error(y, static_logits(file, options_of("f32"), windows[0])) < activation_noise(8));
    }
}

TEST_CASE("the other rules: percentile and mse lie inside min-max, a moving average follows the windows") {
    const io::ModelFile file = quantized_model("int8-channel");
    const auto windows = windows_of(3, 5);
    const ActivationFormat format = *parse_activation_format("int4-tensor-asym-static");
    const auto run = [&](pipeline::StaticRangeOptions options, std::size_t count = 3) {
        auto ranges =
            pipeline::calibrate_static_ranges(file, std::span(windows).first(count), format, options);
        REQUIRE(ranges);
        return *ranges;
    };
    using enum pipeline::RangeRule;
    const auto widest = run({min_max});
    const auto average = run({moving_average, 0.5});
    const auto one = run({min_max}, 1), first = run({moving_average, 0.5}, 1);
    CHECK(one == first);
    for (const auto& rule : {run({percentile, 0, 0.01}), run({mse})}) {
        CHECK(rule.size() == widest.size());
        for (const auto& [layer, range] : rule) {
            INFO(layer);
            CHECK(range.min >= widest.at(layer).min);
            CHECK(range.max <= widest.at(layer).max);
            CHECK(range.max - range.min < widest.at(layer).max - widest.at(layer).min);
        }
    }
    for (const auto& [layer, range] : average) CHECK(range.max <= widest.at(layer).max);
    CHECK(!(average == widest));
}

TEST_CASE("what cannot be calibrated or run says why") {
    const io::ModelFile file = quantized_model("int8-channel");
    const auto windows = windows_of(1, 5);
    const ActivationFormat format = *parse_activation_format("int8-tensor-static");
    const auto refused = [&](std::span<const std::vector<int>> tokens, const ActivationFormat& activations,
                             const pipeline::StaticRangeOptions& options = {}) {
        const auto ranges = pipeline::calibrate_static_ranges(file, tokens, activations, options);
        return ranges ? std::string() : ranges.error().message;
    };
    using enum pipeline::RangeRule;
    CHECK(refused({}, format).find("no tokens") != std::string::npos);
    CHECK(refused(windows, exact_activations()).find("f32 activations have no ranges") != std::string::npos);
    CHECK(refused(windows, format, {percentile, 0.99, 0.5}).find("0.5") != std::string::npos);
    CHECK(refused(windows, format, {moving_average, 1.0}).find("window 0") != std::string::npos);
    const std::vector<std::vector<int>> outside{{1, 2}, {3, 97}}, empty{{}}, longer{std::vector<int>(65)};
    CHECK(refused(outside, format).find("calibration window 1: token 1 is 97") != std::string::npos);
    CHECK(!refused(empty, format).empty());
    CHECK(!refused(longer, format).empty());

    model::ModelOptions options = options_of("int8-tensor-asym-static");
    options.static_ranges = *pipeline::calibrate_static_ranges(file, windows, format);
    CHECK(model::Transformer::create(file, options));
    options.static_ranges.erase("model.layers.1.mlp.up_proj");
    const auto missing = model::Transformer::create(file, options);
    REQUIRE(!missing);
    CHECK(missing.error().message.find("layer 'model.layers.1.mlp.up_proj' has no range for "
                                       "int8-tensor-asym-static") != std::string::npos);
}

TEST_CASE("W8A8 and W4A8: logits stay near those of exact activations, for any number of threads") {
    const auto calibration = windows_of(4, 5), test = windows_of(1, 99);
    ThreadPool pool(3);
    const Matrix float_logits = static_logits(toy_model(shape, 11), options_of("f32"), test[0]);
    for (const char* weights : {"int8-channel", "int4-g32"}) {
        const io::ModelFile file = quantized_model(weights);
        const Matrix truth = static_logits(file, options_of("f32"), test[0]);
        for (const char* word : {"int8-row", "int8-row-asym", "int8-tensor-asym", "int8-tensor-static",
                                 "int8-tensor-asym-static", "int6-row-asym"}) {
            model::ModelOptions options = options_of(word);
            options.static_ranges = *pipeline::calibrate_static_ranges(
                file, calibration, *parse_activation_format("int8-tensor-static"));
            const Matrix y = static_logits(file, options, test[0]),
                         threaded = static_logits(file, options, test[0], pool);
            CHECK(std::memcmp(y.values().data(), threaded.values().data(), y.values().size_bytes()) == 0);
            const double error = relative_error(y, truth), whole = relative_error(y, float_logits);
            INFO(weights << " " << word << ": " << error << " of exact activations, " << whole
                         << " of float");
            CHECK(error > 0);
            CHECK(error < activation_noise(options.activations.bits));
            CHECK(whole < relative_error(truth, float_logits) + activation_noise(options.activations.bits));
        }
    }
}

TEST_CASE("static activations: the bits of a token do not depend on its neighbours") {
    const io::ModelFile file = quantized_model("int8-channel");
    model::ModelOptions options = options_of("int8-tensor-asym-static");
    options.static_ranges = *pipeline::calibrate_static_ranges(
        file, windows_of(2, 5), *parse_activation_format("int8-tensor-static"));
    const std::vector<int> tokens = windows_of(1, 9)[0];
    std::vector<int> other = tokens;
    other.back() = (other.back() + 1) % 97;
    const Matrix a = static_logits(file, options, tokens), b = static_logits(file, options, other);
    for (std::size_t m = 0; m + 1 < tokens.size(); ++m)
        CHECK(std::memcmp(a.row(m).data(), b.row(m).data(), a.row(m).size_bytes()) == 0);
}
