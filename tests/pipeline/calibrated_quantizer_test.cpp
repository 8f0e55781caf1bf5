// Quantizing with calibration: each layer meets the statistics of the model as it will run, what methods without
// calibration give is what they give alone, and the bytes depend on nothing but model, plan and text.
#include "fewbit/pipeline/calibrated_quantizer.hpp"

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/model/transformer.hpp"
#include "fewbit/pipeline/hessian.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using testing::gaussian_matrix;
using namespace fewbit::pipeline;

namespace {

io::ModelFile toy(bool tied = false) {
    return testing::toy_model(testing::toy_shape(4, 2, 8, 40, 3, 50, 64, tied), 5);
}

std::vector<std::vector<int>> windows(std::size_t count = 12, std::size_t tokens = 30) {
    testing::Random random(3);
    std::vector<std::vector<int>> out(count);
    for (auto& window : out)
        for (std::size_t i = 0; i < tokens; ++i) window.push_back(static_cast<int>(random.uniform(0, 50)));
    out.back().resize(1);
    return out;
}

std::map<std::string, LayerChoice> plan_of_layers(const io::ModelFile& file, const char* format,
                                                  const Method& method, bool embedding = false) {
    std::map<std::string, LayerChoice> plan;
    for (const auto& [layer, linear] : file.linears)
        if (embedding || layer != "model.embed_tokens") plan.insert({layer, {*parse_format(format), method}});
    return plan;
}

bool same(const Linear& a, const Linear& b) {
    return std::ranges::equal(a.weights.codes.bytes().bytes(), b.weights.codes.bytes().bytes()) &&
           std::ranges::equal(a.weights.scales.bytes(), b.weights.scales.bytes()) &&
           a.transform.permutation == b.transform.permutation;
}

/// Sums of x^2 by layer, of a whole Transformer that runs the windows.
std::map<std::string, std::vector<double>> squares_of(const io::ModelFile& file,
                                                      const std::vector<std::vector<int>>& tokens) {
    model::ModelOptions options;
    options.fallback = Fallback::allow;
    const auto transformer = model::Transformer::create(file, options);
    REQUIRE(transformer);
    std::map<std::string, std::vector<double>> sums;
    for (const auto& window : tokens) {
        auto cache = model::KvCache::create(file.shape, window.size());
        Matrix logits(window.size(), file.shape.vocabulary);
        REQUIRE(transformer->forward(
            window, *cache, logits, {}, [&](std::string_view layer, MatrixView<const float> x) {
                auto& sum = sums[std::string(layer)];
                sum.resize(x.cols);
                for (std::size_t m = 0; m < x.rows; ++m)
                    for (std::size_t c = 0; c < x.cols; ++c)
                        sum[c] += static_cast<double>(x(m, c)) * static_cast<double>(x(m, c));
            }));
    }
    return sums;
}

}  // namespace

TEST_CASE("Hessians: sums of products in f64, in batches of any size", "[pipeline][gptq]") {
    ThreadPool pool(3);
    for (const std::size_t k : {1u, 33u, 300u}) {
        const Matrix x = gaussian_matrix(700, k, 1), exact = gaussian_matrix(700, k, 2);
        auto one = HessianCollector::create(), many = HessianCollector::create(pool);
        REQUIRE(one);
        REQUIRE(many);
        TensorStatistics a, b;
        REQUIRE(one->add(x, exact, a));
        REQUIRE(many->add(x, exact, b));
        const auto h = a.hessian_sum.as<double>(), d = a.asymmetry_sum.as<double>();
        CHECK(std::ranges::equal(h, b.hessian_sum.as<double>()));
        CHECK(std::ranges::equal(d, b.asymmetry_sum.as<double>()));
        CHECK(a.tokens == 700);
        double worst = 0, worst_d = 0;
        for (std::size_t i = 0; i < k; ++i)
            for (std::size_t j = 0; j < k; ++j) {
                double product = 0, lost = 0, size = 0;
                for (std::size_t t = 0; t < x.rows(); ++t) {
                    const double xi = x(t, i), xj = x(t, j), ei = exact(t, i);
                    product += xi * xj;
                    lost += (ei - xi) * xj;
                    size += std::abs(xi * xj) + std::abs((ei - xi) * xj);
                }
                worst = std::max(worst, std::abs(h[i * k + j] - product) / size);
                worst_d = std::max(worst_d, std::abs(d[i * k + j] - lost) / size);
            }
        // f32 sums of at most 512 products: rounded 512 times at most, in f64 afterwards.
        CHECK(worst < 512 * 0x1p-24);
        CHECK(worst_d < 513 * 0x1p-24);
        // The error of the output, against all tokens one by one.
        const Matrix w = gaussian_matrix(5, k, 3), lost = gaussian_matrix(5, k, 4);
        double above = 0, below = 0;
        for (std::size_t t = 0; t < x.rows(); ++t)
            for (std::size_t r = 0; r < 5; ++r) {
                double y = 0, e = 0;
                for (std::size_t c = 0; c < k; ++c)
                    y += static_cast<double>(w(r, c)) * static_cast<double>(x(t, c)),
                        e += static_cast<double>(lost(r, c)) * static_cast<double>(x(t, c));
                above += e * e;
                below += y * y;
            }
        CHECK(one->output_error(w, lost, a) == Approx(above / below).epsilon(1e-4));
    }
    auto collector = HessianCollector::create();
    TensorStatistics statistics;
    CHECK(collector->add(gaussian_matrix(3, 4, 1), gaussian_matrix(3, 5, 1), statistics).error().message ==
          "inputs of 3 x 5 of the float model do not belong to inputs of 3 x 4");
    Matrix huge(1, 2);
    huge(0, 0) = 1e30f;
    CHECK(collector->add(huge, statistics, "w").error().message ==
          "tensor 'w': products of inputs are larger than f32 can hold");
}

TEST_CASE("calibrated quantizing: rtn gives what rtn gives alone", "[pipeline][gptq]") {
    const io::ModelFile file = toy();
    const auto done =
        quantize_calibrated(file, plan_of_layers(file, "int4-g16", RtnOptions{}, true), windows());
    REQUIRE(done);
    CHECK(done->layers.size() == file.linears.size());
    for (const auto& [layer, linear] : file.linears) {
        Matrix w(linear.n(), linear.k());
        for (std::size_t r = 0; r < w.rows(); ++r) linear.weights.dequantize(r, 0, w.row(r));
        INFO(layer);
        CHECK(same(done->file.linears.at(layer), quantize_rtn(w, *parse_format("int4-g16"))->linear));
        CHECK(done->layers.at(layer).output_error.has_value() == (layer != "model.embed_tokens"));
    }
}

TEST_CASE("calibrated quantizing: layers meet the inputs that the quantized model gives them",
          "[pipeline][gptq]") {
    const io::ModelFile file = toy();
    const auto tokens = windows();
    CalibratedOptions options;
    options.keep_statistics = true;
    std::set<std::string> told;
    options.progress = [&](std::string_view layer, std::size_t done, std::size_t all) {
        CHECK(done == told.size());
        CHECK(all == file.linears.size() - 1);
        told.insert(std::string(layer));
    };
    for (const double asymmetry : {0.0, 0.5}) {
        told.clear();
        GptqOptions gptq;
        gptq.asymmetry = asymmetry;
        const auto done = quantize_calibrated(file, plan_of_layers(file, "int3-g16", gptq), tokens, options);
        REQUIRE(done);
        CHECK(told.size() == file.linears.size() - 1);
        // Inputs of a layer depend on the layers before it alone, and those are what they are in the whole model.
        const auto squares = squares_of(done->file, tokens);
        for (const auto& [layer, statistics] : done->statistics.tensors) {
            INFO(layer);
            CHECK(statistics.tokens == 11 * 30 + 1);
            CHECK(done->layers.at(layer).tokens == statistics.tokens);
            const std::vector<double>& expected = squares.at(layer);
            REQUIRE(statistics.sum_square.size() == expected.size());
            for (std::size_t c = 0; c < expected.size(); ++c)
                CHECK(statistics.sum_square[c] == Approx(expected[c]).epsilon(1e-4).margin(1e-6));
            CHECK((statistics.asymmetry_sum.elements() != 0) == (asymmetry > 0));
        }
        CHECK(done->statistics.tensors.size() == file.linears.size() - 1);
    }
}

TEST_CASE("calibrated quantizing: gptq loses less of every layer's output than rtn", "[pipeline][gptq]") {
    const io::ModelFile file = toy();
    GptqOptions gptq;
    gptq.asymmetry = 0;
    const auto ours = quantize_calibrated(file, plan_of_layers(file, "int3-g16", gptq), windows());
    const auto plain = quantize_calibrated(file, plan_of_layers(file, "int3-g16", RtnOptions{}), windows());
    REQUIRE(ours);
    REQUIRE(plain);
    for (const auto& [layer, outcome] : ours->layers) {
        INFO(layer);
        CHECK(*outcome.output_error < *plain->layers.at(layer).output_error);
    }
}

TEST_CASE("calibrated quantizing: the same bytes for any number of threads", "[pipeline][gptq]") {
    for (const bool tied : {false, true}) {
        const io::ModelFile file = toy(tied);
        GptqOptions gptq;
        gptq.order = ColumnOrder::permuted;
        const auto plan = plan_of_layers(file, "int4-g16", gptq, true);
        const auto one = quantize_calibrated(file, plan, windows());
        REQUIRE(one);
        for (const std::size_t threads : {2u, 3u}) {
            ThreadPool pool(threads);
            const auto many = quantize_calibrated(file, plan, windows(), {}, pool);
            REQUIRE(many);
            for (const auto& [layer, linear] : one->file.linears) {
                INFO(layer);
                CHECK(same(linear, many->file.linears.at(layer)));
            }
        }
        // The embedding has no input.
        const LayerOutcome& embedding = one->layers.at("model.embed_tokens");
        CHECK(embedding.report.method == "mse");
        CHECK(embedding.report.notes.back() ==
              "tensor 'model.embed_tokens': it has no input to calibrate with, and was rounded by mse");
    }
}

TEST_CASE("calibrated quantizing: what is refused", "[pipeline][gptq]") {
    const io::ModelFile file = toy();
    const auto plan = plan_of_layers(file, "int4-g16", GptqOptions{});
    const auto error = [&](const std::vector<std::vector<int>>& tokens) {
        const auto done = quantize_calibrated(file, plan, tokens);
        REQUIRE(!done);
        return done.error().message;
    };
    CHECK(error({}) == "there are no tokens to calibrate with");
    CHECK(error({{1}, {}}) == "calibration window 1 has 0 tokens; the model takes 1 to 64");
    CHECK(error({std::vector<int>(65, 1)}) == "calibration window 0 has 65 tokens; the model takes 1 to 64");
    CHECK(error({{1, 50}}) == "calibration window 0 has token 50, outside the vocabulary of 50");
    CHECK(error({{-1}}) == "calibration window 0 has token -1, outside the vocabulary of 50");
    auto other = plan;
    other["lm_heat"] = plan.begin()->second;
    CHECK(quantize_calibrated(file, other, windows()).error().message == "the model has no matrix 'lm_heat'");
    const auto once = quantize_calibrated(file, plan, windows());
    REQUIRE(once);
    CHECK(quantize_calibrated(once->file, plan, windows()).error().message ==
          "layer 'lm_head' is int4-g16 already; start from the float model, or the report would hide a part "
          "of the "
          "error");
}
