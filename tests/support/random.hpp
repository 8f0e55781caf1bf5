// Random numbers for tests and benchmarks: the same on every platform and in any order of calls. The n-th
// draw of a stream is a hash of (seed, stream, n), and everything else is made of +, -, *, / and sqrt, which
// IEEE 754 defines to the last bit; the standard library's distributions and std::log may differ from one
// platform to the next.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "fewbit/core/tensor.hpp"

namespace fewbit::testing {

/// Natural logarithm of a normal positive x, to about 1e-14.
[[nodiscard]] inline double portable_log(double x) {
    const auto bits = std::bit_cast<std::uint64_t>(x);
    double exponent = static_cast<double>(static_cast<int>(bits >> 52) - 1023);
    double mantissa = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
    if (mantissa > 1.4142135623730951) mantissa *= 0.5, exponent += 1;
    const double t = (mantissa - 1) / (mantissa + 1), t2 = t * t;
    double series = 0;
    for (int k = 21; k >= 1; k -= 2) series = series * t2 + 1.0 / k;  // atanh(t) / t
    return exponent * 0.6931471805599453 + 2 * t * series;
}

/// The standard Gaussian's quantile of p in (0, 1): Acklam's rational approximation, relative error
/// below 1.2e-9.
[[nodiscard]] inline double gaussian_quantile(double p) {
    const auto tail = [](double q) {  // q = sqrt(-2 log p), lower tail
        return (((((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838e+00) * q -
                  2.549732539343734e+00) *
                     q +
                 4.374664141464968e+00) *
                    q +
                2.938163982698783e+00) /
               ((((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996e+00) * q +
                 3.754408661907416e+00) *
                    q +
                1);
    };
    if (p < 0.02425) return tail(std::sqrt(-2 * portable_log(p)));
    if (p > 1 - 0.02425) return -tail(std::sqrt(-2 * portable_log(1 - p)));
    const double q = p - 0.5, r = q * q;
    return (((((-3.969683028665376e+01 * r + 2.209460984245205e+02) * r - 2.759285104469687e+02) * r +
              1.383577518672690e+02) *
                 r -
             3.066479806614716e+01) *
                r +
            2.506628277459239e+00) *
           q /
           (((((-5.447609879822406e+01 * r + 1.615858368580409e+02) * r - 1.556989798598866e+02) * r +
              6.680131188771972e+01) *
                 r -
             1.328068155288572e+01) *
                r +
            1);
}

class Random {
public:
    explicit Random(std::uint64_t seed, std::uint64_t stream = 0) : key_(mix(seed) ^ mix(stream * 2 + 1)) {}

    [[nodiscard]] std::uint64_t bits() { return mix(key_ + counter_++ * 0x9E3779B97F4A7C15u); }
    /// In (0, 1), never 0 or 1.
    [[nodiscard]] double uniform() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; }
    [[nodiscard]] double uniform(double low, double high) { return low + (high - low) * uniform(); }
    /// In [0, bound), bound > 0; the bias of bound / 2^64 does not matter in tests.
    [[nodiscard]] std::size_t below(std::size_t bound) { return static_cast<std::size_t>(bits() % bound); }

    /// Mean 0, variance 1.
    [[nodiscard]] double gaussian() { return gaussian_quantile(uniform()); }
    /// Mean 0, variance 1, density exp(-sqrt(2) |x|) / sqrt(2).
    [[nodiscard]] double laplace() {
        const double magnitude = -portable_log(uniform()) * 0.7071067811865476;
        return (bits() & 1) != 0 ? magnitude : -magnitude;
    }
    /// Student's t with a whole number of degrees of freedom: heavy tails; variance nu / (nu - 2) for nu > 2.
    [[nodiscard]] double student_t(int nu) {
        const double numerator = gaussian();
        double chi_square = 0;
        for (int i = 0; i < nu; ++i) {
            const double g = gaussian();
            chi_square += g * g;
        }
        return numerator / std::sqrt(chi_square / nu);
    }
    template <class T>
    void shuffle(std::span<T> items) {
        for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
    }

private:
    [[nodiscard]] static std::uint64_t mix(std::uint64_t z) {  // the finalizer of SplitMix64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        return z ^ z >> 31;
    }

    std::uint64_t key_;
    std::uint64_t counter_ = 1;
};

/// (rows, cols) of unit Gaussian weights times `sigma`.
[[nodiscard]] inline Matrix gaussian_matrix(std::size_t rows, std::size_t cols, std::uint64_t seed,
                                            double sigma = 1.0) {
    Matrix matrix(rows, cols);
    Random random(seed);
    for (float& value : matrix.values()) value = static_cast<float>(random.gaussian() * sigma);
    return matrix;
}

/// (rows, cols) of Student-t weights (nu = 4 looks like a transformer's with outliers) times `sigma`.
[[nodiscard]] inline Matrix heavy_tailed_matrix(std::size_t rows, std::size_t cols, std::uint64_t seed,
                                                double sigma = 1.0, int nu = 4) {
    Matrix matrix(rows, cols);
    Random random(seed);
    for (float& value : matrix.values()) value = static_cast<float>(random.student_t(nu) * sigma);
    return matrix;
}

}  // namespace fewbit::testing
