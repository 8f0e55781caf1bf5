// Training: AdamW by hand, the schedule, learning something, and checkpoints that change nothing.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/model/trainer.hpp"
#include "support/catch.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

const io::ModelShape trained_shape = toy_shape(2, 1, 8, 24, 2, 20, 16, true);

model::TrainingOptions short_training() {
    model::TrainingOptions options;
    options.schedule = {.peak = 1e-2, .final_share = 0.1, .warmup = 5, .steps = 150};
    options.micro_batch = 40;
    options.fallback = Fallback::allow;
    return options;
}

/// Counting upwards from a random token, modulo the vocabulary: the first prediction cannot be foreseen.
std::vector<model::TrainingDocument> counting(std::uint64_t step) {
    Random random(step, 99);
    std::vector<model::TrainingDocument> documents;
    for (std::size_t d = 0; d < 12; ++d) {
        model::TrainingDocument document;
        document.tokens.push_back(1);
        std::size_t token = random.below(trained_shape.vocabulary);
        for (std::size_t i = 0; i < 4 + random.below(10); ++i) {
            document.tokens.push_back(static_cast<int>(token));
            document.weights.push_back(i == 0 ? 0.0f : 1.0f);
            token = (token + 1) % trained_shape.vocabulary;
        }
        documents.push_back(document);
    }
    return documents;
}

std::filesystem::path temporary(const std::string& name) {
    return std::filesystem::temp_directory_path() / ("fewbit-trainer-" + name);
}

}  // namespace

TEST_CASE("adamw: two steps by hand") {
    // b1 = 0.5, b2 = 0.75, epsilon 0, decay 0.1, rate 0.2, p = 1, g = 2 then -4.
    //   m1 = 1, v1 = 1: m^ = 1 / 0.5 = 2, v^ = 1 / 0.25 = 4, p = (1 - 0.02) 1 - 0.2 * 2 / 2 = 0.78
    //   m2 = 0.5 - 2 = -1.5, v2 = 0.75 + 4 = 4.75: m^ = -1.5 / 0.75 = -2, v^ = 4.75 / 0.4375 = 10.857
    //   p = 0.98 * 0.78 + 0.2 * 2 / 3.29502 = 0.7644 + 0.121395 = 0.885795
    const model::AdamWOptions adamw{0.5, 0.75, 0, 0.1};
    std::vector<float> p{1}, m{0}, v{0};
    model::adamw_step(adamw, 1, 0.2, 1.0, true, p, std::vector<float>{2}, m, v);
    CHECK(std::abs(p[0] - 0.78f) <= 1e-6f);
    model::adamw_step(adamw, 2, 0.2, 0.5, true, p, std::vector<float>{-8}, m, v);  // clipped to half
    CHECK(std::abs(m[0] + 1.5f) <= 1e-6f);
    CHECK(std::abs(v[0] - 4.75f) <= 1e-6f);
    CHECK(std::abs(p[0] - 0.885795f) <= 2e-6f);
    std::vector<float> undecayed{1};
    m = v = {0};
    model::adamw_step(adamw, 1, 0.2, 1.0, false, undecayed, std::vector<float>{0}, m, v);
    CHECK(std::isnan(undecayed[0]));  // 0 / 0 without an epsilon, which is what it is for
}

TEST_CASE("schedule: warm-up, peak, half a cosine, floor") {
    const model::Schedule schedule{.peak = 2.0, .final_share = 0.25, .warmup = 10, .steps = 110};
    CHECK(std::abs(schedule.rate(1) - 0.2) <= 1e-12);
    CHECK(std::abs(schedule.rate(10) - 2.0) <= 1e-12);
    CHECK(std::abs(schedule.rate(60) - (0.5 + 0.75)) <= 1e-12);  // half way: the mean of 2 and 0.5
    CHECK(std::abs(schedule.rate(110) - 0.5) <= 1e-12);
    CHECK(std::abs(schedule.rate(1000) - 0.5) <= 1e-12);
    for (std::uint64_t step = 11; step <= 110; ++step) CHECK(schedule.rate(step) <= schedule.rate(step - 1));
}

TEST_CASE("trainer: learns to count, and threads do not change a bit") {
    std::vector<float> first;
    const bool reduced = fewbit_test::sampled();
    const std::vector<std::size_t> all{1, 3}, one{3};
    for (const std::size_t threads : reduced ? one : all) {
        ThreadPool pool(threads);
        auto trainer = model::Trainer::create(trained_shape, short_training(), pool);
        REQUIRE(trainer);
        double before = 0, after = 0;
        for (std::uint64_t step = 0; step < 150; ++step) {
            const auto report = trainer->step(counting(step));
            REQUIRE(report);
            CHECK(report->step == step + 1);
            if (step == 0) before = report->loss;
            after = report->loss;
        }
        CHECK(before > 2.0);  // ln 20 = 3.0 knows nothing
        CHECK(after < 0.1);
        const std::vector<float> parameters(trainer->parameters().begin(), trainer->parameters().end());
        if (first.empty()) first = parameters;
        CHECK(parameters == first);
    }
}

TEST_CASE("trainer: stopped and resumed is never stopped, bit by bit") {
    const auto path = temporary("resume.safetensors");
    auto straight = model::Trainer::create(trained_shape, short_training());
    auto stopped = model::Trainer::create(trained_shape, short_training());
    REQUIRE((straight && stopped));
    for (std::uint64_t step = 0; step < 7; ++step) {
        REQUIRE(straight->step(counting(step)));
        REQUIRE(stopped->step(counting(step)));
    }
    REQUIRE(stopped->save(path, 84));
    auto other_seed = short_training();
    other_seed.seed = 77;
    auto resumed = model::Trainer::create(trained_shape, other_seed);
    REQUIRE(resumed);
    const auto documents = resumed->resume(path);
    REQUIRE(documents);
    CHECK(*documents == 84);
    CHECK(resumed->steps_done() == 7);
    for (std::uint64_t step = 7; step < 12; ++step) {
        REQUIRE(straight->step(counting(step)));
        REQUIRE(resumed->step(counting(step)));
    }
    CHECK(std::ranges::equal(straight->parameters(), resumed->parameters()));

    SECTION("a checkpoint of another model or none is refused, and nothing changes") {
        auto other_shape = trained_shape;
        other_shape.hidden += 1;
        auto other = model::Trainer::create(other_shape, short_training());
        REQUIRE(other);
        const std::vector<float> kept(other->parameters().begin(), other->parameters().end());
        const auto refused = other->resume(path);
        REQUIRE(!refused);
        CHECK(refused.error().message.find("another model") != std::string::npos);
        CHECK(std::ranges::equal(other->parameters(), kept));
        std::ofstream(path, std::ios::trunc) << "not a checkpoint";
        CHECK(!resumed->resume(path));
        CHECK(!resumed->resume(temporary("missing")));
    }
    SECTION("every truncation of a checkpoint is refused, and nothing changes") {
        const std::vector<float> kept(resumed->parameters().begin(), resumed->parameters().end());
        for (auto size = std::filesystem::file_size(path); size > 0; size = size * 3 / 4) {
            std::filesystem::resize_file(path, size - 1);
            CHECK(!resumed->resume(path));
        }
        CHECK(std::ranges::equal(resumed->parameters(), kept));
    }
    std::filesystem::remove(path);
}

TEST_CASE("trainer: the model that comes out is the one that went in") {
    auto trainer = model::Trainer::create(trained_shape, short_training());
    REQUIRE(trainer);
    const auto file = trainer->model(Scalar::f32);
    REQUIRE(file);
    auto again = model::Trainer::from_model(*file, short_training());
    REQUIRE(again);
    CHECK(std::ranges::equal(trainer->parameters(), again->parameters()));
    auto missing = *file;
    missing.linears.erase("model.layers.1.mlp.up_proj");
    const auto refused = model::Trainer::from_model(missing, short_training());
    REQUIRE(!refused);
    CHECK(refused.error().message.find("model.layers.1.mlp.up_proj") != std::string::npos);
}

TEST_CASE("trainer: steps that cannot be made are sentences and change nothing") {
    auto trainer = model::Trainer::create(trained_shape, short_training());
    REQUIRE(trainer);
    const std::vector<float> kept(trainer->parameters().begin(), trainer->parameters().end());
    const auto message = [&](std::vector<model::TrainingDocument> documents) {
        const auto report = trainer->step(documents);
        return report ? std::string() : report.error().message;
    };
    CHECK(message({}).find("no prediction") != std::string::npos);
    CHECK(message({{{1, 2}, {0}}}).find("no prediction") != std::string::npos);
    CHECK(message({{{1}, {}}}).find("1 tokens with 0 weights") != std::string::npos);
    CHECK(message({{{1, 2, 3}, {1}}}).find("one weight per prediction") != std::string::npos);
    CHECK(message({{std::vector<int>(18, 1), std::vector<float>(17, 1)}}).find("at most 16") !=
          std::string::npos);
    CHECK(message({{{1, 20}, {1}}}).find("outside the vocabulary") != std::string::npos);
    CHECK(message({{{1, 2}, {NAN}}}).size() > 0);
    CHECK(std::ranges::equal(trainer->parameters(), kept));
    CHECK(trainer->steps_done() == 0);
    auto small = short_training();
    small.micro_batch = 15;
    CHECK(!model::Trainer::create(trained_shape, small));
}

TEST_CASE("initial gains: spread as asked, and the function is that of equal gains") {
    const io::ModelShape wide = toy_shape(4, 2, 64, 96, 2, 40, 16, true);
    const model::ParameterTable table(wide);
    std::vector<float> equal(table.size()), spread(table.size());
    model::initialize(table, 7, equal);
    model::initialize(table, 7, spread, 0.5);
    for (std::size_t layer = 0; layer < wide.layers; ++layer) {
        const auto& block = table.block(layer);
        for (const std::size_t norm : {block.input_norm, block.mlp_norm}) {
            double squares = 0, logs = 0, log_squares = 0;
            const auto gains = table.vector(std::span<const float>(spread), norm);
            const auto n = static_cast<double>(gains.size());
            for (const float gain : gains) {
                const double g = static_cast<double>(gain), l = std::log(g);
                squares += g * g, logs += l, log_squares += l * l;
            }
            CHECK(squares / n == Catch::Approx(1).margin(1e-5));
            // The deviation of 64 draws is that of the distribution within four of its own, s / sqrt(128).
            const double deviation = std::sqrt(log_squares / n - logs * logs / n / n);
            CHECK(std::abs(deviation - 0.5) < 4 * 0.5 / std::sqrt(2 * n));
        }
        for (const auto& [norm, first, last] : {std::array{block.input_norm, block.q, block.v},
                                                std::array{block.mlp_norm, block.gate, block.up}}) {
            const auto gains = table.vector(std::span<const float>(spread), norm);
            const auto before = table.stacked(std::span<const float>(equal), first, last);
            const auto after = table.stacked(std::span<const float>(spread), first, last);
            float worst = 0;
            for (std::size_t r = 0; r < before.rows; ++r)
                for (std::size_t c = 0; c < before.cols; ++c)
                    worst = std::max(worst, std::abs(after(r, c) * gains[c] - before(r, c)));
            CHECK(worst <= 1e-6f);
        }
        // What no gain precedes is the same.
        for (const std::size_t slot : {block.o, block.down}) {
            const auto a = table.matrix(std::span<const float>(equal), slot);
            const auto b = table.matrix(std::span<const float>(spread), slot);
            CHECK(std::equal(a.data, a.data + a.rows * a.cols, b.data));
        }
    }
}
