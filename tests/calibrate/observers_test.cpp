// Observers and the histogram: order and merging do not matter, ranges are what their definitions say, bad
// input names the tensor and the count.
#include "fewbit/calibrate/observers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

Histogram histogram_of(MatrixView<const float> x) {
    Histogram h;
    REQUIRE(h.observe(x));
    return h;
}

}  // namespace

TEST_CASE("min-max: per tensor, per channel, merged", "[calibrate]") {
    const auto x = testing::gaussian_matrix(50, 6, 1);
    MinMaxObserver all("x"), channels("x", PerWhat::channel), first("x", PerWhat::channel),
        second("x", PerWhat::channel);
    CHECK(all.ranges().empty());
    REQUIRE(all.observe(x));
    REQUIRE(channels.observe(x));
    REQUIRE(first.observe(x.view().rows_from(0, 20)));
    REQUIRE(second.observe(x.view().rows_from(20, 30)));
    REQUIRE(first.merge(second));
    const auto values = x.values();
    const auto [min, max] = std::minmax_element(values.begin(), values.end());
    CHECK(all.ranges() == std::vector<Range>{{*min, *max}});
    CHECK(channels.ranges() == first.ranges());
    for (std::size_t c = 0; c < 6; ++c) {
        float low = x(0, c), high = low;
        for (std::size_t r = 0; r < 50; ++r) low = std::min(low, x(r, c)), high = std::max(high, x(r, c));
        CHECK(channels.ranges()[c] == Range{low, high});
    }
    REQUIRE(all.observe(Matrix(0, 6)));  // an empty batch says nothing
    CHECK(all.ranges().size() == 1);
    CHECK(channels.observe(Matrix(2, 5)).error().message ==
          "tensor 'x': a batch has 5 channels, the batches before it had 6");
    MinMaxObserver narrow("y", PerWhat::channel);
    REQUIRE(narrow.observe(Matrix(2, 5)));
    CHECK(!channels.merge(narrow));
}

TEST_CASE("moving average: momentum by hand", "[calibrate]") {
    MovingAverageObserver observer("x", 0.75);
    Matrix x(1, 2);
    x(0, 0) = -1, x(0, 1) = 3;
    REQUIRE(observer.observe(x));
    CHECK(observer.ranges() == std::vector<Range>{{-1, 3}});  // the first batch as it is
    x(0, 0) = -5, x(0, 1) = 7;
    REQUIRE(observer.observe(x));
    CHECK(observer.ranges() == std::vector<Range>{{-2, 4}});  // 0.75 * -1 + 0.25 * -5, 0.75 * 3 + 0.25 * 7
    MovingAverageObserver channels("x", 0.5, PerWhat::channel);
    REQUIRE(channels.observe(x));
    CHECK(channels.ranges() == std::vector<Range>{{-5, -5}, {7, 7}});
    CHECK(!MovingAverageObserver("x", 1.0).observe(x));
}

TEST_CASE("observers: NaN and infinity are refused with tensor and count, the state stays",
          "[calibrate][degenerate]") {
    auto x = testing::gaussian_matrix(8, 16, 2);
    auto bad = x;
    bad(2, 5) = NAN;
    bad(2, 6) = HUGE_VALF;
    bad(7, 15) = -HUGE_VALF;
    const std::string sentence =
        "tensor 'layers.1.x': 3 of 128 activations are not finite; the first is [2, 5], NaN";
    MinMaxObserver min_max("layers.1.x");
    MovingAverageObserver average("layers.1.x");
    HistogramObserver histogram("layers.1.x");
    REQUIRE(min_max.observe(x));
    REQUIRE(average.observe(x));
    REQUIRE(histogram.observe(x));
    const Histogram before = histogram.histogram();
    const auto ranges = min_max.ranges(), averages = average.ranges();
    CHECK(min_max.observe(bad).error().message == sentence);
    CHECK(average.observe(bad).error().message == sentence);
    CHECK(histogram.observe(bad).error().message == sentence);
    CHECK(min_max.ranges() == ranges);
    CHECK(average.ranges() == averages);
    CHECK(histogram.histogram() == before);
}

TEST_CASE("histogram: cuts, order and merging change nothing", "[calibrate][histogram]") {
    Matrix x(64, 40);
    testing::Random random(3);
    for (float& v : x.values()) v = static_cast<float>(random.gaussian() * std::exp2(random.uniform(-20, 6)));
    x(3, 3) = 0.0f, x(4, 4) = -0.0f, x(5, 5) = 64.0f, x(6, 6) = -128.0f;  // powers of two are edges
    const Histogram whole = histogram_of(x);
    CHECK(whole.total() == 64 * 40);
    std::uint64_t sum = 0;
    for (const auto count : whole.counts()) sum += count;
    CHECK(sum == whole.total());

    Histogram forward, backward, merged;
    for (std::size_t r = 0; r < 64; ++r) REQUIRE(forward.observe(x.view().rows_from(r, 1)));
    for (std::size_t r = 64; r-- > 0;) REQUIRE(backward.observe(x.view().rows_from(r, 1)));
    for (std::size_t r = 0; r < 64; r += 16) merged.merge(histogram_of(x.view().rows_from(r, 16)));
    CHECK(forward == whole);
    CHECK(backward == whole);
    CHECK(merged == whole);
    // Every bin holds the values between its edges.
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < Histogram::bins; ++i) {
        std::uint64_t inside = 0;
        for (const float v : x.values())
            inside += static_cast<double>(v) >= whole.edge(i) && static_cast<double>(v) < whole.edge(i + 1);
        wrong += inside != whole.counts()[i];
    }
    CHECK(wrong == 0);
}

TEST_CASE("histogram: zeros first, tiny and huge values", "[calibrate][histogram]") {
    Histogram h;
    REQUIRE(h.observe(Matrix(2, 3)));
    CHECK(h.limit() == 0);
    CHECK(h.range() == Range{0, 0});
    CHECK(percentile_range(h, 0.01) == Range{0, 0});
    CHECK(mse_range(h, 8, true) == Range{0, 0});
    CHECK(entropy_range(h, 8) == Range{0, 0});
    Matrix x(1, 2);
    x(0, 0) = std::numeric_limits<float>::denorm_min();
    REQUIRE(h.observe(x));
    CHECK(h.counts()[Histogram::bins / 2] == 7);
    x(0, 1) = -std::numeric_limits<float>::max();
    REQUIRE(h.observe(x));
    CHECK(h.limit() == std::ldexp(1.0, 128));
    CHECK(h.range() == Range{-std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min()});
    CHECK(h.total() == 10);
    CHECK(Histogram().range() == Range{0, 0});
    Histogram empty;
    empty.merge(Histogram());
    CHECK(empty == Histogram());
}

TEST_CASE("percentile: leaves the asked share at each end", "[calibrate][histogram]") {
    Matrix x(200, 1000);
    testing::Random random(4);
    for (float& v : x.values()) v = static_cast<float>(random.uniform(-1, 3));
    const Histogram h = histogram_of(x);
    for (const double tail : {0.1, 0.01, 1e-3}) {
        INFO(tail);
        const Range range = percentile_range(h, tail);
        const auto below =
            std::count_if(x.values().begin(), x.values().end(), [&](float v) { return v < range.min; });
        const auto above =
            std::count_if(x.values().begin(), x.values().end(), [&](float v) { return v > range.max; });
        CHECK(std::abs(static_cast<double>(below) / 200000 - tail) <= 4.0 / Histogram::bins * 0.1 + 1e-4);
        CHECK(std::abs(static_cast<double>(above) / 200000 - tail) <= 4.0 / Histogram::bins * 0.1 + 1e-4);
    }
    CHECK(percentile_range(h, 0) == h.range());
    // One outlier does not move it, min-max it does.
    x(0, 0) = 1000;
    CHECK(percentile_range(histogram_of(x), 1e-3).max < 4);
}

TEST_CASE("mse: a Gaussian is clipped where theory says", "[calibrate][histogram]") {
    const auto x = testing::gaussian_matrix(400, 1000, 5);
    const Histogram h = histogram_of(x);
    // Best uniform 4-bit step 0.335 with 16 levels: absmax about 7 steps; 8 bits: 0.0308 * 127.
    const Range four = mse_range(h, 4, true), eight = mse_range(h, 8, true);
    INFO("4 bits " << four.max << ", 8 bits " << eight.max);
    CHECK(std::max(-four.min, four.max) > 2.2f);
    CHECK(std::max(-four.min, four.max) < 2.9f);
    CHECK(std::max(-eight.min, eight.max) > 3.6f);
    CHECK(std::max(-eight.min, eight.max) < 4.5f);
    CHECK(h.range().max > 4.5f);
    CHECK(mse_range(h, 4, false).max < h.range().max);
}

TEST_CASE("entropy: outliers are cut, even distributions are not", "[calibrate][histogram]") {
    auto x = testing::gaussian_matrix(300, 1000, 6);
    x(0, 0) = 40.0f;  // a TensorRT classic: one value far away
    const Range range = entropy_range(histogram_of(x), 8);
    INFO("max " << range.max);
    CHECK(range.max > 2.0f);
    CHECK(range.max < 10.0f);
    for (float& v : x.values()) v = std::max(v, 0.0f);  // after a ReLU
    CHECK(entropy_range(histogram_of(x), 8).min == 0.0f);
    testing::Random random(7);
    for (float& v : x.values()) v = static_cast<float>(random.uniform(-1, 1));
    CHECK(entropy_range(histogram_of(x), 8).max > 0.9f);
}

TEST_CASE("parameters_for: static grids", "[calibrate]") {
    CHECK(*parameters_for({-1, 127}, 8, true) == ScaleZero{1.0f, 0, -127, 127});
    CHECK(*parameters_for({-5, 10}, 4, false) == ScaleZero{1.0f, 5, 0, 15});
    CHECK(*parameters_for({5, 15}, 4, false) == ScaleZero{1.0f, 0, 0, 15});  // widened to 0
    CHECK(*parameters_for({-15, -5}, 4, false) == ScaleZero{1.0f, 15, 0, 15});
    CHECK(*parameters_for({0, 0}, 8, false) == ScaleZero{0.0f, 0, 0, 255});
    CHECK(parameters_for({0, 1e-45f}, 8, true)->scale > 0);
    CHECK(!parameters_for({0, 1}, 9, true));
    CHECK(!parameters_for({0, 1}, 1, true));
    CHECK(!parameters_for({1, 0}, 8, true));
    CHECK(!parameters_for({NAN, 1}, 8, true));
    CHECK(!parameters_for({0, HUGE_VALF}, 8, true));
    const float most = std::numeric_limits<float>::max();
    CHECK(parameters_for({-most, most}, 8, false));
}
