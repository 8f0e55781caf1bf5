// The searches of ggml's encoders: scales (and offsets) whose rounded codes fit a group best. Everything in
// f32, one rounding per operation, sums in index order; products of three from left to right.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace fewbit::inline v0::ggml::detail {

inline constexpr float tiny = 1e-15f;  ///< groups whose largest weight is smaller are zero

/// To the nearest integer, ties to even, by the bits of v + 1.5 * 2^23: right for |v| < 2^22; infinities give
/// -2^22, NaN gives 0.
[[nodiscard]] inline int nearest(float v) noexcept {
    const float shifted = v + 12582912.0f;
    return (std::bit_cast<std::int32_t>(shifted) & 0x007FFFFF) - 0x00400000;
}

/// The weight of largest magnitude with its sign; the first of equals.
[[nodiscard]] inline float first_max(const float* x, std::size_t n) noexcept {
    float largest = 0, magnitude = 0;
    for (std::size_t i = 0; i < n; ++i)
        if (std::fabs(x[i]) > magnitude) {
            magnitude = std::fabs(x[i]);
            largest = x[i];
        }
    return largest;
}

/// Symmetric grid -most .. most - 1, codes stored + most: 18 scales around the one that maps the largest
/// weight to -most; that of largest (sum w x l)^2 / sum w l^2 wins. `w`: weights, nullptr: x^2. Returns the
/// scale; 0 with codes 0 for a group of nothing.
inline float fit_symmetric(std::size_t n, int most, const float* x, const float* w,
                           std::uint8_t* codes) noexcept {
    const float m = first_max(x, n);
    if (std::fabs(m) < tiny) {
        std::fill_n(codes, n, std::uint8_t{0});
        return 0;
    }
    const auto weight = [&](std::size_t i) { return w != nullptr ? w[i] : x[i] * x[i]; };
    float scale = 0, best = 0;
    std::int8_t tried[32];
    const auto attempt = [&](float inverse, bool first) {
        float p = 0, q = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const int l = std::clamp(nearest(inverse * x[i]), -most, most - 1);
            tried[i] = static_cast<std::int8_t>(l);
            const float f = static_cast<float>(l);
            p += weight(i) * x[i] * f;
            q += weight(i) * f * f;
        }
        if (!first && !(q > 0 && p * p > best * q)) return;
        for (std::size_t i = 0; i < n; ++i) codes[i] = static_cast<std::uint8_t>(tried[i] + most);
        scale = q != 0 ? p / q : 0.0f;
        best = scale * p;
    };
    attempt(static_cast<float>(-most) / m, true);
    for (int k = -9; k <= 9; ++k)
        if (k != 0) attempt(-(static_cast<float>(most) + 0.1f * static_cast<float>(k)) / m, false);
    return scale;
}

/// q3_k without importance: one scale, then codes are moved one by one while that helps, at most five sweeps.
inline float fit_q3(const float* x, std::uint8_t* codes) noexcept {
    constexpr std::size_t n = 16;
    constexpr int most = 4;
    std::fill_n(codes, n, std::uint8_t{0});
    const float m = first_max(x, n);
    if (std::fabs(m) < tiny) return 0;
    const float inverse = static_cast<float>(-most) / m;
    int l[n];
    float p = 0, q = 0;
    for (std::size_t i = 0; i < n; ++i) {
        l[i] = std::clamp(nearest(inverse * x[i]), -most, most - 1);
        const float w = x[i] * x[i], f = static_cast<float>(l[i]);
        p += w * x[i] * f;
        q += w * f * f;
    }
    for (int sweep = 0; sweep < 5; ++sweep) {
        bool changed = false;
        for (std::size_t i = 0; i < n; ++i) {
            const float w = x[i] * x[i], f = static_cast<float>(l[i]);
            float p_without = p - w * x[i] * f;
            if (!(p_without > 0)) continue;
            float q_without = q - w * f * f;
            const int moved = std::clamp(nearest(x[i] * q_without / p_without), -most, most - 1);
            if (moved == l[i]) continue;
            const float to = static_cast<float>(moved);
            p_without += w * x[i] * to;
            q_without += w * to * to;
            if (q_without > 0 && p_without * p_without * q > p * p * q_without) {
                l[i] = moved;
                p = p_without;
                q = q_without;
                changed = true;
            }
        }
        if (!changed) break;
    }
    for (std::size_t i = 0; i < n; ++i) codes[i] = static_cast<std::uint8_t>(l[i] + most);
    return q > 0 ? p / q : 0.0f;
}

/// What fit_affine tries after the plain range: inverse scales (first + step k + most) / range, k = 0 ..
/// steps, each followed by the least-squares scale and minimum for its codes.
struct AffineSearch {
    float first, step;
    int steps;
    bool square;  ///< error in squares, else in magnitudes
};

struct Affine {
    float scale = 0;
    float minimum = 0;  ///< what is subtracted, >= 0
};

/// Grid scale * l - minimum, l = 0 .. most.
inline Affine fit_affine(std::size_t n, int most, const float* x, const float* w, const AffineSearch& search,
                         std::uint8_t* codes) noexcept {
    float low = x[0], high = x[0], sum_w = w[0], sum_x = sum_w * x[0];
    for (std::size_t i = 1; i < n; ++i) {
        low = std::min(low, x[i]);
        high = std::max(high, x[i]);
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    if (low > 0) low = 0;
    if (high <= low) {
        std::fill_n(codes, n, std::uint8_t{0});
        return {0, -low};
    }
    const auto top = static_cast<float>(most);
    std::uint8_t tried[32];
    const auto error_of = [&](const std::uint8_t* l, float scale, float minimum) {
        float error = 0;
        for (std::size_t i = 0; i < n; ++i) {
            float d = scale * static_cast<float>(l[i]) + minimum - x[i];
            d = search.square ? d * d : std::fabs(d);
            error += w[i] * d;
        }
        return error;
    };
    const auto round = [&](float inverse, std::uint8_t* l) {
        for (std::size_t i = 0; i < n; ++i)
            l[i] = static_cast<std::uint8_t>(std::clamp(nearest(inverse * (x[i] - low)), 0, most));
    };
    float inverse = top / (high - low), scale = 1 / inverse;
    round(inverse, codes);
    float best = error_of(codes, scale, low);
    for (int k = 0; k <= search.steps; ++k) {
        inverse = (search.first + search.step * static_cast<float>(k) + top) / (high - low);
        round(inverse, tried);
        float sum_l = 0, sum_l2 = 0, sum_xl = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const auto l = static_cast<float>(tried[i]);
            sum_l += w[i] * l;
            sum_l2 += w[i] * l * l;
            sum_xl += w[i] * l * x[i];
        }
        const float determinant = sum_w * sum_l2 - sum_l * sum_l;
        if (!(determinant > 0)) continue;
        float fitted = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        float minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        if (minimum > 0) {
            minimum = 0;
            fitted = sum_xl / sum_l2;
        }
        const float error = error_of(tried, fitted, minimum);
        if (error < best) {
            std::copy_n(tried, n, codes);
            best = error;
            scale = fitted;
            low = minimum;
        }
    }
    return {scale, -low};
}

/// Grid scale * l, l = 0 .. most, of values >= 0: scales of groups under the scale of their super-block.
inline float fit_positive(std::size_t n, int most, const float* x, const float* w,
                          std::uint8_t* codes) noexcept {
    float high = 0;
    for (std::size_t i = 0; i < n; ++i) high = std::max(high, x[i]);
    std::fill_n(codes, n, std::uint8_t{0});
    if (high < tiny) return 0;
    const auto top = static_cast<float>(most);
    const auto error_of = [&](float inverse, int limit) {
        const float scale = 1 / inverse;
        float error = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const float d = x[i] - scale * static_cast<float>(std::min(limit, nearest(inverse * x[i])));
            error += w[i] * d * d;
        }
        return error;
    };
    float inverse = top / high;
    float best = error_of(inverse, 255);
    for (int k = -4; k <= 4; ++k) {
        if (k == 0) continue;
        const float tried = (0.1f * static_cast<float>(k) + top) / high;
        const float error = error_of(tried, most);
        if (error < best) {
            best = error;
            inverse = tried;
        }
    }
    float p = 0, q = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const int l = std::min(most, nearest(inverse * x[i]));
        codes[i] = static_cast<std::uint8_t>(l);
        const auto f = static_cast<float>(l);
        p += w[i] * x[i] * f;
        q += w[i] * f * f;
    }
    for (int sweep = 0; sweep < 5; ++sweep) {
        bool changed = false;
        for (std::size_t i = 0; i < n; ++i) {
            const auto f = static_cast<float>(codes[i]);
            float p_without = p - w[i] * x[i] * f, q_without = q - w[i] * f * f;
            if (!(p_without > 0 && q_without > 0)) continue;
            const int moved = std::min(most, nearest(x[i] * q_without / p_without));
            if (moved == codes[i]) continue;
            const auto to = static_cast<float>(moved);
            p_without += w[i] * x[i] * to;
            q_without += w[i] * to * to;
            if (p_without * p_without * q > p * p * q_without) {
                codes[i] = static_cast<std::uint8_t>(moved);
                p = p_without;
                q = q_without;
                changed = true;
            }
        }
        if (!changed) break;
    }
    return q > 0 ? p / q : 0.0f;
}

}  // namespace fewbit::inline v0::ggml::detail
