// Where models diverge: by position in the window, and the worst predictions, against counting and sorting
// everything.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include "evaluate/support.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/evaluate/divergence.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;
using Catch::Approx;
using fewbit_test::FormulaModel;
using fewbit_test::window_of;

namespace {

constexpr std::size_t vocabulary = 13;

/// Logits that depend on token and position, `noise` away from those of noise 0. Every eleventh position has
/// no noise, and positions repeat the noise of seven before, so that there are ties to break.
FormulaModel noisy(double noise) {
    return {vocabulary, [=](int token, std::size_t position, std::span<float> row) {
                testing::Random base(static_cast<std::uint64_t>(token)),
                    other(100 + static_cast<std::uint64_t>(token), position % 7);
                for (float& logit : row)
                    logit = static_cast<float>(2 * base.gaussian() +
                                               (position % 11 == 3 ? 0 : noise) * other.gaussian());
            }};
}

/// Windows of 1 to 40 predictions, many of them alike.
std::vector<Window> many_windows() {
    std::vector<Window> windows;
    for (std::size_t w = 0; w < 40; ++w) {
        std::vector<int> tokens{0};
        for (std::size_t t = 0; t < 1 + w % 8 * 5 + w / 39 * 4; ++t)
            tokens.push_back(static_cast<int>((5 * (w % 3) + t * t) % vocabulary));
        windows.push_back(window_of(tokens));
    }
    return windows;
}

Divergence diverge(const LogitSource& model, std::span<const Window> windows, std::size_t worst,
                   ExecutionContext context = {}, std::size_t budget = 1 << 22) {
    const FormulaModel reference = noisy(0);
    const auto kept = Reference::create(reference, windows, budget);
    REQUIRE(kept);
    auto divergence = kept->measure(model, context, {}, worst);
    REQUIRE(divergence);
    return *std::move(divergence);
}

/// All predictions, worst first, by sorting them all.
std::vector<WorstPrediction> sorted_predictions(std::span<const Window> windows, const Divergence& found) {
    std::vector<WorstPrediction> all;
    std::size_t i = 0;
    for (std::size_t w = 0; w < windows.size(); ++w)
        for (std::size_t t = 1; t < windows[w].tokens.size(); ++t) {
            WorstPrediction prediction;
            prediction.window = w;
            prediction.position = t;
            prediction.kld = found.values[i++];
            all.push_back(prediction);
        }
    REQUIRE(i == found.values.size());
    std::stable_sort(all.begin(), all.end(),
                     [](const WorstPrediction& a, const WorstPrediction& b) { return a.kld > b.kld; });
    return all;
}

/// Says that it has two lanes, and begins with the last task: windows come in the wrong order for certain.
class BackwardExecutor final : public Executor {
public:
    [[nodiscard]] std::size_t workers() const noexcept override { return 2; }
    void parallel_for(std::size_t tasks, Body body) override {
        while (tasks > 0) body(--tasks, 0);
    }
};

}  // namespace

TEST_CASE("positions: buckets double, and together they are the whole") {
    const auto windows = many_windows();
    for (const double noise : {0.01, 1.0}) {
        const Divergence d = diverge(noisy(noise), windows, 0);
        std::vector<std::size_t> ends;
        std::size_t predictions = 0, next = 1;
        double sum = 0, max = 0;
        for (const PositionBucket& bucket : d.positions) {
            CHECK(bucket.first == next);
            next = bucket.last + 1;
            ends.push_back(bucket.last);
            predictions += bucket.predictions;
            sum += bucket.mean * static_cast<double>(bucket.predictions);
            max = std::max(max, bucket.max);
            CHECK(bucket.mean <= bucket.max);
        }
        CHECK(ends == std::vector<std::size_t>{2, 4, 8, 16, 32, 64});  // the longest window: 40
        CHECK(predictions == count_predictions(windows));
        CHECK(max == d.kld.max);
        // Two orders of summing n numbers that are not negative: within n roundings.
        CHECK(sum / static_cast<double>(predictions) ==
              Approx(d.kld.mean).epsilon(static_cast<double>(predictions) * 0x1p-52));
    }
}

TEST_CASE("positions: values stand in the bucket of their place") {
    // Each value is its own position, so means and maxima can be said.
    const std::vector<Window> windows{window_of({0, 1, 1, 1, 1, 1, 1, 1, 1, 1}), window_of({0, 1, 1, 1})};
    const auto buckets = by_position(windows, std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3});
    REQUIRE(buckets.size() == 4);
    CHECK(buckets[0].predictions == 4);
    CHECK(buckets[0].mean == 1.5);
    CHECK(buckets[0].max == 2);
    CHECK(buckets[1].predictions == 3);
    CHECK(buckets[1].mean == Approx(10.0 / 3).epsilon(1e-15));
    CHECK(buckets[2].predictions == 4);
    CHECK(buckets[2].mean == 6.5);
    CHECK(buckets[2].max == 8);
    CHECK(buckets[3].first == 9);
    CHECK(buckets[3].last == 16);
    CHECK(buckets[3].predictions == 1);
    CHECK(buckets[3].max == 9);

    CHECK(by_position({}, {}).empty());
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    for (const auto& values : {std::vector<double>{nan, 1, 2}, std::vector<double>{1, nan, 2}}) {
        const auto with_nan = by_position(std::vector<Window>{window_of({0, 1, 1, 1})}, values);
        CHECK(std::isnan(with_nan[0].mean));
        CHECK(std::isnan(with_nan[0].max));
        CHECK(with_nan[1].max == 2);
    }
    // What rounding leaves below zero is not raised to zero.
    const auto below = by_position(std::vector<Window>{window_of({0, 1})}, std::vector<double>{-1e-17});
    CHECK(below[0].max == -1e-17);
}

TEST_CASE("worst predictions are those that sorting finds, for any number of threads") {
    const auto windows = many_windows();
    const FormulaModel model = noisy(0.7);
    const std::size_t count = count_predictions(windows);
    const std::vector<WorstPrediction> expected = sorted_predictions(windows, diverge(model, windows, 0));
    // The windows repeat themselves, so that many values are equal and order decides.
    REQUIRE(std::adjacent_find(expected.begin(), expected.end(), [](const auto& a, const auto& b) {
                return a.kld == b.kld && a.kld > 0;
            }) != expected.end());
    std::vector<WorstPrediction> alone;
    ThreadPool one(1), two(2), five(5);
    BackwardExecutor backwards;
    for (Executor* executor : std::initializer_list<Executor*>{&one, &two, &five, &backwards})
        for (const std::size_t budget : {std::size_t{0}, std::size_t{1} << 22})
            for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{10},
                                        std::size_t{37}, count, count + 5, unlimited}) {
                const Divergence d = diverge(model, windows, n, *executor, budget);
                REQUIRE(d.worst.size() == std::min(n, count));
                for (std::size_t i = 0; i < d.worst.size(); ++i) {
                    INFO("place " << i << " of " << n << ", " << executor->workers() << " workers");
                    REQUIRE(d.worst[i].window == expected[i].window);
                    REQUIRE(d.worst[i].position == expected[i].position);
                    REQUIRE(d.worst[i].kld == expected[i].kld);
                }
                if (n == 37 && alone.empty()) alone = d.worst;
                if (n == 37) CHECK(d.worst == alone);
            }
}

TEST_CASE("worst predictions tell what both models chose") {
    // Three tokens. The reference says 1 with e / (e + 2); at position 3 the model says 2, with
    // e^2 / (e^2 + 2).
    const auto model_of = [](std::size_t choice, float logit) {
        return FormulaModel(3, [=](int, std::size_t position, std::span<float> row) {
            for (float& value : row) value = 0;
            row[position == 2 ? choice : 1] = position == 2 ? logit : 1;
        });
    };
    const std::vector<Window> windows{window_of({0, 1}), window_of({0, 0, 0, 0, 0})};
    const FormulaModel reference = model_of(1, 1), model = model_of(2, 2);
    const auto kept = Reference::create(reference, windows);
    REQUIRE(kept);
    const auto d = kept->measure(model, {}, {}, 2);
    REQUIRE(d);
    REQUIRE(d->worst.size() == 2);
    CHECK(d->worst[0].window == 1);
    CHECK(d->worst[0].position == 3);
    CHECK(d->worst[0].reference_choice == 1);
    CHECK(d->worst[0].choice == 2);
    const double e = std::exp(1.0);
    CHECK(d->worst[0].reference_probability == Approx(e / (e + 2)).epsilon(1e-12));
    CHECK(d->worst[0].probability == Approx(e * e / (e * e + 2)).epsilon(1e-12));
    CHECK(d->worst[0].kld == d->kld.max);
    // The others are all 0; the first of them in the text comes next.
    CHECK(d->worst[1].window == 0);
    CHECK(d->worst[1].position == 1);
    CHECK(d->worst[1].kld == 0);
}

TEST_CASE("a model beside itself: nothing anywhere") {
    const auto windows = many_windows();
    const Divergence d = diverge(noisy(0), windows, 4);
    for (const PositionBucket& bucket : d.positions) {
        CHECK(bucket.mean == 0);
        CHECK(bucket.max == 0);
    }
    REQUIRE(d.worst.size() == 4);
    for (const WorstPrediction& prediction : d.worst) {
        CHECK(prediction.kld == 0);
        CHECK(prediction.choice == prediction.reference_choice);
        CHECK(prediction.probability == prediction.reference_probability);
    }
    CHECK(d.worst[0].window == 0);
    CHECK(d.worst[0].position == 1);
}
