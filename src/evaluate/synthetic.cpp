// Definitions of evaluate/synthetic.hpp.
#include "fewbit/evaluate/synthetic.hpp"

#include <cmath>
#include <numbers>

#include "fewbit/core/random.hpp"

namespace fewbit::inline v0::evaluate {
namespace {

/// Normal numbers: SplitMix64 (Steele, Lea and Flood 2014) through Box and Muller.
class Normal {
public:
    explicit Normal(std::uint64_t state) : state_(state) {}

    double operator()() noexcept {
        if (has_second_) {
            has_second_ = false;
            return second_;
        }
        const double radius = std::sqrt(-2 * std::log(uniform())), angle = 2 * std::numbers::pi * uniform();
        second_ = radius * std::sin(angle);
        has_second_ = true;
        return radius * std::cos(angle);
    }

private:
    double uniform() noexcept {  // in (0, 1]
        return positive_unit_interval(splitmix_next(state_));
    }

    std::uint64_t state_;
    double second_ = 0;
    bool has_second_ = false;
};

template <class Draw>
Matrix drawn(std::size_t rows, std::size_t cols, std::uint64_t seed, ExecutionContext context, Draw draw) {
    Matrix matrix(rows, cols);
    context.parallel_for(rows, [&](std::size_t r, std::size_t) {
        Normal normal((seed + 1) * 0xD1342543DE82EF95u ^ r * 0x2545F4914F6CDD1Du);
        for (float& value : matrix.row(r)) value = static_cast<float>(draw(normal));
    });
    return matrix;
}

/// psi(twice / 2), for twice >= 1: by the recurrence from psi(1/2) and psi(1).
double digamma_of_half(int twice) noexcept {
    double value = -std::numbers::egamma - (twice % 2 == 1 ? 2 * std::numbers::ln2 : 0.0);
    for (int at = twice % 2 == 1 ? 1 : 2; at < twice; at += 2) value += 2.0 / at;
    return value;
}

}  // namespace

Matrix gaussian_matrix(std::size_t rows, std::size_t cols, std::uint64_t seed, ExecutionContext context) {
    return drawn(rows, cols, seed, context, [](Normal& normal) { return normal(); });
}

Matrix student_t_matrix(std::size_t rows, std::size_t cols, int degrees, std::uint64_t seed,
                        ExecutionContext context) {
    return drawn(rows, cols, seed, context, [degrees](Normal& normal) {
        const double numerator = normal();
        double chi_square = 0;
        for (int i = 0; i < degrees; ++i) {
            const double z = normal();
            chi_square += z * z;
        }
        return numerator / std::sqrt(chi_square / degrees);
    });
}

double student_t_bound_db(int degrees) noexcept {
    const double v = degrees;
    const double log_beta = std::lgamma(0.5 * v) + std::lgamma(0.5) - std::lgamma(0.5 * (v + 1));
    const double entropy = 0.5 * (v + 1) * (digamma_of_half(degrees + 1) - digamma_of_half(degrees)) +
                           0.5 * std::log(v) + log_beta;
    const double gaussian_entropy = 0.5 * std::log(2 * std::numbers::pi * std::numbers::e * v / (v - 2));
    return 20 / std::numbers::ln10 * (gaussian_entropy - entropy);
}

}  // namespace fewbit::inline v0::evaluate
