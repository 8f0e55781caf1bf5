// The theory against published and converged tables (Lloyd-Max and best uniform: converged values to the
// digits that stand there) and against what defines it.
#include "fewbit/evaluate/theory.hpp"

#include <cmath>

#include "support/catch.hpp"

using namespace fewbit;

namespace {

struct Row {
    double mse, db;
};
// clang-format off
const Row lloyd[] = {{.36338, 4.40}, {.11748, 9.30}, {.03455, 14.62}, {.009501, 20.22}, {.002505, 26.01}, {6.442e-4, 31.91}, {1.635e-4, 37.87}, {4.119e-5, 43.85}};
const Row uniform[] = {{.36338, 4.40}, {.11885, 9.25}, {.03744, 14.27}, {.01154, 19.38}, {.003495, 24.57}, {1.040e-3, 29.83}, {3.043e-4, 35.17}, {8.769e-5, 40.57}};
const double steps[] = {1.596, .996, .586, .335, .188, .104, .0569, .0308};
const double bound[] = {.25, .0625, .01563, 3.906e-3, 9.766e-4, 2.441e-4, 6.104e-5, 1.526e-5};
// clang-format on

bool near(double value, double expected, double relative) {
    return std::abs(value - expected) <= relative * std::abs(expected);
}

}  // namespace

TEST_CASE("theory: the tables", "[theory]") {
    for (int bits = 1; bits <= 8; ++bits) {
        INFO("bits " << bits);
        const auto best = lloyd_max(bits), even = best_uniform(bits);
        INFO("Lloyd-Max " << best.mse << ", uniform " << even.mse << " step " << even.step);
        CHECK(near(best.mse, lloyd[bits - 1].mse, 5e-4));
        CHECK(std::abs(best.sqnr_db() - lloyd[bits - 1].db) <= 0.0051);
        CHECK(near(even.mse, uniform[bits - 1].mse, 5e-4));
        CHECK(std::abs(even.sqnr_db() - uniform[bits - 1].db) <= 0.0051);
        CHECK(near(even.step, steps[bits - 1], 2e-3));
        CHECK(near(rate_distortion_mse(bits), bound[bits - 1], 5e-4));
        CHECK(rate_distortion_mse(bits) < best.mse);
        CHECK(best.mse <= even.mse * (1 + 1e-12));
    }
    CHECK(near(lloyd_max(1).mse, 1 - 2 / 3.14159265358979323846, 1e-12));  // the only one with a closed form
    CHECK(near(lloyd_max(11).mse, lloyd_max_asymptote_mse(11), 5e-3));
    CHECK(std::abs(10 * std::log10(lloyd_max_asymptote_mse(5) / rate_distortion_mse(5)) - 4.35) < 0.005);
}

TEST_CASE("theory: Lloyd-Max satisfies the centroid condition and beats its neighbours", "[theory]") {
    for (int bits = 1; bits <= 8; ++bits) {
        const auto q = lloyd_max(bits);
        for (std::size_t i = 0; i < q.levels.size(); ++i) {
            const double a = i == 0 ? 0 : 0.5 * (q.levels[i - 1] + q.levels[i]);
            const double b = i + 1 == q.levels.size() ? HUGE_VAL : 0.5 * (q.levels[i] + q.levels[i + 1]);
            const double h = 1e-3;
            const double here = detail::cell_error(a, b, q.levels[i]);
            CHECK(here <= detail::cell_error(a, b, q.levels[i] + h));
            CHECK(here <= detail::cell_error(a, b, q.levels[i] - h));
            if (i > 0) CHECK(q.levels[i] > q.levels[i - 1]);
        }
    }
}

TEST_CASE("theory: rms of the largest of g, and the closed form for absmax", "[theory]") {
    const std::size_t groups[] = {16, 32, 64, 128, 256};
    const double expected[] = {2.132, 2.389, 2.631, 2.855, 3.065};
    // The tabled numbers are sampled; the integral is exact, and they differ by up to 0.0016.
    for (int i = 0; i < 5; ++i) CHECK(std::abs(rms_absmax(groups[i]) - expected[i]) < 3e-3);
    CHECK(near(rms_absmax(1), 1.0, 1e-9));
    // Column one of the SQNR table, from 4 bits on.
    const double table[3][5] = {{20.26, 26.89, 33.19, 39.35, 45.45},
                                {19.36, 25.98, 32.29, 38.44, 44.54},
                                {18.62, 25.23, 31.54, 37.70, 43.79}};
    for (int g = 0; g < 3; ++g)
        for (int bits = 4; bits <= 8; ++bits) {
            INFO("g " << groups[g + 1] << " bits " << bits << ": " << absmax_sqnr_db(bits, groups[g + 1]));
            CHECK(std::abs(absmax_sqnr_db(bits, groups[g + 1]) - table[g][bits - 4]) <= 0.1);
        }
}
