// The searches of ggml's encoders: scales (and offsets) whose rounded codes fit a group best. Everything in f32, one
// rounding per operation, sums in index order; products of three from left to right. F is a lane type: lane l works on
// group l, and where one float would take a branch, lanes select. Searches remember which trial won and round its codes
// once more, which is cheaper than keeping them. Kernel files include this header; see lanes.hpp.
#pragma once

#include <cstddef>

#include "fewbit/formats/ggml/lane_job.hpp"
#include "fewbit/formats/ggml/lanes.hpp"

namespace fewbit::inline v0::ggml::detail {

inline constexpr float tiny = 1e-15f;  ///< groups whose largest weight is smaller are zero
inline constexpr std::size_t most_lane_elements = 32;

/// The weight of largest magnitude with its sign; the first of equals.
template <class F>
[[nodiscard]] F first_max(const F* x, std::size_t n) noexcept {
    F high = 0.0f, low = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
        high = max(x[i], high);
        low = min(x[i], low);
    }
    low = F(0.0f) - low;
    if (!any(high == low, high)) return select(high < low, F(-0.0f) - low, high);
    F largest = 0.0f;  // somewhere both signs reach it, or nothing does
    for (std::size_t i = 0; i < n; ++i) largest = select(abs(largest) < abs(x[i]), x[i], largest);
    return largest;
}

/// To the nearest integer within low .. high.
template <class F>
[[nodiscard]] F nearest_within(F v, F low, F high) noexcept {
    return max(min(nearest(v), high), low);
}

/// Symmetric grid -most .. most - 1, codes stored + most: 18 scales around the one that maps the largest
/// weight to -most; that of largest (sum w x l)^2 / sum w l^2 wins. Returns the scale; 0 with codes 0 for a group of
/// nothing.
template <class F>
F fit_symmetric(std::size_t n, float most, const F* x, const F* w, F* codes) noexcept {
    using Mask = typename F::Mask;
    const F m = first_max(x, n), low = -most, high = most - 1;
    const Mask alive = F(tiny) <= abs(m);
    F wx[most_lane_elements];
    for (std::size_t i = 0; i < n; ++i) wx[i] = w[i] * x[i];
    F scale = 0.0f, best = 0.0f, best_inverse = 0.0f;
    const auto attempt = [&](F inverse, bool first) {
        F p = 0.0f, q = 0.0f;
        for (std::size_t i = 0; i < n; ++i) {
            const F l = nearest_within(inverse * x[i], low, high);
            p = p + wx[i] * l;
            q = q + w[i] * l * l;
        }
        const Mask better = first ? alive : alive & (F(0.0f) < q) & (best * q < p * p);
        scale = select(better, select(q == F(0.0f), F(0.0f), p / q), scale);
        best = select(better, scale * p, best);
        best_inverse = select(better, inverse, best_inverse);
    };
    const F divisor = select(alive, m, F(1.0f));
    attempt(low / divisor, true);
    for (int k = -9; k <= 9; ++k)
        if (k != 0) attempt(F(-(most + 0.1f * static_cast<float>(k))) / divisor, false);
    for (std::size_t i = 0; i < n; ++i)
        codes[i] = select(alive, nearest_within(best_inverse * x[i], low, high) + F(most), F(0.0f));
    return scale;
}

/// q3_k without importance: one scale, then codes are moved one by one while that helps, at most five sweeps.
template <class F>
F fit_q3(std::size_t n, const F* x, F* codes) noexcept {
    using Mask = typename F::Mask;
    const F m = first_max(x, n), low = -4.0f, high = 3.0f;
    const Mask alive = F(tiny) <= abs(m);
    const F inverse = low / select(alive, m, F(1.0f));
    F w[most_lane_elements], wx[most_lane_elements], l[most_lane_elements];
    F p = 0.0f, q = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
        l[i] = nearest_within(inverse * x[i], low, high);
        w[i] = x[i] * x[i];
        wx[i] = w[i] * x[i];
        p = p + wx[i] * l[i];
        q = q + w[i] * l[i] * l[i];
    }
    for (int sweep = 0; sweep < 5; ++sweep) {
        bool changed = false;
        for (std::size_t i = 0; i < n; ++i) {
            const F p_without = p - wx[i] * l[i], q_without = q - w[i] * l[i] * l[i];
            const F moved = nearest_within(x[i] * q_without / p_without, low, high);
            const F p_with = p_without + wx[i] * moved, q_with = q_without + w[i] * moved * moved;
            const Mask better = alive & (F(0.0f) < p_without) & (moved != l[i]) & (F(0.0f) < q_with) &
                                (p * p * q_with < p_with * p_with * q);
            if (!any(better, p)) continue;
            l[i] = select(better, moved, l[i]);
            p = select(better, p_with, p);
            q = select(better, q_with, q);
            changed = true;
        }
        if (!changed) break;
    }
    for (std::size_t i = 0; i < n; ++i) codes[i] = select(alive, l[i] + F(4.0f), F(0.0f));
    return select(alive & (F(0.0f) < q), p / q, F(0.0f));
}

template <class F>
struct Affine {
    F scale;
    F minimum;  ///< what is subtracted, >= 0
};

/// Grid scale * l - minimum, l = 0 .. most.
template <class F, bool Square>
Affine<F> fit_affine(std::size_t n, float most, const F* x, const F* w, const AffineSearch& search,
                     F* codes) noexcept {
    using Mask = typename F::Mask;
    F low = x[0], high = x[0], sum_w = w[0], sum_x = sum_w * x[0];
    for (std::size_t i = 1; i < n; ++i) {
        low = min(x[i], low);
        high = max(x[i], high);
        sum_w = sum_w + w[i];
        sum_x = sum_x + w[i] * x[i];
    }
    const F nothing = 0.0f, top = most;
    low = select(nothing < low, nothing, low);
    const Mask alive = low < high;
    const auto range = [&] { return select(alive, high - low, F(1.0f)); };
    F l[most_lane_elements];
    const auto error_of = [&](F scale, F minimum) {
        F error = 0.0f;
        for (std::size_t i = 0; i < n; ++i) {
            const F d = scale * l[i] + minimum - x[i];
            error = error + w[i] * (Square ? d * d : abs(d));
        }
        return error;
    };
    F inverse = top / range(), scale = F(1.0f) / inverse, best_inverse = inverse, best_low = low;
    for (std::size_t i = 0; i < n; ++i) l[i] = nearest_within(inverse * (x[i] - low), nothing, top);
    F best = error_of(scale, low);
    for (int k = 0; k <= search.steps; ++k) {
        inverse = F(search.first + search.step * static_cast<float>(k) + most) / range();
        F sum_l = 0.0f, sum_l2 = 0.0f, sum_xl = 0.0f;
        for (std::size_t i = 0; i < n; ++i) {
            l[i] = nearest_within(inverse * (x[i] - low), nothing, top);
            const F wl = w[i] * l[i];
            sum_l = sum_l + wl;
            sum_l2 = sum_l2 + wl * l[i];
            sum_xl = sum_xl + wl * x[i];
        }
        const F determinant = sum_w * sum_l2 - sum_l * sum_l;
        F fitted = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        F minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        const Mask above = nothing < minimum;
        if (any(above, minimum)) {
            fitted = select(above, sum_xl / sum_l2, fitted);
            minimum = select(above, nothing, minimum);
        }
        const F error = error_of(fitted, minimum);
        const Mask better = alive & (nothing < determinant) & (error < best);
        best_inverse = select(better, inverse, best_inverse);
        best_low = select(better, low, best_low);
        best = select(better, error, best);
        scale = select(better, fitted, scale);
        low = select(better, minimum, low);
    }
    for (std::size_t i = 0; i < n; ++i)
        codes[i] = select(alive, nearest_within(best_inverse * (x[i] - best_low), nothing, top), nothing);
    return {select(alive, scale, nothing), F(-0.0f) - low};
}

/// What a byte keeps of an integer, |l| < 2^22.
template <class F>
[[nodiscard]] F low_byte(F l) noexcept {
    // l / 256 - 127.5 / 256 is never halfway between integers, and rounds to floor(l / 256).
    return l - F(256.0f) * nearest(l * F(1.0f / 256) - F(127.5f / 256));
}

/// Grid scale * l, l = 0 .. most, of values >= 0: scales of groups under the scale of their super-block.
template <class F>
F fit_positive(std::size_t n, float most, const F* x, const F* w, F* codes) noexcept {
    using Mask = typename F::Mask;
    const F top = most;
    F high = 0.0f;
    for (std::size_t i = 0; i < n; ++i) high = max(x[i], high);
    const Mask alive = F(tiny) <= high;
    const F divisor = select(alive, high, F(1.0f));
    const auto error_of = [&](F inverse, F limit) {
        const F scale = F(1.0f) / inverse;
        F error = 0.0f;
        for (std::size_t i = 0; i < n; ++i) {
            const F d = x[i] - scale * min(nearest(inverse * x[i]), limit);
            error = error + w[i] * d * d;
        }
        return error;
    };
    F inverse = top / divisor, best = error_of(inverse, 255.0f);
    for (int k = -4; k <= 4; ++k) {
        if (k == 0) continue;
        const F tried = F(0.1f * static_cast<float>(k) + most) / divisor;
        const F error = error_of(tried, top);
        const Mask better = error < best;
        best = select(better, error, best);
        inverse = select(better, tried, inverse);
    }
    F p = 0.0f, q = 0.0f;
    for (std::size_t i = 0; i < n; ++i) {
        const F l = min(nearest(inverse * x[i]), top);
        codes[i] = low_byte(l);
        p = p + w[i] * x[i] * l;
        q = q + w[i] * l * l;
    }
    for (int sweep = 0; sweep < 5; ++sweep) {
        bool changed = false;
        for (std::size_t i = 0; i < n; ++i) {
            const F wx = w[i] * x[i];
            const F p_without = p - wx * codes[i], q_without = q - w[i] * codes[i] * codes[i];
            const F moved = min(nearest(x[i] * q_without / p_without), top);
            const F p_with = p_without + wx * moved, q_with = q_without + w[i] * moved * moved;
            const Mask better = alive & (F(0.0f) < p_without) & (F(0.0f) < q_without) & (moved != codes[i]) &
                                (p * p * q_with < p_with * p_with * q);
            if (!any(better, p)) continue;
            codes[i] = select(better, low_byte(moved), codes[i]);
            p = select(better, p_with, p);
            q = select(better, q_with, q);
            changed = true;
        }
        if (!changed) break;
    }
    for (std::size_t i = 0; i < n; ++i) codes[i] = select(alive, codes[i], F(0.0f));
    return select(alive & (F(0.0f) < q), p / q, F(0.0f));
}

// --- iq4 --------------------------------------------------------------------------------------------------

/// The codebook (types.hpp), and what is midway between neighbours. In a template, so that a kernel file has its own.
template <class F>
struct Iq4Tables {
    static constexpr float midpoints[15]{-115.5f, -93.5f, -74,   -57,   -42, -28.5f, -16, -4.5f,
                                         7,       19,     31.5f, 45.5f, 61,  79,     101};
    static constexpr float values[16]{-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
    static constexpr float codes[16]{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
};

/// Of the entries of a table, that of the closest value of the codebook; the upper one of two. (Differences to both
/// neighbours, as the reference takes them, are exact where they matter.)
template <class F>
[[nodiscard]] F closest_iq4(F v, const float* table) noexcept {
    constexpr auto& midpoints = Iq4Tables<F>::midpoints;
    const auto between = [&](int i) { return select(v < F(midpoints[i]), F(table[i]), F(table[i + 1])); };
    F quarter[4];
    for (int i = 0; i < 4; ++i)
        quarter[i] = select(v < F(midpoints[4 * i + 1]), between(4 * i), between(4 * i + 2));
    return select(v < F(midpoints[7]), select(v < F(midpoints[3]), quarter[0], quarter[1]),
                  select(v < F(midpoints[11]), quarter[2], quarter[3]));
}

/// The scale of a group: the best of 16 around the one that maps the largest to an end.
template <class F>
[[nodiscard]] F fit_iq4(std::size_t n, const F* x, const F* w) noexcept {
    using Mask = typename F::Mask;
    const F m = first_max(x, n);
    const Mask alive = F(tiny) <= abs(m);
    const F divisor = select(alive, m, F(1.0f));
    constexpr float end = Iq4Tables<F>::values[0];
    F scale = 0.0f, best = 0.0f;
    const auto attempt = [&](F inverse, bool first) {
        F p = 0.0f, q = 0.0f;
        for (std::size_t i = 0; i < n; ++i) {
            const F value = closest_iq4(inverse * x[i], Iq4Tables<F>::values), wv = w[i] * value;
            p = p + wv * x[i];
            q = q + wv * value;
        }
        const Mask useful = F(0.0f) < q;
        const Mask better = first ? alive : alive & useful & (best * q < p * p);
        scale = select(better, select(useful, p / q, F(0.0f)), scale);
        best = select(better, scale * p, best);
    };
    attempt(F(1.0f) / ((F(-0.0f) - divisor) / F(end)), true);
    for (int k = -7; k <= 7; ++k) attempt(F(static_cast<float>(k) + end) / divisor, false);
    return scale;
}

}  // namespace fewbit::inline v0::ggml::detail
