// Outliers that are added leave the function alone, and what cannot be changed is named.
#include "fewbit/pipeline/outliers.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/io/llama2c.hpp"
#include "fewbit/model/transformer.hpp"
#include "support/catch.hpp"
#include "support/naive_transformer.hpp"
#include "support/shared_data.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::testing;
using pipeline::add_outliers;

namespace {

const std::vector<int> some_tokens{1, 5, 3, 17, 2, 9, 9, 0, 11, 4, 21, 7};

io::ModelFile outliers_toy(bool tied, std::size_t head_dim = 8) {
    return toy_model(toy_shape(4, 2, head_dim, 40, 2, 30, 32, tied), 7);
}

/// The largest difference over the largest logit.
template <class Rows>
double largest_difference(const Rows& a, const Rows& b) {
    double difference = 0, scale = 0;
    REQUIRE(a.size() == b.size());
    for (std::size_t r = 0; r < a.size(); ++r)
        for (std::size_t i = 0; i < a[r].size(); ++i) {
            difference = std::max(difference, std::fabs(a[r][i] - b[r][i]));
            scale = std::max(scale, std::fabs(a[r][i]));
        }
    return difference / scale;
}

/// What the library computes in fp32.
std::vector<Doubles> outliers_logits(const io::ModelFile& file, std::span<const int> tokens) {
    const auto transformer = model::Transformer::create(file, {exact_activations(), Fallback::allow});
    INFO((transformer ? "" : transformer.error().message));
    REQUIRE(transformer);
    auto cache = model::KvCache::create(file.shape, tokens.size());
    REQUIRE(cache);
    Matrix logits(tokens.size(), file.shape.vocabulary);
    REQUIRE(transformer->forward(tokens, *cache, logits));
    std::vector<Doubles> rows;
    for (std::size_t r = 0; r < logits.rows(); ++r)
        rows.emplace_back(logits.row(r).begin(), logits.row(r).end());
    return rows;
}

Matrix floats(const io::ModelFile& file, const std::string& name) {
    const QuantizedMatrix& weights = file.linears.at(name).weights;
    Matrix w(weights.n(), weights.k());
    for (std::size_t r = 0; r < w.rows(); ++r) weights.dequantize(r, 0, w.row(r));
    return w;
}

void convert(io::ModelFile& file, const std::string& name, Scalar type) {
    const Matrix w = floats(file, name);
    file.linears[name].weights = *float_matrix(w.view(), type);
}

std::string error_of(io::ModelFile file, double factor = 20) {
    const auto refused = add_outliers(file, factor);
    REQUIRE_FALSE(refused);
    return refused.error().message;
}

}  // namespace

TEST_CASE("outliers leave the logits as they were") {
    for (const bool tied : {false, true})
        for (const double factor : {5.0, 20.0, 100.0, 0.05}) {
            INFO("tied " << tied << ", factor " << factor);
            const io::ModelFile before = outliers_toy(tied);
            io::ModelFile after = before;
            const auto report = add_outliers(after, factor);
            REQUIRE(report);
            CHECK(largest_difference(naive_logits(before, some_tokens), naive_logits(after, some_tokens)) <
                  1e-6);
            CHECK(largest_difference(outliers_logits(before, some_tokens),
                                     outliers_logits(after, some_tokens)) < 1e-5);

            CHECK(report->factor == factor);
            CHECK(report->norms.size() == (tied ? 4 : 5));
            for (const auto& [name, linear] : before.linears) {
                INFO(name);
                const Matrix was = floats(before, name), is = floats(after, name);
                const bool changed = !std::ranges::equal(was.values(), is.values());
                const auto& readers = report->readers;
                CHECK(changed == (std::find(readers.begin(), readers.end(), name) != readers.end()));
            }
            CHECK(report->skipped.empty() != tied);
            CHECK(report->widened.empty());
            CHECK(after.metadata.at("outliers") == report->text());
            REQUIRE(report->channels.size() == 1);  // of 32
            CHECK((report->text().find("model.norm") != std::string::npos) == tied);
        }
}

TEST_CASE("outliers are outliers, and nothing else moves") {
    const io::ModelFile before = outliers_toy(false, 64);  // 256 channels
    io::ModelFile after = before;
    const auto report = add_outliers(after, 20);
    REQUIRE(report);
    REQUIRE(report->channels.size() == 3);
    CHECK(std::is_sorted(report->channels.begin(), report->channels.end()));
    const auto chosen = [&](std::size_t c) {
        return std::count(report->channels.begin(), report->channels.end(), c) == 1;
    };
    for (const auto& [name, gains] : before.vectors)
        for (std::size_t c = 0; c < gains.size(); ++c)
            CHECK(after.vectors.at(name)[c] ==
                  (chosen(c) ? static_cast<float>(20.0 * static_cast<double>(gains[c])) : gains[c]));
    for (const auto& [name, linear] : before.linears) {
        const bool reads_norm =
            name == "lm_head" || name.find("q_proj") != std::string::npos ||
            name.find("k_proj") != std::string::npos || name.find("v_proj") != std::string::npos ||
            name.find("gate_proj") != std::string::npos || name.find("up_proj") != std::string::npos;
        const Matrix was = floats(before, name), is = floats(after, name);
        bool right = true;
        for (std::size_t r = 0; r < was.rows(); ++r)
            for (std::size_t c = 0; c < was.cols(); ++c)
                right = right && is(r, c) == (reads_norm && chosen(c)
                                                  ? static_cast<float>(static_cast<double>(was(r, c)) / 20.0)
                                                  : was(r, c));
        INFO(name);
        CHECK(right);
    }
    // The seed decides, and nothing else.
    io::ModelFile again = before, other = before;
    CHECK(add_outliers(again, 3)->channels == report->channels);
    CHECK(add_outliers(other, 3, 5)->channels != report->channels);
}

TEST_CASE("outliers: as many as 1 % of the channels, all different") {
    for (const auto& [dim, count] : {std::pair{2, 1}, {32, 1}, {148, 1}, {150, 2}, {256, 3}, {1000, 10}}) {
        io::ModelFile file = toy_model(toy_shape(1, 1, static_cast<std::size_t>(dim), 4, 1, 4, 8, true), 3);
        const auto report = add_outliers(file, 2);
        REQUIRE(report);
        CHECK(report->channels.size() == static_cast<std::size_t>(count));
        CHECK(std::adjacent_find(report->channels.begin(), report->channels.end(), std::greater_equal<>()) ==
              report->channels.end());
        CHECK(report->channels.back() < static_cast<std::size_t>(dim));
    }
}

TEST_CASE("outliers in 16-bit weights: the matrices become f32 and lose nothing") {
    for (const Scalar type : {Scalar::f16, Scalar::bf16}) {
        io::ModelFile before = outliers_toy(false);
        for (auto& [name, linear] : before.linears) convert(before, name, type);
        io::ModelFile after = before;
        const auto report = add_outliers(after, 100);
        REQUIRE(report);
        CHECK(report->widened.size() == 2 * 5 + 1);
        CHECK(largest_difference(naive_logits(before, some_tokens), naive_logits(after, some_tokens)) < 1e-6);
        for (const auto& [name, linear] : after.linears) {
            const bool widened = std::count(report->widened.begin(), report->widened.end(), name) == 1;
            CHECK(fewbit::name(linear.weights.format()) == (widened               ? "f32"
                                                            : type == Scalar::f16 ? "f16"
                                                                                  : "bf16"));
        }
        CHECK(report->text().find("11 matrices of 16-bit weights became f32") != std::string::npos);
        CHECK(before.linears.at("lm_head").weights.format() ==
              float_format(type));  // shared bytes, untouched
    }
}

TEST_CASE("outliers of factor 20 and then 1/20 are none") {
    const io::ModelFile before = outliers_toy(true);
    io::ModelFile after = before;
    REQUIRE(add_outliers(after, 20));
    REQUIRE(add_outliers(after, 0.05));
    for (const auto& [name, gains] : before.vectors)
        for (std::size_t c = 0; c < gains.size(); ++c)
            CHECK(after.vectors.at(name)[c] == Catch::Approx(gains[c]).epsilon(1e-6));
    CHECK(after.metadata.at("outliers").find("; then factor 0.05") != std::string::npos);
}

TEST_CASE("outliers: what is refused is named, and the file stays") {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    for (const double factor : {0.0, -2.0, infinity, -infinity, std::nan("")})
        CHECK(error_of(outliers_toy(true), factor).find("must be finite and greater than 0") !=
              std::string::npos);
    CHECK(error_of(outliers_toy(true), -2).find("factor -2:") != std::string::npos);

    io::ModelFile model = outliers_toy(true);
    model.linears.erase("model.layers.1.mlp.up_proj");
    CHECK(error_of(model).find("no matrix 'model.layers.1.mlp.up_proj'") != std::string::npos);
    // It fails at the last matrix, and what came before is as it was.
    const auto gains = model.vectors.at("model.layers.0.input_layernorm");
    CHECK_FALSE(add_outliers(model, 20));
    CHECK(model.vectors.at("model.layers.0.input_layernorm") == gains);
    CHECK(model.metadata.count("outliers") == 0);

    model = outliers_toy(true);
    model.vectors.erase("model.layers.0.post_attention_layernorm");
    CHECK(error_of(model).find("no norm 'model.layers.0.post_attention_layernorm'") != std::string::npos);
    model = outliers_toy(true);
    model.vectors["model.layers.0.input_layernorm"].pop_back();
    CHECK(error_of(model).find("has 31 gains; the model's shape asks for 32") != std::string::npos);
    model = outliers_toy(true);
    model.linears["model.layers.0.self_attn.k_proj"].weights =
        *QuantizedMatrix::allocate(*parse_format("int4-g8"), 16, 32);
    CHECK(error_of(model).find("'model.layers.0.self_attn.k_proj' is int4-g8;") != std::string::npos);
    model = outliers_toy(true);
    model.linears["model.layers.0.self_attn.k_proj"].weights =
        *QuantizedMatrix::allocate(float_format(Scalar::f32), 16, 31);
    CHECK(error_of(model).find("'model.layers.0.self_attn.k_proj' has 31 columns") != std::string::npos);
    model = outliers_toy(true);
    model.linears["model.layers.0.mlp.up_proj"].transform.channel_scales.assign(32, 2.0f);
    CHECK(error_of(model).find("'model.layers.0.mlp.up_proj' is f32 with an input transform") !=
          std::string::npos);
    CHECK(error_of(io::ModelFile()).find("0 layers") != std::string::npos);

    // Factors that f32 cannot follow.
    CHECK(error_of(outliers_toy(true), 1e300).find("'model.layers.0.input_layernorm'") != std::string::npos);
    CHECK(error_of(outliers_toy(true), 1e-300).find("cannot hold the product") != std::string::npos);
    CHECK(error_of(outliers_toy(true), 1e37).find("'model.layers.0.self_attn.q_proj'") != std::string::npos);
}

TEST_CASE("outliers in stories260K leave the logits as they were") {
    const auto path = shared_file("models/stories260K/stories260K.bin");
    if (path.empty()) FEWBIT_SKIP("models/stories260K/stories260K.bin is not in FEWBIT_SHARED_DIR");
    const auto before = io::read_llama2c(path);
    REQUIRE(before);
    const std::vector<int> tokens{1, 403, 407, 261, 378, 511, 3, 44, 280, 310, 263, 401, 330, 268, 389, 265};
    const auto expected = outliers_logits(*before, tokens), exact = naive_logits(*before, tokens);
    for (const double factor : {5.0, 20.0, 100.0}) {
        io::ModelFile after = *before;
        const auto report = add_outliers(after, factor);
        REQUIRE(report);
        const double naive = largest_difference(exact, naive_logits(after, tokens)),
                     fp32 = largest_difference(expected, outliers_logits(after, tokens));
        std::printf("stories260K, factor %g: logits differ by %.1e (double), %.1e (fp32) of their scale\n",
                    factor, naive, fp32);
        CHECK(naive < 1e-6);
        CHECK(fp32 < 1e-5);
    }
}
