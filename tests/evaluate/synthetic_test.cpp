// Synthetic matrices have the moments of their distributions, and the settings of the curves are all there.
#include <cmath>
#include <set>
#include <string>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/evaluate/curves.hpp"
#include "fewbit/evaluate/synthetic.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;
using Catch::Approx;

namespace {

struct Moments {
    double mean = 0, variance = 0, kurtosis = 0;
};

Moments moments_of(const Matrix& matrix) {
    const auto n = static_cast<double>(matrix.values().size());
    Moments m;
    for (const float x : matrix.values()) m.mean += x / n;
    double fourth = 0;
    for (const float x : matrix.values()) {
        const double d = x - m.mean;
        m.variance += d * d / n;
        fourth += d * d * d * d / n;
    }
    m.kurtosis = fourth / (m.variance * m.variance);
    return m;
}

}  // namespace

TEST_CASE("Gaussian matrices have a Gaussian's moments") {
    const Moments m = moments_of(gaussian_matrix(300, 1001, 7));
    // five standard errors of the mean, the variance and the kurtosis of 300,300 samples
    const double n = 300 * 1001;
    CHECK(m.mean == Approx(0).margin(5 / std::sqrt(n)));
    CHECK(m.variance == Approx(1).margin(5 * std::sqrt(2 / n)));
    CHECK(m.kurtosis == Approx(3).margin(5 * std::sqrt(24 / n)));
}

TEST_CASE("Student's t has its variance and heavy tails") {
    const Moments m = moments_of(student_t_matrix(300, 1001, 9, 7));
    const double n = 300 * 1001;
    CHECK(m.mean == Approx(0).margin(5 * std::sqrt(9.0 / 7 / n)));
    CHECK(m.variance ==
          Approx(9.0 / 7).margin(5 * 9.0 / 7 * std::sqrt(3.2 / n)));  // kurtosis 3 + 6 / (9 - 4)
    CHECK(m.kurtosis > 3.8);
    CHECK(m.kurtosis < 5.2);
}

TEST_CASE("the same seed gives the same numbers for any number of threads, another seed others") {
    ThreadPool pool(3);
    const Matrix one = gaussian_matrix(20, 33, 1), same = gaussian_matrix(20, 33, 1, pool),
                 other = gaussian_matrix(20, 33, 2);
    CHECK(std::equal(one.values().begin(), one.values().end(), same.values().begin()));
    CHECK_FALSE(std::equal(one.values().begin(), one.values().end(), other.values().begin()));
    CHECK(one(0, 0) != one(1, 0));
}

TEST_CASE("Shannon's bound for Student's t: closed form, and the Gaussian limit") {
    // 5 degrees: psi(3) - psi(5/2) = 3/2 - (2 + 2/3) + 2 ln 2; B(5/2, 1/2) = 3 pi / 8
    const double entropy =
        3 * (1.5 - 8.0 / 3 + 2 * std::log(2.0)) + std::log(std::sqrt(5.0) * 3 * 3.14159265358979 / 8);
    const double gaussian = 0.5 * std::log(2 * 3.14159265358979 * 2.71828182845905 * 5 / 3);
    CHECK(student_t_bound_db(5) ==
          Approx(20 * std::log10(std::exp(1.0)) * (gaussian - entropy)).epsilon(1e-9));
    CHECK(student_t_bound_db(5) == Approx(0.41).margin(0.01));
    CHECK(student_t_bound_db(100000) == Approx(0).margin(1e-6));
}

TEST_CASE("112 settings, each its own format and method") {
    std::set<std::string> seen;
    for (const CurveSetting& setting : curve_settings()) {
        CHECK(validate(setting.format));
        seen.insert(fewbit::name(setting.format) + " " + std::string(name(setting.variant)));
    }
    CHECK(seen.size() == 112);
    CHECK(seen.count("int4-g128-asym mse") == 1);
    CHECK(seen.count("int2-tensor symmetric") == 1);
    CHECK(seen.count("int2-channel-narrow narrow") == 1);
    CHECK(seen.count("int8-channel-asym asymmetric") == 1);
}
