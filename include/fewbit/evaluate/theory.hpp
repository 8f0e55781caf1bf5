// Theory to draw measured curves against: what quantizers of a unit Gaussian can and do reach, in mean
// squared error and as SQNR in dB. Computed by iteration, not from tables (Max's of 1960 are slightly low at
// 3 to 5 bits).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace fewbit::inline v0 {

/// A scalar quantizer of the unit Gaussian with 2^bits levels.
struct GaussianQuantizer {
    double mse = 1;
    double step = 0;             ///< distance of neighbouring levels; uniform quantizers only
    std::vector<double> levels;  ///< the positive half, ascending; the others mirror it
    [[nodiscard]] double sqnr_db() const noexcept { return -10.0 * std::log10(mse); }
};

namespace detail {

[[nodiscard]] inline double gaussian_density(double x) noexcept {
    return 0.3989422804014327 * std::exp(-0.5 * x * x);
}

/// P(a < X < b) for 0 <= a <= b, without cancellation in the tail.
[[nodiscard]] inline double gaussian_mass(double a, double b) noexcept {
    return 0.5 * (std::erfc(a * 0.7071067811865476) - std::erfc(b * 0.7071067811865476));
}

/// E[(X - level)^2; a < X < b].
[[nodiscard]] inline double cell_error(double a, double b, double level) noexcept {
    const double mass = gaussian_mass(a, b), da = gaussian_density(a), db = gaussian_density(b);
    const double b_db = std::isinf(b) ? 0.0 : b * db;
    return (mass + a * da - b_db) - 2 * level * (da - db) + level * level * mass;
}

[[nodiscard]] inline double uniform_error(std::size_t half, double step) noexcept {
    double error = 0;
    for (std::size_t i = 0; i < half; ++i) {
        const double a = static_cast<double>(i) * step;
        error += 2 * cell_error(a, i + 1 == half ? HUGE_VAL : a + step, a + 0.5 * step);
    }
    return error;
}

}  // namespace detail

/// Shannon's bound for the unit Gaussian: no quantizer of `bits` per sample has less error. D(R) = 2^(-2R).
[[nodiscard]] inline double rate_distortion_mse(double bits) noexcept { return std::exp2(-2 * bits); }

/// Lloyd-Max for large rates: sqrt(3) pi / 2 * 2^(-2 bits), 4.35 dB below the bound (Panter and Dite 1951).
[[nodiscard]] inline double lloyd_max_asymptote_mse(double bits) noexcept {
    return 2.720699046351327 * std::exp2(-2 * bits);
}

/// The best scalar quantizer (Lloyd 1957, Max 1960): every level is the mean of its cell, every edge the
/// middle between levels. Newton's method on the centroid equations, whose Jacobian is tridiagonal.
/// bits: 1..12.
[[nodiscard]] inline GaussianQuantizer lloyd_max(int bits) {
    const std::size_t n = std::size_t{1} << (bits - 1);
    GaussianQuantizer result;
    std::vector<double>& y = result.levels;
    y.resize(n);
    // Start from the best companding density, a Gaussian of variance 3: invert its distribution by bisection.
    for (std::size_t i = 0; i < n; ++i) {
        const double tail = 1.0 - (static_cast<double>(i) + 0.5) / static_cast<double>(n);  // P(|X| > y)
        double low = 0, high = 20;
        for (int step = 0; step < 60; ++step) {
            const double middle = 0.5 * (low + high);
            (std::erfc(middle * 0.4082482904638630) > tail ? low : high) = middle;
        }
        y[i] = low;
    }
    std::vector<double> diagonal(n), above(n), below(n), residual(n);
    for (int round = 0; round < 100; ++round) {
        double largest = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const double a = i == 0 ? 0 : 0.5 * (y[i - 1] + y[i]);
            const double b = i + 1 == n ? HUGE_VAL : 0.5 * (y[i] + y[i + 1]);
            const double mass = detail::gaussian_mass(a, b), da = detail::gaussian_density(a),
                         db = detail::gaussian_density(b);
            const double centroid = (da - db) / mass;
            const double by_a =
                i == 0 ? 0 : 0.5 * da * (centroid - a) / mass;  // of the centroid by y[i-1], and by y[i]
            const double by_b = i + 1 == n ? 0 : 0.5 * db * (b - centroid) / mass;
            residual[i] = y[i] - centroid;
            diagonal[i] = 1 - by_a - by_b;
            below[i] = -by_a;
            above[i] = -by_b;
            largest = std::max(largest, std::abs(residual[i]));
        }
        if (largest < 1e-14) break;
        for (std::size_t i = 1; i < n; ++i) {  // Thomas: forward, then back substitution
            const double factor = below[i] / diagonal[i - 1];
            diagonal[i] -= factor * above[i - 1];
            residual[i] -= factor * residual[i - 1];
        }
        for (std::size_t i = n; i-- > 0;) {
            if (i + 1 < n) residual[i] -= above[i] * residual[i + 1];
            residual[i] /= diagonal[i];
            y[i] -= residual[i];
        }
    }
    result.mse = 0;
    for (std::size_t i = 0; i < n; ++i)
        result.mse += 2 * detail::cell_error(i == 0 ? 0 : 0.5 * (y[i - 1] + y[i]),
                                             i + 1 == n ? HUGE_VAL : 0.5 * (y[i] + y[i + 1]), y[i]);
    return result;
}

/// The best quantizer with 2^bits equally spaced levels around zero: golden-section search for the step.
/// bits: 1..12.
[[nodiscard]] inline GaussianQuantizer best_uniform(int bits) {
    const std::size_t half = std::size_t{1} << (bits - 1);
    constexpr double golden = 0.6180339887498949;
    double low = 0.5 / static_cast<double>(half), high = 8.0 / static_cast<double>(half);
    double a = high - golden * (high - low), b = low + golden * (high - low);
    double error_a = detail::uniform_error(half, a), error_b = detail::uniform_error(half, b);
    for (int round = 0; round < 80; ++round) {
        if (error_a < error_b) {
            high = b, b = a, error_b = error_a;
            a = high - golden * (high - low), error_a = detail::uniform_error(half, a);
        } else {
            low = a, a = b, error_a = error_b;
            b = low + golden * (high - low), error_b = detail::uniform_error(half, b);
        }
    }
    GaussianQuantizer result;
    result.step = 0.5 * (low + high);
    result.mse = detail::uniform_error(half, result.step);
    for (std::size_t i = 0; i < half; ++i)
        result.levels.push_back((static_cast<double>(i) + 0.5) * result.step);
    return result;
}

/// sqrt(E[max_i |X_i|^2]) over `group` unit Gaussians, by Simpson's rule on the integral of 2x P(max > x).
[[nodiscard]] inline double rms_absmax(std::size_t group) {
    constexpr int intervals = 4000;
    constexpr double end = 12, width = end / intervals;
    double sum = 0;
    for (int i = 0; i <= intervals; ++i) {
        const double x = i * width;
        // 1 - (1 - erfc)^g without cancellation
        const double survival =
            -std::expm1(static_cast<double>(group) * std::log1p(-std::erfc(x * 0.7071067811865476)));
        const double value = 2 * x * (i == 0 ? 1.0 : survival);
        sum += value * (i == 0 || i == intervals ? 1 : i % 2 == 1 ? 4 : 2);
    }
    return std::sqrt(sum * width / 3);
}

/// SQNR of absmax quantization to 2^bits - 1 symmetric codes with exact scales, Gaussian weights; good from 4
/// bits on. scale^2 / 12 for all weights but the largest of each group, which is exact: the factor g / (g -
/// 1).
[[nodiscard]] inline double absmax_sqnr_db(int bits, std::size_t group) {
    const double codes = std::exp2(bits - 1) - 1, g = static_cast<double>(group);
    return 10.0 * std::log10(12.0) + 20.0 * std::log10(codes / rms_absmax(group)) +
           10.0 * std::log10(g / (g - 1));
}

}  // namespace fewbit::inline v0
