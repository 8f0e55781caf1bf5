// Statistics: sums by hand, merging, the saved form there and back, and everything hostile that could stand
// in it.
#include "fewbit/calibrate/statistics.hpp"

#include <cmath>
#include <cstring>
#include <vector>

#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

template <class T>
Tensor tensor_of(Scalar type, Tensor::Shape shape, const std::vector<T>& values) {
    auto tensor = Tensor::allocate(type, std::move(shape));
    REQUIRE(tensor);
    REQUIRE(tensor->size_bytes() == values.size() * sizeof(T));
    if (!values.empty())
        std::memcpy(tensor->mutable_bytes().data(), values.data(), values.size() * sizeof(T));
    return *std::move(tensor);
}

Statistics sample() {
    Statistics statistics;
    REQUIRE(statistics.tensors["layers.0.wq"].add(testing::gaussian_matrix(20, 5, 1)));
    auto& second = statistics.tensors["odd/name.w"];
    REQUIRE(second.add(testing::gaussian_matrix(7, 3, 2)));
    second.ranges["minmax"] = {-3, 4};
    second.ranges["entropy"] = {-1, 1.5f};
    second.hessian_sum = tensor_of<double>(Scalar::f64, {3, 3}, {2, 0, 1, 0, 3, 0, 1, 0, 4});
    second.asymmetry_sum = tensor_of<double>(Scalar::f64, {3, 3}, {-2, 0, 1, 5, 3, 0, 1, 0, -4});
    return statistics;
}

}  // namespace

TEST_CASE("statistics: sums by hand", "[calibrate][statistics]") {
    TensorStatistics s;
    CHECK(s.range() == Range{0, 0});
    Matrix x(2, 2);
    x(0, 0) = 1, x(0, 1) = -2, x(1, 0) = -3, x(1, 1) = 4;
    REQUIRE(s.add(x));
    CHECK(s.tokens == 2);
    CHECK(s.mean_abs(0) == 2.0);
    CHECK(s.mean_square(1) == 10.0);
    CHECK(s.channel_ranges == std::vector<Range>{{-3, 1}, {-2, 4}});
    CHECK(s.range() == Range{-3, 4});
    REQUIRE(s.add(Matrix(0, 2)));
    CHECK(s.tokens == 2);
    CHECK(s.add(Matrix(1, 3), "w").error().message ==
          "statistics of 'w': a batch has 3 channels, earlier ones had 2");
    x(1, 0) = NAN;
    CHECK(s.add(x, "w").error().message ==
          "tensor 'w': 1 of 4 activations are not finite; the first is [1, 0], NaN");
    CHECK(s.tokens == 2);
}

TEST_CASE("statistics: cuts into batches change nothing, merging adds", "[calibrate][statistics]") {
    const auto x = testing::heavy_tailed_matrix(30, 4, 3);
    TensorStatistics whole, parts, left, right;
    REQUIRE(whole.add(x));
    for (std::size_t r = 0; r < 30; r += 7)
        REQUIRE(parts.add(x.view().rows_from(r, std::min<std::size_t>(7, 30 - r))));
    CHECK(whole.sum_abs == parts.sum_abs);  // to the last bit: same order of additions
    CHECK(whole.sum_square == parts.sum_square);
    CHECK(whole.channel_ranges == parts.channel_ranges);
    REQUIRE(left.add(x.view().rows_from(0, 11)));
    REQUIRE(right.add(x.view().rows_from(11, 19)));
    REQUIRE(left.merge(right));
    CHECK(left.tokens == 30);
    CHECK(left.channel_ranges == whole.channel_ranges);
    for (std::size_t c = 0; c < 4; ++c)
        CHECK(std::abs(left.sum_square[c] - whole.sum_square[c]) <= 1e-12 * whole.sum_square[c]);
    REQUIRE(left.merge(TensorStatistics{}));
    CHECK(left.tokens == 30);
    TensorStatistics other;
    REQUIRE(other.add(Matrix(1, 9)));
    CHECK(!left.merge(other));

    Statistics a = sample(), b = sample();
    REQUIRE(a.merge(b));
    const auto& merged = *a.find("odd/name.w");
    CHECK(merged.tokens == 14);
    CHECK(merged.hessian_sum.as<double>()[8] == 8.0);
    CHECK(merged.asymmetry_sum.as<double>()[3] == 10.0);
    CHECK(b.find("odd/name.w")->hessian_sum.as<double>()[8] ==
          4.0);  // copies share bytes; merging must not write them
    b.tensors["odd/name.w"].hessian_sum = {};
    const auto refused = a.merge(b);
    REQUIRE(!refused);
    CHECK(a.find("layers.0.wq")->tokens == 40);  // all or nothing
    CHECK(a.find("unknown") == nullptr);
}

TEST_CASE("statistics: saved and loaded", "[calibrate][statistics]") {
    const Statistics before = sample();
    const auto saved = to_tensors(before);
    REQUIRE(saved);
    CHECK(saved->size() == 1 + 5 + 5 + 2 + 2);
    CHECK(saved->at("odd/name.w/range/entropy").shape() == Tensor::Shape{2});
    const auto after = from_tensors(*saved);
    REQUIRE(after);
    CHECK(after->tensors.size() == 2);
    for (const auto& [tensor, one] : before.tensors) {
        const TensorStatistics* two = after->find(tensor);
        REQUIRE(two != nullptr);
        CHECK(two->tokens == one.tokens);
        CHECK(two->sum_abs == one.sum_abs);
        CHECK(two->sum_square == one.sum_square);
        CHECK(two->channel_ranges == one.channel_ranges);
        CHECK(two->ranges == one.ranges);
        CHECK(two->hessian_sum.elements() == one.hessian_sum.elements());
    }
    CHECK(after->find("odd/name.w")->hessian_sum.as<double>()[4] == 3.0);
    CHECK(after->find("odd/name.w")->channel_scales.empty());
    Statistics scaled = sample();
    scaled.tensors["odd/name.w"].channel_scales = {0.5f, 2.0f, 1e-3f};
    const auto reread = from_tensors(*to_tensors(scaled));
    REQUIRE(reread);
    CHECK(reread->find("odd/name.w")->channel_scales == std::vector<float>{0.5f, 2.0f, 1e-3f});
    CHECK(reread->find("layers.0.wq")->channel_scales.empty());
    CHECK(scaled.merge(sample()).error().message.find("divided by different scales") != std::string::npos);
    scaled.tensors["odd/name.w"].channel_scales.pop_back();
    CHECK(!to_tensors(scaled));
    CHECK(after->find("odd/name.w")->asymmetry_sum.as<double>()[0] == -2.0);
    CHECK(from_tensors(*to_tensors(Statistics{}))->tensors.empty());
    Statistics crooked = sample();
    crooked.tensors["layers.0.wq"].sum_square.pop_back();
    CHECK(!to_tensors(crooked));
}

TEST_CASE("statistics: nothing in a saved form is trusted", "[calibrate][statistics]") {
    const auto good = *to_tensors(sample());
    const auto refuses = [&](const char* key, std::optional<Tensor> value, const char* because) {
        auto bad = good;
        if (value)
            bad[key] = *value;
        else
            bad.erase(key);
        const auto result = from_tensors(bad);
        INFO(key << ": " << because);
        REQUIRE(!result);
        INFO(result.error().message);
        CHECK(result.error().message.find(because) != std::string::npos);
    };
    const auto f64 = [](std::vector<double> v) { return tensor_of(Scalar::f64, {v.size()}, v); };
    const auto f32 = [](std::vector<float> v) { return tensor_of(Scalar::f32, {v.size()}, v); };
    const auto i64 = [](std::vector<std::int64_t> v) { return tensor_of(Scalar::i64, {v.size()}, v); };
    refuses("fewbit.statistics/version", std::nullopt, "not fewbit statistics");
    refuses("fewbit.statistics/version", i64({2}), "version 2");
    refuses("fewbit.statistics/version", f64({1}), "is f64 (1), not i64 (1)");
    refuses("odd/name.w/tokens", std::nullopt, "'odd/name.w/tokens' is missing");
    refuses("odd/name.w/tokens", i64({0}), "'odd/name.w/tokens' is 0");
    refuses("odd/name.w/channel_scales", f32({1, 0, 1}), "'odd/name.w/channel_scales' holds 0 at 1");
    refuses("odd/name.w/channel_scales", f32({1, 1}), "not f32 (3)");
    refuses("odd/name.w/tokens", i64({-5}), "is -5");
    refuses("odd/name.w/tokens", i64({1, 2}), "is i64 (2), not i64 (1)");
    refuses("odd/name.w/sum_abs", f64({1, 2}), "not f64 (2)");  // the others have three channels
    refuses("odd/name.w/sum_abs", f64({1, -2, 3}), "negative sum, -2, at 1");
    refuses("odd/name.w/sum_abs", f64({1, NAN, 3}), "holds nan at 1");
    refuses("odd/name.w/sum_abs", tensor_of<double>(Scalar::f64, {3, 1}, {1, 2, 3}),
            "is f64 (3, 1), not f64 (K)");
    refuses("odd/name.w/sum_square", f64({1, HUGE_VAL, 3}), "holds inf at 1");
    refuses("odd/name.w/sum_square", f32({1, 2, 3}), "is f32 (3), not f64 (3)");
    refuses("odd/name.w/sum_square", f64({}), "not f64 (3)");
    refuses("odd/name.w/channel_min", f32({9, 9, 9}), "above max");
    refuses("odd/name.w/hessian_sum", tensor_of<double>(Scalar::f64, {9}, std::vector<double>(9, 1)),
            "not f64 (3, 3)");
    refuses("odd/name.w/hessian_sum", tensor_of<double>(Scalar::f64, {3, 3}, {1, 0, 0, 0, -1, 0, 0, 0, 1}),
            "holds -1 at [1, 1]");
    refuses("odd/name.w/hessian_sum", tensor_of<double>(Scalar::f64, {3, 3}, {1, 0, 0, NAN, 1, 0, 0, 0, 1}),
            "holds nan at [1, 0]");
    refuses("odd/name.w/range/minmax", f32({1}), "not f32 (2)");
    refuses("odd/name.w/range/minmax", f32({2, 1}), "min 2 above max 1");
    refuses("odd/name.w/surprise", f32({2, 1}), "'odd/name.w/surprise' is not an entry");
    refuses("surprise", f32({2, 1}), "'surprise' is not an entry");
    refuses("/tokens", i64({1}), "'/tokens' is not an entry");
    refuses("new/range/minmax", f32({0, 1}), "'new/tokens' is missing");
}
