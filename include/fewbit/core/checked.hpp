// Arithmetic that says when it overflows. Every number read from a file passes through it before it sizes
// or addresses anything, factor by factor: never guard an overflow test with the product that it protects.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>

namespace fewbit::inline v0 {

template <class T>
requires std::is_unsigned_v<T>
[[nodiscard]] constexpr std::optional<T> checked_add(T a, T b) noexcept {
    if (a > std::numeric_limits<T>::max() - b) return std::nullopt;
    return static_cast<T>(a + b);
}

template <class T>
requires std::is_unsigned_v<T>
[[nodiscard]] constexpr std::optional<T> checked_multiply(T a, T b) noexcept {
    if (b != 0 && a > std::numeric_limits<T>::max() / b) return std::nullopt;
    return static_cast<T>(a * b);
}

/// unit times all factors (`unit` > 0: the size of an element, say). A zero does not hide an overflow among
/// the others: {2^40, 2^40, 0} is an overflow, as a reader that later skips the zero would find out.
[[nodiscard]] constexpr std::optional<std::size_t> checked_product(std::span<const std::size_t> factors,
                                                                   std::size_t unit) noexcept {
    std::size_t product = unit;
    bool zero = false;
    for (const std::size_t factor : factors) {
        if (factor == 0) {
            zero = true;
            continue;
        }
        const auto next = checked_multiply(product, factor);
        if (!next) return std::nullopt;
        product = *next;
    }
    return zero ? 0 : product;
}
[[nodiscard]] constexpr std::optional<std::size_t> checked_product(
    std::initializer_list<std::size_t> factors) noexcept {
    return checked_product(std::span<const std::size_t>(factors.begin(), factors.size()), 1);
}

/// a / b rounded up; b > 0.
[[nodiscard]] constexpr std::size_t ceil_div(std::size_t a, std::size_t b) noexcept {
    return a / b + (a % b != 0);
}

/// a rounded up to a multiple of b; b > 0, no overflow expected (sizes that have been checked).
[[nodiscard]] constexpr std::size_t round_up(std::size_t a, std::size_t b) noexcept {
    return ceil_div(a, b) * b;
}

/// Converts between integer types if the value fits.
template <class To, class From>
requires(std::is_integral_v<To>&& std::is_integral_v<From>)
    [[nodiscard]] constexpr std::optional<To> checked_cast(From value) noexcept {
    const To result = static_cast<To>(value);
    if (static_cast<From>(result) != value || ((result < To{}) != (value < From{}))) return std::nullopt;
    return result;
}

}  // namespace fewbit::inline v0
