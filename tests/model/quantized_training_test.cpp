// Quantization-aware training of a whole model: what training saw is what is stored, and it helps.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/model/quantized_training.hpp"
#include "fewbit/model/transformer.hpp"
#include "support/catch.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

const io::ModelShape shape = toy_shape(4, 2, 8, 48, 2, 24, 32, true);

std::vector<model::TrainingDocument> documents(std::uint64_t step) {
    Random random(step, 5);
    std::vector<model::TrainingDocument> made;
    for (std::size_t d = 0; d < 16; ++d) {
        model::TrainingDocument document;
        document.tokens.push_back(1);
        for (std::size_t i = 0; i < 3 + random.below(20); ++i) {
            document.tokens.push_back(static_cast<int>(random.below(shape.vocabulary)));
            document.weights.push_back(1.0f);
        }
        made.push_back(document);
    }
    return made;
}

model::TrainingOptions options(double peak = 3e-3) {
    model::TrainingOptions options;
    options.schedule = {.peak = peak, .final_share = 0.05, .warmup = 5, .steps = 120};
    options.adamw.weight_decay = 0;
    options.micro_batch = 512;
    options.fallback = Fallback::allow;
    return options;
}

model::FormatOfLayer all(const Format& format) {
    return [format](std::string_view) { return format; };
}

}  // namespace

TEST_CASE("quantized training: what the products read is what is stored, bit by bit") {
    for (const char* name :
         {"int2-g16", "int3-g24-sbf16", "int4-channel", "int4-g8-asym", "int5-g16-fzero", "int8-tensor",
          "int4-channel-narrow", "int2-g16-asym-sf32", "f16", "bf16", "f32"}) {
        INFO(name);
        const Format format = *parse_format(name);
        auto trainer = model::Trainer::from_model(toy_model(shape, 3), options());
        REQUIRE(trainer);
        auto weights = model::QuantizedWeights::create(trainer->table(), trainer->parameters(), all(format));
        REQUIRE(weights);
        const std::vector<float> teacher(trainer->parameters().begin(), trainer->parameters().end());
        for (std::uint64_t step = 0; step < 4; ++step)
            REQUIRE(trainer->step(documents(step), {.weights = &*weights, .teacher = teacher}));

        std::vector<float> seen(trainer->table().size());
        REQUIRE(weights->forward(trainer->parameters(), seen));
        const auto file = weights->model_file(trainer->table(), trainer->parameters());
        REQUIRE(file);
        for (const model::ParameterSlot& slot : trainer->table().slots()) {
            if (slot.is_vector) {
                CHECK(std::equal(file->vectors.at(slot.name).begin(), file->vectors.at(slot.name).end(),
                                 seen.begin() + static_cast<std::ptrdiff_t>(slot.first)));
                continue;
            }
            const QuantizedMatrix& stored = file->linears.at(slot.name).weights;
            CHECK(stored.format() == format);
            std::vector<float> row(slot.cols);
            for (std::size_t r = 0; r < slot.rows; ++r) {
                stored.dequantize(r, 0, row);
                REQUIRE(std::equal(row.begin(), row.end(),
                                   seen.begin() + static_cast<std::ptrdiff_t>(slot.first + r * slot.cols)));
            }
        }
    }
}

TEST_CASE("quantized training: the stored model gives the logits that training saw") {
    auto trainer = model::Trainer::from_model(toy_model(shape, 9), options());
    REQUIRE(trainer);
    auto weights = model::QuantizedWeights::create(trainer->table(), trainer->parameters(),
                                                   all(*parse_format("int4-g16")));
    REQUIRE(weights);
    std::vector<float> seen(trainer->table().size());
    REQUIRE(weights->forward(trainer->parameters(), seen));
    const auto file = weights->model_file(trainer->table(), trainer->parameters());
    REQUIRE(file);
    const std::vector<int> tokens{1, 5, 9, 2, 23, 7, 7, 0};
    const std::vector<float> ones(tokens.size(), 1.0f);
    const std::vector<model::DocumentRows> rows{{0, tokens.size()}};
    for (const ActivationFormat& activations : {exact_activations(), int8_row_activations()}) {
        auto backpropagation = model::Backpropagation<float>::create(
            trainer->table(), 16, *model::TrainingProducts<float>::create(Fallback::allow, {}));
        REQUIRE(backpropagation);
        auto inputs = *model::QuantizedInputs::create(activations);
        const auto trained = backpropagation->logits(seen, {tokens, tokens, ones, rows},
                                                     activations == exact_activations() ? nullptr : &inputs);
        REQUIRE(trained);
        const auto transformer = model::Transformer::create(*file, {activations, Fallback::allow});
        REQUIRE(transformer);
        auto cache = model::KvCache::create(shape, tokens.size());
        REQUIRE(cache);
        Matrix logits(tokens.size(), shape.vocabulary);
        REQUIRE(transformer->forward(tokens, *cache, logits));
        // Sums in another order; with int8 inputs a last-bit difference can move a code by one step, about
        // 1/127 of a row's largest value in one of 32 products.
        const float tolerance = activations == exact_activations() ? 5e-5f : 0.1f;
        for (std::size_t m = 0; m < tokens.size(); ++m)
            for (std::size_t v = 0; v < shape.vocabulary; ++v)
                REQUIRE(std::abs(logits(m, v) - (*trained)(m, v)) <= tolerance);
    }
}

TEST_CASE("quantized training: the divergence from the teacher falls, whatever the number of threads") {
    const bool reduced = fewbit_test::sampled();
    using Names = std::vector<const char*>;
    using Counts = std::vector<std::size_t>;
    const Names names = reduced ? Names{"int2-g16"} : Names{"int2-g16", "int3-channel-asym"};
    const Counts thread_counts = reduced ? Counts{4} : Counts{1, 4};
    for (const char* name : names) {
        INFO(name);
        std::vector<float> first_result;
        for (const std::size_t threads : thread_counts) {
            ThreadPool pool(threads);
            auto trainer = model::Trainer::from_model(toy_model(shape, 3), options(), pool);
            REQUIRE(trainer);
            auto weights = model::QuantizedWeights::create(trainer->table(), trainer->parameters(),
                                                           all(*parse_format(name)), {.peak = 3e-3}, pool);
            REQUIRE(weights);
            const std::vector<float> teacher(trainer->parameters().begin(), trainer->parameters().end());
            auto inputs = *model::QuantizedInputs::create(*parse_activation_format("int4-row"));
            double before = 0, after = 0;
            for (std::uint64_t step = 0; step < 120; ++step) {
                const auto report = trainer->step(
                    documents(step), {.weights = &*weights, .inputs = &inputs, .teacher = teacher});
                REQUIRE(report);
                if (step == 0) before = report->loss;
                after = report->loss;
            }
            CHECK(after < 0.5 * before);
            const std::vector<float> result(trainer->parameters().begin(), trainer->parameters().end());
            if (first_result.empty()) first_result = result;
            CHECK(result == first_result);
        }
    }
}

TEST_CASE("quantized training: input formats that cannot be trained with are refused by name") {
    for (const char* name : {"int8-row-asym", "int8-tensor", "int8-tensor-static"}) {
        const auto refused = model::QuantizedInputs::create(*parse_activation_format(name));
        REQUIRE(!refused);
        CHECK(refused.error().message.find(name) != std::string::npos);
    }
    CHECK(model::QuantizedInputs::create(exact_activations()));
}

TEST_CASE("quantized training: a teacher that agrees is a loss and a gradient of nothing") {
    auto trainer = model::Trainer::from_model(toy_model(shape, 3), options());
    REQUIRE(trainer);
    const std::vector<float> teacher(trainer->parameters().begin(), trainer->parameters().end());
    const auto report = trainer->step(documents(1), {.teacher = teacher});
    REQUIRE(report);
    CHECK(std::abs(report->loss) <= 1e-6);
    CHECK(report->gradient_norm <= 1e-5);
}

TEST_CASE("gradients: divergence from a teacher") {
    constexpr std::size_t rows = 3, cols = 7;
    Random random(8);
    std::vector<double> logits(rows * cols), teacher(rows * cols), scratch(1);
    for (double& value : logits) value = random.gaussian();
    for (double& value : teacher) value = 2 * random.gaussian();
    const std::vector<float> weights{1, 0, 0.5f};
    const auto loss_of = [&](std::vector<double> copy) {
        return model::divergence_loss<double>({copy.data(), rows, cols}, {teacher.data(), rows, cols},
                                              weights, 2.0, scratch, {});
    };
    double expected = 0;  // sum p (ln p - ln q), from the definition
    for (const std::size_t m : {std::size_t{0}, std::size_t{2}}) {
        double z = 0, zt = 0;
        for (std::size_t i = 0; i < cols; ++i)
            z += std::exp(logits[m * cols + i]), zt += std::exp(teacher[m * cols + i]);
        for (std::size_t i = 0; i < cols; ++i) {
            const double p = std::exp(teacher[m * cols + i]) / zt, q = std::exp(logits[m * cols + i]) / z;
            expected += static_cast<double>(weights[m]) * p * std::log(p / q);
        }
    }
    CHECK(std::abs(loss_of(logits) - expected) <= 1e-12);
    std::vector<double> gradients = logits;
    model::divergence_loss<double>({gradients.data(), rows, cols}, {teacher.data(), rows, cols}, weights, 2.0,
                                   scratch, {});
    for (std::size_t i = 0; i < logits.size(); ++i) {
        std::vector<double> above = logits, below = logits;
        above[i] += 1e-5;
        below[i] -= 1e-5;
        CHECK(std::abs(gradients[i] - 2.0 * (loss_of(above) - loss_of(below)) / 2e-5) <= 1e-8);
    }
}
