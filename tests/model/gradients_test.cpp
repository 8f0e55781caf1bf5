// Gradients against finite differences in double precision, of the whole model and of each operator, and the
// float path against the double one. Central differences of step h are wrong by about h^2 |f'''| / 6 and by
// the rounding 2^-52 |f| / h: with h = 1e-5 both stay below 1e-9 of a function of order 1.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/model/backpropagation.hpp"
#include "fewbit/model/transformer.hpp"
#include "support/catch.hpp"
#include "support/naive_transformer.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

constexpr double step = 1e-5;
constexpr double tolerance = 1e-7;

/// Rows of random documents; some predictions count nothing.
struct Batch {
    std::vector<int> tokens, targets;
    std::vector<float> weights;
    std::vector<model::DocumentRows> documents;

    Batch(const io::ModelShape& shape, std::vector<std::size_t> lengths, std::uint64_t seed) {
        Random random(seed);
        for (const std::size_t length : lengths) {
            documents.push_back({tokens.size(), length});
            for (std::size_t i = 0; i < length; ++i) {
                tokens.push_back(static_cast<int>(random.below(shape.vocabulary)));
                targets.push_back(static_cast<int>(random.below(shape.vocabulary)));
                weights.push_back(i % 3 == 1 ? 0.0f : static_cast<float>(random.uniform(0.2, 1)));
            }
        }
    }
    [[nodiscard]] model::MicroBatch view() const { return {tokens, targets, weights, documents}; }
};

std::vector<double> random_doubles(std::size_t count, std::uint64_t seed) {
    Random random(seed);
    std::vector<double> values(count);
    for (double& value : values) value = random.gaussian();
    return values;
}

/// (f(x + h e_i) - f(x - h e_i)) / 2 h
double slope(std::vector<double>& x, std::size_t i, const std::function<double()>& f) {
    const double kept = x[i];
    x[i] = kept + step;
    const double above = f();
    x[i] = kept - step;
    const double below = f();
    x[i] = kept;
    return (above - below) / (2 * step);
}

void require_close(double gradient, double difference) {
    REQUIRE(std::abs(gradient - difference) <= tolerance * (1 + std::abs(difference)));
}

template <class T>
MatrixView<T> view(std::vector<T>& values, std::size_t rows) {
    return {values.data(), rows, values.size() / rows};
}
template <class T>
MatrixView<const T> view(const std::vector<T>& values, std::size_t rows) {
    return {values.data(), rows, values.size() / rows};
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

model::Backpropagation<double> in_double(const model::ParameterTable& table, std::size_t rows) {
    return *model::Backpropagation<double>::create(
        table, rows, *model::TrainingProducts<double>::create(Fallback::allow, {}));
}
model::Backpropagation<float> in_float(const model::ParameterTable& table, std::size_t rows,
                                       ExecutionContext context = {}) {
    return *model::Backpropagation<float>::create(
        table, rows, *model::TrainingProducts<float>::create(Fallback::allow, context));
}

struct ToyCase {
    io::ModelShape shape;
    std::vector<std::size_t> lengths;
};

std::vector<ToyCase> toy_cases() {
    return {{toy_shape(2, 1, 4, 12, 2, 11, 80, true), {5, 1, 9, 3}},
            {toy_shape(3, 3, 6, 10, 1, 7, 80, false), {70, 2}},  // more rows than a block of attention
            {toy_shape(4, 2, 2, 5, 3, 13, 80, false), {4, 4, 17}}};
}

/// Multiplies each site's input by a factor of its own: a stand-in for rounding whose slope is known, so that
/// the chain rule only comes out if forward and backward are called in pairs and on the right matrices.
template <class T>
struct SiteFactor final : model::InputRounding<T> {
    void forward(std::size_t site, MatrixView<T> x, ExecutionContext) override {
        const T factor = T(1) + T(static_cast<double>(site)) / T(8);
        for (std::size_t r = 0; r < x.rows; ++r)
            for (T& value : x.row(r)) value *= factor;
    }
    void backward(std::size_t site, MatrixView<T> dx, ExecutionContext context) override {
        forward(site, dx, context);
    }
};

}  // namespace

TEST_CASE("backpropagation: every gradient of a model is the slope of its loss") {
    for (const ToyCase& toy : toy_cases())
        for (const bool rounded : {false, true}) {
            const io::ModelFile file = toy_model(toy.shape, 7);
            const model::ParameterTable table(toy.shape);
            std::vector<float> floats(table.size());
            REQUIRE(model::read_parameters(file, table, floats));
            std::vector<double> parameters(floats.begin(), floats.end());
            const Batch batch(toy.shape, toy.lengths, 3);
            auto backpropagation = in_double(table, batch.tokens.size() + 3);
            SiteFactor<double> rounding;
            model::InputRounding<double>* const hook = rounded ? &rounding : nullptr;

            std::vector<double> gradients(table.size(), 0.5), unused(table.size());
            constexpr double scale = 0.25;
            REQUIRE(backpropagation.run(parameters, batch.view(), scale, gradients, hook));
            const auto loss = [&] {
                return *backpropagation.run(parameters, batch.view(), scale, unused, hook) * scale;
            };
            for (const model::ParameterSlot& slot : table.slots())
                for (std::size_t i = 0; i < slot.size();
                     i += 1 + slot.size() / (fewbit_test::sampled() ? 2 : 12)) {
                    INFO(slot.name << " element " << i);
                    const double gradient = gradients[slot.first + i] - 0.5;  // they are added to
                    require_close(gradient, slope(parameters, slot.first + i, loss));
                }
        }
}

TEST_CASE("backpropagation: the loss is that of a decoder written down naively, document by document") {
    for (const ToyCase& toy : toy_cases()) {
        const io::ModelFile file = toy_model(toy.shape, 11);
        const model::ParameterTable table(toy.shape);
        std::vector<float> floats(table.size());
        REQUIRE(model::read_parameters(file, table, floats));
        const std::vector<double> parameters(floats.begin(), floats.end());
        const Batch batch(toy.shape, toy.lengths, 5);
        auto backpropagation = in_double(table, batch.tokens.size());
        std::vector<double> gradients(table.size());
        const auto loss = backpropagation.run(parameters, batch.view(), 1.0, gradients);
        REQUIRE(loss);

        double expected = 0;
        for (const model::DocumentRows& document : batch.documents) {
            const auto tokens = std::span(batch.tokens).subspan(document.first, document.length);
            const std::vector<Doubles> logits = naive_logits(file, tokens);
            for (std::size_t i = 0; i < document.length; ++i) {
                double sum = 0;
                for (const double logit : logits[i]) sum += std::exp(logit);
                const std::size_t row = document.first + i;
                expected += static_cast<double>(batch.weights[row]) *
                            (std::log(sum) - logits[i][static_cast<std::size_t>(batch.targets[row])]);
            }
        }
        CHECK(std::abs(*loss - expected) <= 1e-10 * expected);
    }
}

TEST_CASE("backpropagation: float agrees with double, and threads do not change a bit") {
    // Errors of float sums of up to K terms, through a handful of layers: some hundred units of 2^-24 of the
    // largest gradient.
    const io::ModelShape shape = toy_shape(4, 2, 16, 96, 3, 50, 200, true);
    const io::ModelFile file = toy_model(shape, 13);
    const model::ParameterTable table(shape);
    std::vector<float> parameters(table.size());
    REQUIRE(model::read_parameters(file, table, parameters));
    const std::vector<double> doubles(parameters.begin(), parameters.end());
    const Batch batch(shape, {130, 7, 64, 65, 1, 40}, 17);

    auto exact = in_double(table, batch.tokens.size());
    std::vector<double> expected(table.size());
    const auto exact_loss = exact.run(doubles, batch.view(), 1.0, expected);
    REQUIRE(exact_loss);

    std::vector<float> first;
    for (const std::size_t threads : {1, 2, 5}) {
        ThreadPool pool(threads);
        auto backpropagation = in_float(table, batch.tokens.size(), pool);
        std::vector<float> gradients(table.size());
        const auto loss = backpropagation.run(parameters, batch.view(), 1.0f, gradients);
        REQUIRE(loss);
        CHECK(std::abs(*loss - *exact_loss) <= 1e-5 * *exact_loss);
        if (first.empty()) {
            first = gradients;
            for (const model::ParameterSlot& slot : table.slots()) {
                double largest = 0, worst = 0;
                for (std::size_t i = slot.first; i < slot.first + slot.size(); ++i) {
                    largest = std::max(largest, std::abs(expected[i]));
                    worst = std::max(worst, std::abs(expected[i] - static_cast<double>(gradients[i])));
                }
                INFO(slot.name);
                CHECK(worst <= 500 * 0x1p-24 * largest);
            }
        }
        CHECK(gradients == first);
    }
}

TEST_CASE("backpropagation: its logits are those of the Transformer that runs the same parameters") {
    const io::ModelShape shape = toy_shape(4, 2, 8, 40, 2, 30, 100, true);
    const model::ParameterTable table(shape);
    std::vector<float> parameters(table.size());
    model::initialize(table, 5, parameters);
    const auto file = model::to_model_file(table, parameters, Scalar::f32);
    REQUIRE(file);
    const auto transformer = model::Transformer::create(*file, {exact_activations(), Fallback::allow});
    REQUIRE(transformer);
    const Batch batch(shape, {33, 12}, 23);
    auto backpropagation = in_float(table, batch.tokens.size());
    const auto logits = backpropagation.logits(parameters, batch.view());
    REQUIRE(logits);
    // The same sums in another order: some hundred roundings of 2^-24 of logits of order 1.
    for (const model::DocumentRows& document : batch.documents) {
        auto cache = model::KvCache::create(shape, document.length);
        REQUIRE(cache);
        Matrix expected(document.length, shape.vocabulary);
        REQUIRE(transformer->forward(std::span(batch.tokens).subspan(document.first, document.length), *cache,
                                     expected));
        for (std::size_t i = 0; i < document.length; ++i)
            for (std::size_t v = 0; v < shape.vocabulary; ++v)
                REQUIRE(std::abs((*logits)(document.first + i, v) - expected(i, v)) <= 2e-5f);
    }
}

TEST_CASE("backpropagation: micro-batches that cannot be right are sentences") {
    const io::ModelShape shape = toy_shape(2, 1, 4, 8, 1, 10, 6, true);
    const model::ParameterTable table(shape);
    auto backpropagation = in_double(table, 8);
    std::vector<double> parameters(table.size()), gradients(table.size());
    const auto message = [&](auto change) {
        Batch batch(shape, {4, 3}, 1);
        change(batch);
        const auto result = backpropagation.run(parameters, batch.view(), 1.0, gradients);
        return result ? std::string() : result.error().message;
    };
    CHECK(message([](Batch&) {}).empty());
    CHECK(message([](Batch& b) { b.tokens[2] = 10; }).find("outside the vocabulary of 10") !=
          std::string::npos);
    CHECK(message([](Batch& b) { b.targets[2] = -1; }).find("outside the vocabulary") != std::string::npos);
    CHECK(message([](Batch& b) { b.weights.pop_back(); }).find("6 weights") != std::string::npos);
    CHECK(message([](Batch& b) { b.documents.pop_back(); }).find("hold 4 tokens") != std::string::npos);
    CHECK(message([](Batch& b) { b.documents[1].first = 5; }).find("begin at row 4") != std::string::npos);
    CHECK(message([&](Batch& b) { b = Batch(shape, {7}, 1); }).find("at most 6 long") != std::string::npos);
    CHECK(message([&](Batch& b) { b = Batch(shape, {5, 4}, 1); }).find("exceeds the 8") != std::string::npos);
    CHECK(message([&](Batch& b) { b = Batch(shape, {}, 1); }).empty());
}

TEST_CASE("gradients: norm, gate and rotation") {
    constexpr std::size_t rows = 37, cols = 6;
    std::vector<double> x = random_doubles(rows * cols, 1), gain = random_doubles(cols, 2);
    const std::vector<double> dy = random_doubles(rows * cols, 3);
    std::vector<double> y(rows * cols), inverse(rows);

    SECTION("norm") {
        const auto f = [&] {
            model::rms_norm_forward<double>(view(x, rows), gain, 1e-3, view(y, rows), inverse, {});
            return dot(y, dy);
        };
        f();
        std::vector<double> dx(rows * cols), dgain(cols), scratch(model::row_blocks(rows) * cols);
        model::rms_norm_backward<double>(view(x, rows), gain, inverse, view(dy, rows), view(dx, rows), dgain,
                                         scratch, {});
        for (std::size_t i = 0; i < dx.size(); i += 5) require_close(dx[i], slope(x, i, f));
        for (std::size_t i = 0; i < cols; ++i) require_close(dgain[i], slope(gain, i, f));
    }
    SECTION("gate") {
        std::vector<double> gate_up = random_doubles(rows * cols * 2, 4), dgate_up(rows * cols * 2);
        const auto f = [&] {
            model::silu_multiply_forward<double>(view(gate_up, rows), view(y, rows), {});
            return dot(y, dy);
        };
        model::silu_multiply_backward<double>(view(gate_up, rows), view(dy, rows), view(dgate_up, rows), {});
        for (std::size_t i = 0; i < gate_up.size(); i += 7) require_close(dgate_up[i], slope(gate_up, i, f));
    }
    SECTION("rotation: backward undoes forward, and lengths stay") {
        std::vector<double> table(40 * 2), turned = x;
        model::rope_turns<double>(100.0, view(table, 40));
        const std::vector<model::DocumentRows> documents{{0, 20}, {20, 17}};
        model::rope_turn<double>(view(turned, rows), view(std::as_const(table), 40), documents, false, {});
        CHECK(std::abs(dot(turned, turned) - dot(x, x)) <= 1e-12 * dot(x, x));
        CHECK(turned != x);
        CHECK(std::equal(x.begin(), x.begin() + cols, turned.begin()));  // position 0
        CHECK(std::equal(x.begin() + 20 * cols, x.begin() + 21 * cols, turned.begin() + 20 * cols));
        model::rope_turn<double>(view(turned, rows), view(std::as_const(table), 40), documents, true, {});
        for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(std::abs(turned[i] - x[i]) <= 1e-14 * 10);
    }
}

TEST_CASE("gradients: the loss, rows of weight 0, and large logits") {
    constexpr std::size_t rows = 5, cols = 9;
    std::vector<double> logits = random_doubles(rows * cols, 5);
    for (std::size_t i = 0; i < cols; ++i)
        logits[3 * cols + i] = logits[3 * cols + i] * 300;  // exp overflows
    const std::vector<int> targets{0, 8, 3, 3, 5};
    const std::vector<float> weights{1, 0.5f, 0, 2, 0.25f};
    std::vector<double> scratch(model::row_blocks(rows));
    const auto loss_of = [&](std::vector<double> copy) {
        return model::cross_entropy<double>(view(copy, rows), targets, weights, 3.0, scratch, {});
    };
    std::vector<double> gradients = logits;
    model::cross_entropy<double>(view(gradients, rows), targets, weights, 3.0, scratch, {});
    for (std::size_t i = 0; i < logits.size(); ++i)
        require_close(gradients[i], 3.0 * slope(logits, i, [&] { return loss_of(logits); }));
    for (std::size_t i = 0; i < cols; ++i) CHECK(gradients[2 * cols + i] == 0.0);
}
