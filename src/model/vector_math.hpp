// Loops that compilers turn into vector code without permission to reorder sums: dot products in eight
// partial sums, and exp by a polynomial (libm's does not vectorize).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace fewbit::inline v0::model {

/// sum of term(i), i < count, in eight partial sums of a fixed order.
template <class T, class Term>
[[nodiscard]] T sum_of(std::size_t count, Term&& term) noexcept {
    constexpr std::size_t width = 8;
    T sums[width] = {};
    std::size_t i = 0;
    for (; i + width <= count; i += width)
        for (std::size_t j = 0; j < width; ++j) sums[j] += term(i + j);
    T tail = 0;
    for (; i < count; ++i) tail += term(i);
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + tail;
}

template <class T>
[[nodiscard]] T sum_of_products(const T* a, const T* b, std::size_t count) noexcept {
    return sum_of<T>(count, [=](std::size_t i) { return a[i] * b[i]; });
}

template <class T>
[[nodiscard]] T sum_of_products3(const T* a, const T* b, const T* c, std::size_t count) noexcept {
    return sum_of<T>(count, [=](std::size_t i) { return a[i] * b[i] * c[i]; });
}

[[nodiscard]] inline double exponential(double x) noexcept { return std::exp(x); }

/// e^x within 2e-7 relative for x in [-87.3, 88.3], clamped to that range. x = n ln 2 + r, |r| <= ln 2 / 2;
/// e^r by the Taylor polynomial of degree 7 (its remainder is r^8/8! < 6e-9), 2^n by its exponent bits.
[[nodiscard]] inline float exponential(float x) noexcept {
    x = x < -87.3f ? -87.3f : x;
    x = x > 88.3f ? 88.3f : x;
    const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const float n = shifted - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first exact in n
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const auto power = static_cast<std::uint32_t>(static_cast<std::int32_t>(n) + 127) << 23;
    return p * std::bit_cast<float>(power);
}

/// row[i] = exp(row[i] - largest); returns their sum.
template <class T>
T exponentials(T* row, T largest, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i) row[i] = exponential(row[i] - largest);
    return sum_of<T>(count, [=](std::size_t i) { return row[i]; });
}

}  // namespace fewbit::inline v0::model
