// AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2), clipping by the norm of all gradients, and
// the usual schedule: linear warm-up, then half a cosine.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/executor.hpp"

namespace fewbit::inline v0::model {

struct AdamWOptions {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.1;  ///< per unit of learning rate; of those parameters that decay
};

/// One parameter group: `step` counts from 1; first and second moments have the size of the parameters.
///   m = b1 m + (1 - b1) g      v = b2 v + (1 - b2) g^2
///   p -= rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + weight_decay p)
/// `gradient_scale` multiplies g: what clipping leaves of it.
inline void adamw_step(const AdamWOptions& options, std::uint64_t step, double rate, double gradient_scale,
                       bool decays, std::span<float> parameters, std::span<const float> gradients,
                       std::span<float> first, std::span<float> second,
                       ExecutionContext context = {}) noexcept {
    constexpr std::size_t block = 16384;
    const auto b1 = static_cast<float>(options.beta1), b2 = static_cast<float>(options.beta2);
    const double t = static_cast<double>(step);
    const auto first_unbiased = static_cast<float>(rate / (1 - std::pow(options.beta1, t)));
    const auto second_unbiased = static_cast<float>(1 / (1 - std::pow(options.beta2, t)));
    const auto epsilon = static_cast<float>(options.epsilon), scale = static_cast<float>(gradient_scale);
    const auto keep = static_cast<float>(decays ? 1 - rate * options.weight_decay : 1.0);
    context.parallel_for(ceil_div(parameters.size(), block), [&](std::size_t task, std::size_t) {
        const std::size_t end =
            parameters.size() < (task + 1) * block ? parameters.size() : (task + 1) * block;
        for (std::size_t i = task * block; i < end; ++i) {
            const float g = gradients[i] * scale;
            first[i] = b1 * first[i] + (1 - b1) * g;
            second[i] = b2 * second[i] + (1 - b2) * g * g;
            parameters[i] = keep * parameters[i] -
                            first_unbiased * first[i] / (std::sqrt(second[i] * second_unbiased) + epsilon);
        }
    });
}

/// sqrt(sum x^2), summed in double in the order of the elements.
[[nodiscard]] inline double norm_of(std::span<const float> values) noexcept {
    constexpr std::size_t width = 8;
    double sums[width] = {};
    for (std::size_t i = 0; i < values.size(); ++i)
        sums[i % width] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    double sum = 0;
    for (const double part : sums) sum += part;
    return std::sqrt(sum);
}

struct Schedule {
    double peak = 2e-3;           ///< learning rate after the warm-up
    double final_share = 0.05;    ///< of the peak, at the last step
    std::uint64_t warmup = 200;   ///< steps
    std::uint64_t steps = 10000;  ///< in all

    /// The rate of a step, counted from 1.
    [[nodiscard]] double rate(std::uint64_t step) const noexcept {
        if (step <= warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
        if (step >= steps) return peak * final_share;
        const double done = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
        return peak * (final_share + (1 - final_share) * 0.5 * (1 + std::cos(std::numbers::pi * done)));
    }
};

}  // namespace fewbit::inline v0::model
