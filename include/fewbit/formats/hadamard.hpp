// Hadamard: an orthogonal matrix Q of n rows whose elements all are +-1/sqrt(n), applied to rows: x <- x Q. It spreads
// what stands in one channel over n of them (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456).
//
//   Q = (H_b (x) H_(n/b)) / sqrt(n)      H_(n/b): Sylvester's, n/b a power of two, n log2(n/b) additions
//                                        H_b: the smallest b that a construction below has, n b additions
//
// Constructions of H_b, H_b H_b^T = b: b = 1; Paley I and II over prime fields; Williamson's four circulants for orders
// that those miss, one of which, 172, is that of llamas with 11008 hidden channels.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0 {
namespace detail {

/// A square matrix of +1 and -1, row-major.
struct SignMatrix {
    explicit SignMatrix(std::size_t rows) : n(rows), signs(rows * rows, 1) {}
    [[nodiscard]] std::int8_t& operator()(std::size_t i, std::size_t j) noexcept { return signs[i * n + j]; }
    [[nodiscard]] std::int8_t operator()(std::size_t i, std::size_t j) const noexcept {
        return signs[i * n + j];
    }

    std::size_t n;
    std::vector<std::int8_t> signs;
};

inline constexpr std::size_t largest_base_order = 1024;

[[nodiscard]] constexpr bool is_prime(std::size_t p) noexcept {
    if (p < 2) return false;
    for (std::size_t d = 2; d * d <= p; ++d)
        if (p % d == 0) return false;
    return true;
}

/// Quadratic residues of a prime: +1, -1, and 0 for 0.
[[nodiscard]] inline std::vector<std::int8_t> residues(std::size_t p) {
    std::vector<std::int8_t> chi(p, -1);
    chi[0] = 0;
    for (std::size_t i = 1; i < p; ++i) chi[i * i % p] = 1;
    return chi;
}

/// Order p + 1, p a prime that is 3 mod 4: S + I, S skew (Paley 1933).
[[nodiscard]] inline SignMatrix paley_one(std::size_t p) {
    const auto chi = residues(p);
    SignMatrix h(p + 1);
    for (std::size_t i = 1; i <= p; ++i) {
        h(i, 0) = -1;
        for (std::size_t j = 1; j <= p; ++j) h(i, j) = i == j ? std::int8_t{1} : chi[(j + p - i) % p];
    }
    return h;
}

/// Order 2 (p + 1), p a prime that is 1 mod 4: of the symmetric conference matrix S, each 0 becomes [1 -1; -1 -1] and
/// each +-1 becomes +-[1 1; 1 -1].
[[nodiscard]] inline SignMatrix paley_two(std::size_t p) {
    const auto chi = residues(p);
    SignMatrix h(2 * (p + 1));
    for (std::size_t i = 0; i <= p; ++i)
        for (std::size_t j = 0; j <= p; ++j) {
            const int s = i == j ? 0 : i == 0 || j == 0 ? 1 : chi[(j + p - i) % p];
            for (std::size_t a = 0; a < 2; ++a)
                for (std::size_t b = 0; b < 2; ++b) {
                    const int sylvester = a == 1 && b == 1 ? -1 : 1;
                    const int value = s != 0 ? s * sylvester : a == 0 && b == 0 ? 1 : -1;
                    h(2 * i + a, 2 * j + b) = static_cast<std::int8_t>(value);
                }
        }
    return h;
}

/// First rows of four symmetric circulants A, B, C, D with A^2 + B^2 + C^2 + D^2 = 4 n I, which are facts of
/// mathematics, for orders that Paley's constructions over prime fields miss; tabulated by Hall
/// (Combinatorial Theory, 1983) and London (thesis, 2013; n = 39).
struct WilliamsonRows {
    std::size_t n;
    std::array<std::string_view, 4> rows;
};
inline constexpr std::array<WilliamsonRows, 6> williamson_rows{
    {{13, {"++++-+--+-+++", "+---+-++-+---", "++---+--+---+", "++---+--+---+"}},
     {23,
      {"++---+---+-++-+---+---+", "+-++-++--++++++--++-++-", "+++---++-+-++-+-++---++",
       "+++-+++-+------+-+++-++"}},
     {25,
      {"++++-+-+-+--++--+-+-+-+++", "++--+--+-++++++++-+--+--+", "+++--+--++++--++++--+--++",
       "+-+--+++--++++++--+++--+-"}},
     {29,
      {"+++---++--+-+----+-+--++---++", "+-+---++--+-++++++-+--++---+-", "++++-++-+---++++++---+-++-+++",
       "++--+--+-+++-++++-+++-+--+--+"}},
     {39,
      {"+++--+-+-----+--++----++--+-----+-+--++", "+++--++-+---+-+--+----+--+-+---+-++--++",
       "++++---+--++----+-+--+-+----++--+---+++", "+---++-+-+-----+++-++-+++-----+-+-++---"}},
     {43,
      {"++---++++-+--+--++--------++--+--+-++++---+", "+++-+-++--+-+-++++-+----+-++++-+-+--++-+-++",
       "++-++++++----+-+--++-++-++--+-+----++++++-+", "+---++--++++-+-+++-++--++-+++-+-++++--++---"}}}};

/// Order 4 n: [A B C D; -B A -D C; -C D A -B; -D -C B A] (Williamson 1944).
[[nodiscard]] inline SignMatrix williamson(const WilliamsonRows& given) {
    constexpr int which[4][4] = {{0, 1, 2, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}, {3, 2, 1, 0}};
    constexpr int sign[4][4] = {{1, 1, 1, 1}, {-1, 1, -1, 1}, {-1, 1, 1, -1}, {-1, -1, 1, 1}};
    const std::size_t n = given.n;
    SignMatrix h(4 * n);
    for (std::size_t i = 0; i < 4 * n; ++i)
        for (std::size_t j = 0; j < 4 * n; ++j) {
            const std::string_view row = given.rows[static_cast<std::size_t>(which[i / n][j / n])];
            const int value = row[(j % n + n - i % n) % n] == '+' ? 1 : -1;
            h(i, j) = static_cast<std::int8_t>(value * sign[i / n][j / n]);
        }
    return h;
}

/// H_b, or nothing where no construction has that order.
[[nodiscard]] inline std::optional<SignMatrix> base_matrix(std::size_t b) {
    if (b == 1) return SignMatrix(1);
    if (b % 4 != 0 || b > largest_base_order) return std::nullopt;
    if (is_prime(b - 1)) return paley_one(b - 1);
    if (is_prime(b / 2 - 1) && (b / 2 - 1) % 4 == 1) return paley_two(b / 2 - 1);
    for (const WilliamsonRows& rows : williamson_rows)
        if (b == 4 * rows.n) return williamson(rows);
    return std::nullopt;
}

/// The b of an order n; 0 where there is none.
[[nodiscard]] inline std::size_t base_of(std::size_t n) {
    if (n == 0) return 0;
    const std::size_t odd = n >> std::countr_zero(n);
    if (odd == 1) return 1;
    for (std::size_t b = 4 * odd; b <= n && b <= largest_base_order; b *= 2)
        if (n % b == 0 && base_matrix(b)) return b;
    return 0;
}

}  // namespace detail

/// The largest order of a Hadamard that divides k: k itself in most models, at least its largest power of two. 0 for 0.
[[nodiscard]] inline std::size_t hadamard_order(std::size_t k) {
    for (std::size_t blocks = 1; blocks <= k; ++blocks)
        if (k % blocks == 0 && detail::base_of(k / blocks) != 0) return k / blocks;
    return 0;
}

class Hadamard {
public:
    /// Error: no construction here has that order.
    [[nodiscard]] static Result<Hadamard> create(std::size_t order) {
        const std::size_t base = detail::base_of(order);
        if (base == 0)
            return fail(ErrorKind::unsupported, "there is no Hadamard matrix of order ", order,
                        " here; orders are 1, 2 and those multiples of 4 that Sylvester's, Paley's and "
                        "Williamson's constructions reach");
        return Hadamard(order, *detail::base_matrix(base));
    }

    [[nodiscard]] std::size_t order() const noexcept { return order_; }

    /// x <- x Q for each of x's runs of order() elements. Precondition: x is a whole number of them. Sums are of T, in
    /// the same order everywhere.
    template <class T>
    void apply(std::span<T> x) const {
        std::vector<T> sums(base_ == 1 ? 0 : order_ + base_);
        for (std::size_t first = 0; first < x.size(); first += order_) {
            const std::span<T> run = x.subspan(first, order_);
            // Before the sums: they stay as large as x at most (half precision would overflow otherwise).
            const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(order_)));
            for (T& value : run) value *= scale;
            butterflies(run);
            if (base_ == 1) continue;
            multiply<T>(run, sums);
            std::copy_n(sums.begin(), order_, run.begin());
        }
    }

private:
    Hadamard(std::size_t order, const detail::SignMatrix& base)
        : order_(order), base_(base.n), signs_(base.signs.begin(), base.signs.end()) {}

    [[nodiscard]] std::size_t power() const noexcept { return order_ / base_; }

    /// Each run of power() elements times Sylvester's matrix.
    template <class T>
    void butterflies(std::span<T> x) const {
        for (std::size_t half = 1; half < power(); half *= 2)
            for (std::size_t first = 0; first < x.size(); first += 2 * half)
                for (std::size_t i = first; i < first + half; ++i) {
                    const T a = x[i], b = x[i + half];
                    x[i] = a + b;
                    x[i + half] = a - b;
                }
    }
    /// y[j, :] = sum over i of H_b[i, j] x[i, :]. Behind y there is room for a column.
    template <class T>
    void multiply(std::span<const T> x, std::span<T> y) const {
        const std::size_t width = power(), n = base_;
        std::fill(y.begin(), y.end(), T{0});
        if (width < 8) {  // the same sums column by column, along rows of H_b: what is long runs inside
            T* const column = y.data() + order_;
            for (std::size_t c = 0; c < width; ++c) {
                std::fill_n(column, n, T{0});
                for (std::size_t i = 0; i < n; ++i) {
                    const float* const signs = signs_.data() + i * n;
                    for (std::size_t j = 0; j < n; ++j)
                        column[j] += static_cast<T>(signs[j]) * x[i * width + c];
                }
                for (std::size_t j = 0; j < n; ++j) y[j * width + c] = column[j];
            }
            return;
        }
        for (std::size_t j = 0; j < n; ++j)
            for (std::size_t i = 0; i < n; ++i) {
                const T sign = static_cast<T>(signs_[i * n + j]);
                for (std::size_t c = 0; c < width; ++c) y[j * width + c] += sign * x[i * width + c];
            }
    }

    std::size_t order_, base_;
    std::vector<float> signs_;  ///< (b, b): H_b
};

}  // namespace fewbit::inline v0
