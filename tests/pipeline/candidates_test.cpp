// What candidates lose, against products of the layers' own inputs: a Transformer runs the windows and says what each layer
// read, and the errors of the outputs are summed naively.
#include "fewbit/pipeline/candidates.hpp"

#include <map>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/model/transformer.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::pipeline;

namespace {

io::ModelFile candidates_toy(bool tied = false) {
    return testing::toy_model(testing::toy_shape(4, 2, 8, 40, 2, 50, 64, tied), 5);
}

std::vector<std::vector<int>> few_windows() {
    testing::Random random(3);
    std::vector<std::vector<int>> out(9);
    for (auto& window : out)
        for (std::size_t i = 0; i < 30; ++i) window.push_back(static_cast<int>(random.uniform(0, 50)));
    out.back().resize(1);
    return out;
}

std::map<std::string, std::vector<Format>> all_layers(const io::ModelFile& file) {
    std::map<std::string, std::vector<Format>> out;
    for (const auto& [layer, linear] : file.linears)
        for (const char* format : {"int3-g16", "int4-g16"}) out[layer].push_back(*parse_format(format));
    return out;
}

/// The inputs of every layer, token after token.
std::map<std::string, std::vector<std::vector<float>>> inputs_of(const io::ModelFile& file) {
    model::ModelOptions options;
    options.fallback = Fallback::allow;
    const auto transformer = model::Transformer::create(file, options);
    REQUIRE(transformer);
    std::map<std::string, std::vector<std::vector<float>>> inputs;
    for (const auto& window : few_windows()) {
        auto cache = model::KvCache::create(file.shape, window.size());
        Matrix logits(window.size(), file.shape.vocabulary);
        REQUIRE(transformer->forward(
            window, *cache, logits, {}, [&](std::string_view layer, MatrixView<const float> x) {
                for (std::size_t m = 0; m < x.rows; ++m)
                    inputs[std::string(layer)].emplace_back(x.row(m).begin(), x.row(m).end());
            }));
    }
    return inputs;
}

/// Relative squared error of the outputs of layers in a format of their own, rounded to nearest.
double naive_error(const Matrix& w, const QuantizedMatrix& quantized,
                   const std::vector<std::vector<float>>& inputs) {
    double lost = 0, given = 0;
    std::vector<float> row(w.cols());
    for (std::size_t r = 0; r < w.rows(); ++r) {
        quantized.dequantize(r, 0, row);
        for (const std::vector<float>& x : inputs) {
            double y = 0, difference = 0;
            for (std::size_t k = 0; k < x.size(); ++k) {
                y += static_cast<double>(w(r, k)) * static_cast<double>(x[k]);
                difference +=
                    (static_cast<double>(w(r, k)) - static_cast<double>(row[k])) * static_cast<double>(x[k]);
            }
            given += y * y;
            lost += difference * difference;
        }
    }
    return lost / given;
}

}  // namespace

TEST_CASE("candidates: errors are those of the outputs on the float model's inputs") {
    const io::ModelFile file = candidates_toy();
    const auto plan = all_layers(file);
    const auto inputs = inputs_of(file);
    CandidateOptions options;
    options.method = RtnOptions{};
    std::map<std::string, std::size_t> visited;
    options.visit = [&](std::string_view layer, std::size_t candidate, const Linear& linear) -> Result<void> {
        CHECK(candidate == visited[std::string(layer)]++);
        CHECK(linear.weights.format() == plan.at(std::string(layer))[candidate]);
        return {};
    };
    ThreadPool pool(3);
    const auto found = measure_candidates(file, plan, few_windows(), options, {pool});
    REQUIRE(found);
    REQUIRE(found->size() == file.linears.size());
    for (const auto& [layer, losses] : *found) {
        INFO(layer);
        REQUIRE(losses.candidates.size() == 2);
        CHECK(visited[layer] == 2);
        const bool embedding = layer == "model.embed_tokens";
        CHECK(losses.tokens == (embedding ? 0u : 8u * 30 + 1));
        Matrix w(file.linears.at(layer).n(), file.linears.at(layer).k());
        for (std::size_t r = 0; r < w.rows(); ++r) file.linears.at(layer).weights.dequantize(r, 0, w.row(r));
        for (const CandidateLoss& loss : losses.candidates) {
            CHECK(loss.bits == total_bits(loss.format, w.rows(), w.cols()));
            const auto quantized = quantize_rtn(std::as_const(w).view(), loss.format, {});
            REQUIRE(quantized);
            // Products of 512 tokens are summed in f32 on both sides of H: K + 512 roundings, each of 2^-24 of the sum of
            // magnitudes, which for these inputs is within 100 times the sum itself.
            const double tolerance = embedding ? 1e-12 : 100 * static_cast<double>(w.cols() + 512) * 0x1p-24;
            const double expected = embedding
                                        ? quantized->report.relative_error * quantized->report.relative_error
                                        : naive_error(w, quantized->linear.weights, inputs.at(layer));
            CHECK(std::abs(loss.output_error - expected) <= tolerance * expected);
        }
        CHECK(losses.candidates[1].output_error < losses.candidates[0].output_error);
    }
    const auto again = measure_candidates(file, plan, few_windows(), {options.method, {}, {}});
    REQUIRE(again);
    for (const auto& [layer, losses] : *again)
        for (std::size_t c = 0; c < 2; ++c)
            CHECK(losses.candidates[c].output_error == found->at(layer).candidates[c].output_error);
}

TEST_CASE("candidates: whatever a method does to x counts, permutations and scales too") {
    const io::ModelFile file = candidates_toy();
    const std::map<std::string, std::vector<Format>> plan{
        {"model.layers.1.self_attn.q_proj", {*parse_format("int8-g16")}},
        {"model.layers.0.mlp.down_proj", {*parse_format("int8-g16")}}};
    for (const Method& method : {Method{GptqOptions{}}, Method{AwqOptions{}}, [] {
                                     GptqOptions permuted;
                                     permuted.order = ColumnOrder::permuted;
                                     return Method{permuted};
                                 }()}) {
        const auto found = measure_candidates(file, plan, few_windows(), {method, {}, {}});
        REQUIRE(found);
        // 8 bits lose about 1e-5 of the squares; a permutation that is forgotten loses all of them.
        for (const auto& [layer, losses] : *found) CHECK(losses.candidates[0].output_error < 1e-3);
    }
}

TEST_CASE("candidates: refusals") {
    const io::ModelFile file = candidates_toy(true);
    const auto plan = all_layers(file);
    const CandidateOptions options;
    CHECK_FALSE(measure_candidates(file, plan, {}, options));
    CHECK_FALSE(measure_candidates(file, plan, std::vector<std::vector<int>>{{50}}, options));
    const auto missing = measure_candidates(file, {{"lm_head", {}}}, few_windows(), options);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().message == "the model has no matrix 'lm_head'");
    CandidateOptions stops;
    stops.visit = [](std::string_view, std::size_t, const Linear&) -> Result<void> {
        return fail(ErrorKind::unsupported, "enough");
    };
    CHECK(measure_candidates(file, plan, few_windows(), stops).error().message == "enough");
}
