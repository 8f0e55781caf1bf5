// Perplexity of models whose perplexity is known, and what happens with logits that are no distribution.
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "evaluate/support.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/evaluate/perplexity.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;
using Catch::Approx;
using fewbit_test::FormulaModel;
using fewbit_test::window_of;

TEST_CASE("a uniform model's perplexity is the size of its vocabulary") {
    for (const std::size_t vocabulary : {1u, 2u, 105u, 512u}) {
        const FormulaModel uniform(vocabulary, [](int, std::size_t, std::span<float> row) {
            for (float& logit : row) logit = 3.5f;
        });
        const std::vector<Window> windows{window_of({0, 0, 0}), window_of({0, 0})};
        const auto measured = measure_perplexity(uniform, windows);
        REQUIRE(measured);
        CHECK(measured->tokens == 3);
        CHECK(measured->perplexity == Approx(static_cast<double>(vocabulary)).epsilon(1e-14));
        CHECK(measured->nll == Approx(std::log(static_cast<double>(vocabulary))).margin(1e-15));
    }
}

TEST_CASE("the mean is over predictions, not over windows") {
    // After token t the next is t + 1 with logit ln 3 against two zeros: p = 3/5. Anything else: 1/5.
    const FormulaModel successor(3, [](int token, std::size_t, std::span<float> row) {
        for (float& logit : row) logit = 0;
        row[static_cast<std::size_t>(token + 1) % 3] = static_cast<float>(std::log(3.0));
    });
    const std::vector<Window> windows{window_of({0, 1, 2, 0}), window_of({0, 0})};
    const auto measured = measure_perplexity(successor, windows);
    REQUIRE(measured);
    CHECK(measured->tokens == 4);
    CHECK(measured->nll == Approx((3 * std::log(5.0 / 3) + std::log(5.0)) / 4).epsilon(1e-7));
    CHECK(measured->perplexity == std::exp(measured->nll));
}

TEST_CASE("no windows: nothing was predicted") {
    const FormulaModel any(2, [](int, std::size_t, std::span<float>) {});
    const auto measured = measure_perplexity(any, {});
    REQUIRE(measured);
    CHECK(measured->tokens == 0);
    CHECK(measured->nll == 0);
    CHECK(measured->perplexity == 1);
}

TEST_CASE("log_normalizer: shifts, extremes, and rows that are no distribution") {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const auto of = [](std::vector<float> row) { return log_normalizer(row); };
    CHECK(of({0}) == 0);
    CHECK(of({1000, 1000}) == Approx(1000 + std::numbers::ln2).epsilon(1e-15));
    CHECK(of({-1000, -1000}) == Approx(-1000 + std::numbers::ln2).epsilon(1e-15));
    CHECK(of({0, -infinity}) == 0);
    CHECK(of({3e38f, -3e38f}) == Approx(3e38).epsilon(1e-6));
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const auto& row : std::vector<std::vector<float>>{
             {}, {nan}, {0, nan}, {nan, 0}, {infinity, 0}, {-infinity, -infinity}})
        CHECK(std::isnan(log_normalizer(row)));
}

TEST_CASE("first_choice takes the first of equals") {
    const auto of = [](std::vector<float> row) { return first_choice(row); };
    CHECK(of({1, 3, 2}) == 1);
    CHECK(of({1, 3, 3}) == 1);
    CHECK(of({0}) == 0);
    CHECK(of({-2, -1, -1}) == 1);
}

TEST_CASE("bad logits and unknown words are errors that name the place") {
    const FormulaModel broken(3, [](int, std::size_t position, std::span<float> row) {
        for (float& logit : row) logit = position == 2 ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
    });
    const std::vector<Window> windows{{4, 0, {0, 1, 2}}, {5, 10, {0, 1, 2, 0}}};
    const auto measured = measure_perplexity(broken, windows);
    REQUIRE_FALSE(measured);
    CHECK(measured.error().message.find("document 5, token 12: ") != std::string::npos);
    CHECK(measured.error().message.find("NaN or infinite") != std::string::npos);

    const FormulaModel small(2, [](int, std::size_t, std::span<float> row) { row[0] = row[1] = 0; });
    const auto unknown = measure_perplexity(small, windows);
    REQUIRE_FALSE(unknown);
    CHECK(unknown.error().message.find("token 2 is not among the model's 2 words") != std::string::npos);
}

TEST_CASE("threads change nothing, progress counts up to the end") {
    const FormulaModel wavy(7, [](int token, std::size_t position, std::span<float> row) {
        for (std::size_t i = 0; i < row.size(); ++i)
            row[i] =
                static_cast<float>((i * 31 + static_cast<std::size_t>(token) * 7 + position * 13) % 17) / 3;
    });
    std::vector<Window> windows;
    for (int w = 0; w < 40; ++w) {
        std::vector<int> tokens;
        for (int t = 0; t < 2 + w % 9; ++t) tokens.push_back((w * t) % 7);
        windows.push_back(window_of(tokens));
    }
    const auto alone = measure_perplexity(wavy, windows);
    REQUIRE(alone);
    for (const std::size_t threads : {2u, 3u, 7u}) {
        ThreadPool pool(threads);
        std::size_t last = 0, total = 0;
        bool rises = true;
        const auto together = measure_perplexity(wavy, windows, pool, [&](std::size_t done, std::size_t all) {
            rises = rises && done > last;
            last = done;
            total = all;
        });
        REQUIRE(together);
        CHECK(together->nll == alone->nll);
        CHECK(rises);
        CHECK(last == alone->tokens);
        CHECK(total == alone->tokens);
    }
}
