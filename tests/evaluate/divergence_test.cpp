// KL divergence against closed forms, quantiles, flips, and the laws that hold for any two models.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "evaluate/support.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/evaluate/divergence.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;
using Catch::Approx;
using fewbit_test::FormulaModel;
using fewbit_test::window_of;

namespace {

double kld_of(const std::vector<float>& reference, const std::vector<float>& logits) {
    return kl_divergence(reference, log_normalizer(reference), logits, log_normalizer(logits));
}

/// A reproducible jumble of logits, `noise` apart from another seed's.
FormulaModel jumble(unsigned seed, double noise) {
    return {11, [=](int token, std::size_t position, std::span<float> row) {
                for (std::size_t i = 0; i < row.size(); ++i) {
                    const auto wave = [&](unsigned s) {
                        return std::sin(static_cast<double>(s) + 1.7 * static_cast<double>(i) + 0.9 * token +
                                        0.3 * static_cast<double>(position));
                    };
                    row[i] = static_cast<float>(4 * wave(1) + noise * wave(seed));
                }
            }};
}

std::vector<Window> some_windows() {
    std::vector<Window> windows;
    for (int w = 0; w < 23; ++w) {
        std::vector<int> tokens;
        for (int t = 0; t < 2 + w; ++t) tokens.push_back((3 * w + t * t) % 11);
        windows.push_back(window_of(tokens));
    }
    return windows;
}

Divergence diverge(const LogitSource& reference, const LogitSource& model, std::span<const Window> windows,
                   std::size_t budget = 1 << 20, ExecutionContext context = {}) {
    const auto kept = Reference::create(reference, windows, budget, context);
    REQUIRE(kept);
    auto divergence = kept->measure(model, context);
    REQUIRE(divergence);
    return *divergence;
}

}  // namespace

TEST_CASE("KL divergence of two coins is the closed form") {
    for (const double p : {0.5, 0.9, 0.01})
        for (const double q : {0.5, 0.2, 0.999}) {
            // Logits are f32, so p and q are taken from them again.
            const float a = static_cast<float>(std::log(p / (1 - p))),
                        b = static_cast<float>(std::log(q / (1 - q)));
            const double pa = 1 / (1 + std::exp(-static_cast<double>(a))),
                         qb = 1 / (1 + std::exp(-static_cast<double>(b)));
            const double expected = pa * std::log(pa / qb) + (1 - pa) * std::log((1 - pa) / (1 - qb));
            CHECK(kld_of({a, 0}, {b, 0}) == Approx(expected).epsilon(1e-12).margin(1e-15));
        }
    // Uniform over 4 against 1/2, 1/4, 1/8, 1/8: sum 1/4 ln((1/4) / q) = ln 2 / 4
    const float two = static_cast<float>(std::log(2.0));
    CHECK(kld_of({1, 1, 1, 1}, {2 * two, two, 0, 0}) == Approx(std::log(2.0) / 4).epsilon(1e-7));
}

TEST_CASE("KL divergence: shifts change nothing, zeros are defined") {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    CHECK(kld_of({1, 2, 3}, {11, 12, 13}) == Approx(0).margin(1e-15));
    CHECK(kld_of({0, -infinity}, {0, 0}) == Approx(std::log(2.0)).epsilon(1e-15));  // 0 ln 0 = 0
    CHECK(kld_of({0, 0}, {0, -infinity}) == infinity);
    CHECK(kld_of({0, -infinity}, {0, -infinity}) == 0);
}

TEST_CASE("quantiles interpolate between neighbours") {
    const std::vector<double> four{1, 2, 3, 4};
    CHECK(quantile(four, 0) == 1);
    CHECK(quantile(four, 1) == 4);
    CHECK(quantile(four, 0.5) == 2.5);
    CHECK(quantile(four, 1.0 / 3) == Approx(2).epsilon(1e-15));
    CHECK(quantile(four, 0.9) == Approx(3.7).epsilon(1e-15));
    CHECK(quantile(std::vector<double>{7}, 0.3) == 7);
    CHECK(quantile({}, 0.5) == 0);

    constexpr double infinity = std::numeric_limits<double>::infinity();
    const std::vector<double> tail{1, 2, infinity, infinity};
    CHECK(quantile(tail, 1.0 / 3) == Approx(2).epsilon(1e-15));
    CHECK(quantile(tail, 0.5) == infinity);
    CHECK(quantile(tail, 0.9) == infinity);

    std::vector<double> thousand;
    for (int i = 1000; i >= 0; --i) thousand.push_back(i);
    const Distribution d = distribution(thousand);
    CHECK(d.mean == 500);
    CHECK(d.median == 500);
    CHECK(d.p90 == Approx(900).epsilon(1e-15));
    CHECK(d.p99 == Approx(990).epsilon(1e-15));
    CHECK(d.p999 == Approx(999).epsilon(1e-15));
    CHECK(d.max == 1000);
    CHECK(std::isnan(distribution(std::vector<double>{1, std::nan("")}).median));
    CHECK(distribution({}).max == 0);
}

TEST_CASE("a model diverges from itself by exactly nothing") {
    const FormulaModel model = jumble(2, 0.5);
    const auto windows = some_windows();
    for (const std::size_t budget : {std::size_t{0}, std::size_t{1} << 20}) {
        const Divergence same = diverge(model, model, windows, budget);
        CHECK(same.kld.max == 0);
        CHECK(same.kld.mean == 0);
        CHECK(*std::min_element(same.values.begin(), same.values.end()) == 0);
        CHECK(same.top1_agreement == 1);
        CHECK(same.lost == 0);
        CHECK(same.gained == 0);
        CHECK(same.model.nll == same.reference.nll);
    }
}

TEST_CASE("laws of divergence, for kept and recomputed logits and any number of threads") {
    const FormulaModel reference = jumble(0, 0);
    const auto windows = some_windows();
    double last = 0;
    for (const double noise : {0.001, 0.01, 0.1, 1.0}) {
        const FormulaModel model = jumble(5, noise);
        const Divergence d = diverge(reference, model, windows);
        CHECK(d.values.size() == count_predictions(windows));
        CHECK(*std::min_element(d.values.begin(), d.values.end()) >=
              -1e-15);  // rounding of a few terms near 1
        CHECK(d.kld.mean > last);
        REQUIRE(d.kld_interval);
        CHECK(*d.kld_interval == *mean_interval(windows, d.values));
        CHECK(d.kld_interval->low <= d.kld.mean);
        CHECK(d.kld_interval->high >= d.kld.mean);
        CHECK(d.kld.median <= d.kld.p90);
        CHECK(d.kld.p90 <= d.kld.p99);
        CHECK(d.kld.p99 <= d.kld.p999);
        CHECK(d.kld.p999 <= d.kld.max);
        CHECK(d.lost + d.gained <= 1 - d.top1_agreement + 1e-12);
        last = d.kld.mean;

        const auto alone = measure_perplexity(model, windows);
        REQUIRE(alone);
        CHECK(d.model.nll == alone->nll);

        ThreadPool pool(3);
        for (const Divergence& other :
             {diverge(reference, model, windows, 0), diverge(reference, model, windows, 1 << 20, pool),
              diverge(reference, model, windows, 0, pool)}) {
            CHECK(other.values == d.values);
            CHECK(other.kld.mean == d.kld.mean);
            CHECK(other.kld_interval == d.kld_interval);
            CHECK(other.reference.nll == d.reference.nll);
            CHECK(other.top1_agreement == d.top1_agreement);
        }
    }
}

TEST_CASE("flips are counted against the text") {
    // The first choice is fixed per position. Text: 1 1 1 1; reference is right at 0, 1; the model at 1, 2.
    const auto chooses = [](std::vector<std::size_t> choices) {
        return FormulaModel(3, [choices](int, std::size_t position, std::span<float> row) {
            for (float& logit : row) logit = 0;
            row[choices[position]] = 1;
        });
    };
    const std::vector<Window> windows{window_of({0, 1, 1, 1, 1})};
    const FormulaModel reference = chooses({1, 1, 0, 0}), model = chooses({2, 1, 1, 0});
    const Divergence d = diverge(reference, model, windows);
    CHECK(d.lost == 0.25);
    CHECK(d.gained == 0.25);
    CHECK(d.top1_agreement == 0.5);
    // One logit of 1 among three: where the choices differ, p_a (1 - 0) - p_b (1 - 0) = (e - 1) / (e + 2).
    const double e = std::exp(1.0);
    CHECK(d.kld.max == Approx((e - 1) / (e + 2)).epsilon(1e-12));
    CHECK(d.kld.mean == Approx((e - 1) / (e + 2) / 2).epsilon(1e-12));
}

TEST_CASE("the budget decides whether logits are kept; other vocabularies are refused") {
    const FormulaModel model = jumble(0, 0);
    const auto windows = some_windows();
    const std::size_t needed = count_predictions(windows) * 11 * sizeof(float);
    const auto kept = Reference::create(model, windows, needed);
    const auto not_kept = Reference::create(model, windows, needed - 1);
    REQUIRE(kept);
    REQUIRE(not_kept);
    CHECK(kept->is_kept());
    CHECK_FALSE(not_kept->is_kept());
    CHECK(kept->perplexity().nll == not_kept->perplexity().nll);

    const FormulaModel other(12, [](int, std::size_t, std::span<float>) {});
    const auto refused = kept->measure(other);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().message == "a model with 12 words cannot be compared with a reference of 11 words");
}
