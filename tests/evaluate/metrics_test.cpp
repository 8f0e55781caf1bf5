// Error metrics against values computed by hand, and the table of corner cases in metrics.hpp.
#include <cmath>
#include <limits>
#include <vector>

#include "fewbit/evaluate/metrics.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;
using Catch::Approx;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinite = std::numeric_limits<float>::infinity();

ErrorMetrics of(const std::vector<float>& reference, const std::vector<float>& approximation) {
    const auto result = compare(reference, approximation);
    REQUIRE(result);
    return *result;
}

}  // namespace

TEST_CASE("metrics of a hand-computed pair") {
    // errors 0, 0.5, -1, 0; noise 1.25; signal 1 + 4 + 9 + 16 = 30; energy 1 + 2.25 + 16 + 16; dot 1 + 3 + 12
    // + 16
    const ErrorMetrics m = of({1, 2, 3, -4}, {1, 1.5f, 4, -4});
    CHECK(m.count == 4);
    CHECK(m.not_finite == 0);
    CHECK(m.nmse == Approx(1.25 / 30).epsilon(1e-15));
    CHECK(m.relative_error == Approx(std::sqrt(1.25 / 30)).epsilon(1e-15));
    CHECK(m.sqnr_db == Approx(10 * std::log10(24.0)).epsilon(1e-15));
    CHECK(m.cosine == Approx(32 / std::sqrt(30 * 35.25)).epsilon(1e-15));
    CHECK(m.max_abs_error == 1.0);
    CHECK(m.mean_square_error == 1.25 / 4);
}

TEST_CASE("metrics have defined results in every corner") {
    for (const ErrorMetrics& m : {of({}, {}), of({0, 0}, {0, -0.0f}), of({3, -1}, {3, -1})}) {
        CHECK(m.relative_error == 0);
        CHECK(m.nmse == 0);
        CHECK(m.sqnr_db == infinite);
        CHECK(m.cosine == 1);
        CHECK(m.max_abs_error == 0);
        CHECK(m.mean_square_error == 0);
    }
    const ErrorMetrics zero_reference = of({0, 0}, {1, 0});
    CHECK(zero_reference.relative_error == infinite);
    CHECK(zero_reference.nmse == infinite);
    CHECK(zero_reference.sqnr_db == -infinite);
    CHECK(zero_reference.cosine == 0);
    CHECK(zero_reference.max_abs_error == 1);

    const ErrorMetrics zero_approximation = of({2, 0}, {0, 0});
    CHECK(zero_approximation.relative_error == 1);
    CHECK(zero_approximation.sqnr_db == 0);
    CHECK(zero_approximation.cosine == 0);

    for (const float odd : {not_a_number, infinite, -infinite})
        for (const ErrorMetrics& m : {of({1, odd}, {1, 1}), of({1, 1}, {1, odd}), of({1, odd}, {1, odd})}) {
            CHECK(m.count == 2);
            CHECK(m.not_finite == 1);
            CHECK(std::isnan(m.relative_error));
            CHECK(std::isnan(m.nmse));
            CHECK(std::isnan(m.sqnr_db));
            CHECK(std::isnan(m.cosine));
            CHECK(std::isnan(m.max_abs_error));
            CHECK(std::isnan(m.mean_square_error));
        }
}

TEST_CASE("metrics survive the ends of the range of f32") {
    const float huge = std::numeric_limits<float>::max(), tiny = std::numeric_limits<float>::denorm_min();
    const ErrorMetrics large = of({huge, huge}, {huge, -huge});
    CHECK(large.nmse == Approx(2).epsilon(1e-15));
    CHECK(large.cosine == Approx(0).margin(1e-15));
    const ErrorMetrics small = of({tiny, 2 * tiny}, {tiny, tiny});
    CHECK(small.nmse == Approx(0.2).epsilon(1e-15));
    CHECK(small.cosine == Approx(3 / std::sqrt(10.0)).epsilon(1e-15));
}

TEST_CASE("metrics of strided matrices and of codes") {
    const std::vector<float> reference{1, 2, 99, 3, 4, 99}, approximation{1, 2, 3, 5};
    const auto m = compare(MatrixView<const float>(reference.data(), 2, 2, 3),
                           MatrixView<const float>(approximation.data(), 2, 2));
    REQUIRE(m);
    CHECK(m->count == 4);
    CHECK(m->nmse == Approx(1.0 / 30).epsilon(1e-15));
    CHECK(m->max_abs_error == 1);

    const auto stored = float_matrix(MatrixView<const float>(approximation.data(), 2, 2));
    REQUIRE(stored);
    const auto same = compare(MatrixView<const float>(reference.data(), 2, 2, 3), *stored);
    REQUIRE(same);
    CHECK(same->nmse == m->nmse);
}

TEST_CASE("metrics refuse shapes that differ, with both in the sentence") {
    const std::vector<float> numbers(6);
    const auto spans = compare(std::span(numbers).first(2), std::span(numbers).first(3));
    REQUIRE_FALSE(spans);
    CHECK(spans.error().message == "cannot compare 2 numbers with 3");
    const auto matrices =
        compare(MatrixView<const float>(numbers.data(), 2, 3), MatrixView<const float>(numbers.data(), 3, 2));
    REQUIRE_FALSE(matrices);
    CHECK(matrices.error().message == "cannot compare a 2 x 3 matrix with one of 3 x 2");
}

TEST_CASE("pieces give the same metrics as the whole") {
    std::vector<float> reference, approximation;
    for (int i = 0; i < 100; ++i) {
        reference.push_back(static_cast<float>(i % 13) - 6);
        approximation.push_back(static_cast<float>(i % 11) - 5);
    }
    ErrorAccumulator first, second;
    first.add(std::span(reference).first(40), std::span(approximation).first(40));
    second.add(std::span(reference).subspan(40), std::span(approximation).subspan(40));
    first.add(second);
    const ErrorMetrics whole = of(reference, approximation), pieces = first.metrics();
    CHECK(pieces.count == whole.count);
    CHECK(pieces.nmse == whole.nmse);  // whole numbers: the sums are exact
    CHECK(pieces.cosine == whole.cosine);
    CHECK(pieces.max_abs_error == whole.max_abs_error);
}
