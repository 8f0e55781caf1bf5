// Bootstrap intervals: how often they hold a mean that is known, their width by another formula, and what
// cannot change them.
#include "fewbit/evaluate/bootstrap.hpp"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "evaluate/support.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;
using namespace fewbit_test;

namespace {

/// Windows of 1 to 40 predictions whose values share a level, larger in longer windows: the mean over
/// predictions is not that over windows, and a window is worth little more than one of its predictions.
struct Sample {
    std::vector<Window> windows;
    std::vector<double> values, other;  ///< of one model, and of another on the same windows

    Sample(std::size_t count, std::uint64_t seed) {
        testing::Random random(seed);
        for (std::size_t w = 0; w < count; ++w) {
            const std::size_t predictions = 1 + random.below(40);
            windows.push_back(window_of(std::vector<int>(predictions + 1)));
            const double level = (1 + static_cast<double>(predictions) / 40) * random.uniform(0.5, 1.5);
            const double share =
                other_share + random.uniform(-0.1, 0.1);  // of the window, not of a prediction
            for (std::size_t i = 0; i < predictions; ++i) {
                values.push_back(level + random.uniform(-0.5, 0.5));
                other.push_back(share * level + random.uniform(-0.5, 0.5));
            }
        }
    }

    /// E[m (1 + m / 40)] / E[m] of m = 1 .. 40, uniformly: 1 + (2 * 40 + 1) / 3 / 40.
    static constexpr double mean = 1.675;
    static constexpr double other_share = 0.8;  ///< other's mean over mean
};

/// The standard error of a ratio of sums, linearized (Cochran, Sampling Techniques, chapter 6):
/// sqrt(sum (a - r b)^2) / sum b.
double standard_error(std::span<const double> a, std::span<const double> b) {
    const double sum_a = std::accumulate(a.begin(), a.end(), 0.0),
                 sum_b = std::accumulate(b.begin(), b.end(), 0.0);
    double squares = 0;
    for (std::size_t i = 0; i < a.size(); ++i) squares += std::pow(a[i] - sum_a / sum_b * b[i], 2);
    return std::sqrt(squares) / sum_b;
}

std::vector<double> predictions_of(const std::vector<Window>& windows) {
    std::vector<double> counts;
    for (const Window& window : windows) counts.push_back(static_cast<double>(window.predictions()));
    return counts;
}

/// Standard deviation of the 2.5 % quantile of resampled, nearly normal ratios, in standard errors of the
/// ratio: sqrt(p (1 - p) / resamples) / density(1.96).
double quantile_noise(std::size_t resamples) {
    return std::sqrt(0.025 * 0.975 / static_cast<double>(resamples)) / 0.05844;
}

bool holds(const BootstrapInterval& interval, double truth) {
    return interval.low <= truth && truth <= interval.high;
}

}  // namespace

TEST_CASE("bootstrap: 95 % of the intervals hold the mean", "[bootstrap]") {
    constexpr std::size_t trials = 500;
    BootstrapOptions options;
    options.resamples = 500;
    std::size_t mean = 0, ratio = 0;
    for (std::size_t trial = 0; trial < trials; ++trial) {
        const Sample sample(100, trial);
        options.seed = trial;
        mean += holds(*mean_interval(sample.windows, sample.values, options), Sample::mean);
        ratio += holds(*ratio_interval(window_sums(sample.windows, sample.other),
                                       window_sums(sample.windows, sample.values), options),
                       Sample::other_share);
    }
    const double tolerance = 3 * std::sqrt(0.95 * 0.05 / trials);  // of a binomial share
    INFO(mean << " of the means, " << ratio << " of the ratios, of " << trials);
    CHECK(std::abs(static_cast<double>(mean) / trials - 0.95) <= tolerance);
    CHECK(std::abs(static_cast<double>(ratio) / trials - 0.95) <= tolerance);
}

TEST_CASE("bootstrap: as wide as the linearized standard error says, for any confidence", "[bootstrap]") {
    const Sample sample(1000, 7);
    const auto counts = predictions_of(sample.windows), a = window_sums(sample.windows, sample.values),
               b = window_sums(sample.windows, sample.other);
    const auto check = [](std::span<const double> above, std::span<const double> below) {
        const double middle = std::accumulate(above.begin(), above.end(), 0.0) /
                              std::accumulate(below.begin(), below.end(), 0.0);
        const double error = standard_error(above, below);
        // 4 standard deviations of the quantile, and the skewness of a mean of 1000.
        const double tolerance = (4 * quantile_noise(2000) + 1 / std::sqrt(1000.0)) * error;
        const auto interval = *ratio_interval(above, below);
        CHECK(std::abs(interval.low - (middle - 1.95996 * error)) <= tolerance);
        CHECK(std::abs(interval.high - (middle + 1.95996 * error)) <= tolerance);
        BootstrapOptions half;
        half.confidence = 0.5;
        const auto narrow = *ratio_interval(above, below, half);
        CHECK(std::abs(narrow.low - (middle - 0.67449 * error)) <= tolerance);
        CHECK(std::abs(narrow.high - (middle + 0.67449 * error)) <= tolerance);
    };
    check(a, counts);
    check(b, a);
    const auto interval = *mean_interval(sample.windows, sample.values);
    CHECK(interval == *ratio_interval(a, counts));
    CHECK(interval.confidence == 0.95);
    CHECK(interval.resamples == 2000);
    // Drawn together, two models are compared more sharply than by their intervals.
    CHECK(standard_error(b, a) < 0.5 * standard_error(b, counts));
}

TEST_CASE("bootstrap: threads, seeds, order of the windows", "[bootstrap]") {
    Sample sample(300, 3);
    const auto counts = predictions_of(sample.windows), sums = window_sums(sample.windows, sample.values);
    const auto one = *ratio_interval(sums, counts);
    for (const std::size_t threads : {2u, 7u}) {
        ThreadPool pool(threads);
        CHECK(*ratio_interval(sums, counts, {}, pool) == one);
        CHECK(*mean_interval(sample.windows, sample.values, {}, pool) == one);
    }
    BootstrapOptions other_seed;
    other_seed.seed = 2;
    CHECK(*ratio_interval(sums, counts, other_seed) != one);

    std::vector<std::size_t> order(sums.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    testing::Random(5).shuffle(std::span(order));
    std::vector<double> moved_sums, moved_counts;
    for (const std::size_t w : order) moved_sums.push_back(sums[w]), moved_counts.push_back(counts[w]);
    const auto moved = *ratio_interval(moved_sums, moved_counts);
    const double noise = 4 * std::sqrt(2.0) * quantile_noise(2000) * standard_error(sums, counts);
    CHECK(std::abs(moved.low - one.low) <= noise);
    CHECK(std::abs(moved.high - one.high) <= noise);
}

TEST_CASE("bootstrap: of a model with itself, and of multiples", "[bootstrap]") {
    const Sample sample(50, 1);
    const auto sums = window_sums(sample.windows, sample.values);
    std::vector<double> double_sums, quarters;
    for (const double sum : sums) double_sums.push_back(2 * sum), quarters.push_back(sum / 4);
    const auto same = *ratio_interval(sums, sums), twice = *ratio_interval(double_sums, sums);
    CHECK(same.low == 1);
    CHECK(same.high == 1);
    CHECK(twice.low == 2);
    CHECK(twice.high == 2);
    // Multiples by a power of two have no roundings of their own.
    const auto counts = predictions_of(sample.windows);
    CHECK(ratio_interval(quarters, counts)->high == ratio_interval(sums, counts)->high / 4);
}

TEST_CASE("bootstrap: where there is no interval", "[bootstrap]") {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const std::vector<Window> one{window_of({0, 1, 2})}, two{window_of({0, 1, 2}), window_of({0, 3})};
    const auto of = [](const std::vector<Window>& windows, std::vector<double> values) {
        return mean_interval(windows, values);
    };
    CHECK_FALSE(of({}, {}));
    CHECK_FALSE(of(one, {1, 2}));
    REQUIRE(of(two, {1, 3, 5}));
    CHECK(of(two, {1, 3, 5})->low == 2);  // the first window twice: one resample of four
    CHECK(of(two, {1, 3, 5})->high == 5);
    CHECK_FALSE(of(two, {1, std::nan(""), 5}));
    CHECK_FALSE(of(two, {1, 2, infinity}));
    // Some resample draws the window in which b is 0 alone.
    const std::vector<double> a{1, 2}, b{0, 1};
    CHECK_FALSE(ratio_interval(a, b));
    CHECK(ratio_interval(b, a));
}
