// Hadamard matrices: orthogonal whatever their construction, equal elements, and the transform is the matrix.
#include "fewbit/formats/hadamard.hpp"

#include <cmath>
#include <set>
#include <vector>

#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

/// Row i of Q: what becomes of the i-th unit vector.
template <class T>
std::vector<T> row_of(const Hadamard& q, std::size_t i) {
    std::vector<T> row(q.order());
    row[i] = 1;
    q.apply(std::span<T>(row));
    return row;
}

}  // namespace

TEST_CASE("hadamard: rows are orthonormal and all elements have one magnitude", "[formats][hadamard]") {
    // 1, 2, Sylvester; Paley I (12, 20, 24, 44, 48, 140); Paley II (28, 36, 76, 148); Williamson (52, 92, 100, 116, 156, 172), each
    // also times a power of two.
    for (const std::size_t n :
         {1, 2, 4, 64, 12, 20, 24, 44, 48, 140, 28, 36, 52, 76, 148, 92, 100, 116, 156, 172, 56, 184, 344}) {
        INFO("order " << n);
        const auto q = Hadamard::create(n);
        REQUIRE(q);
        std::vector<std::vector<double>> rows;
        for (std::size_t i = 0; i < n; ++i) rows.push_back(row_of<double>(*q, i));
        double most = 0;
        for (std::size_t i = 0; i < n; ++i) {
            for (const double value : rows[i])
                most = std::max(most, std::abs(std::abs(value) * std::sqrt(static_cast<double>(n)) - 1));
            for (std::size_t j = i; j < n; ++j) {
                double dot = 0;
                for (std::size_t c = 0; c < n; ++c) dot += rows[i][c] * rows[j][c];
                most = std::max(most, std::abs(dot - (i == j ? 1 : 0)));
            }
        }
        CHECK(most < 1e-12);
    }
}

TEST_CASE("hadamard: the transform is linear, run by run, in both precisions", "[formats][hadamard]") {
    for (const std::size_t n : {8, 12, 172, 88}) {
        const auto q = Hadamard::create(n);
        REQUIRE(q);
        testing::Random random(n);
        std::vector<double> x(3 * n);
        for (double& value : x) value = random.gaussian();
        std::vector<double> expected(x.size());
        for (std::size_t i = 0; i < n; ++i) {
            const auto row = row_of<double>(*q, i);
            for (std::size_t run = 0; run < 3; ++run)
                for (std::size_t c = 0; c < n; ++c) expected[run * n + c] += x[run * n + i] * row[c];
        }
        std::vector<float> narrow(x.begin(), x.end());
        q->apply(std::span<double>(x));
        q->apply(std::span<float>(narrow));
        double norm = 0;
        for (std::size_t i = 0; i < n; ++i) norm += expected[i] * expected[i];
        for (std::size_t i = 0; i < x.size(); ++i) {
            CHECK(std::abs(x[i] - expected[i]) < 1e-13 * static_cast<double>(n));
            // n additions of numbers no larger than |x|
            CHECK(std::abs(static_cast<double>(narrow[i]) - expected[i]) <
                  0x1p-24 * static_cast<double>(n) * std::sqrt(norm));
        }
    }
}

TEST_CASE("hadamard: orders that have no construction are refused, and blocks take their place",
          "[formats][hadamard]") {
    for (const std::size_t n : {0, 3, 6, 10, 18, 428, 14}) {
        INFO("order " << n);
        const auto q = Hadamard::create(n);
        REQUIRE_FALSE(q);
        CHECK(q.error().kind == ErrorKind::unsupported);
    }
    CHECK(hadamard_order(0) == 0);
    CHECK(hadamard_order(64) == 64);
    CHECK(hadamard_order(172) == 172);
    CHECK(hadamard_order(11008) == 11008);  // llama 7B: 172 x 64
    CHECK(hadamard_order(14336) == 14336);  // llama 3 8B: 28 x 512
    CHECK(hadamard_order(18944) == 18944);  // 148 x 128
    CHECK(hadamard_order(29568) == 29568);  // 924 x 32
    CHECK(hadamard_order(13696) == 128);    // 107 x 128: no 428 here
    CHECK(hadamard_order(7) == 1);
    for (std::size_t k = 1; k < 400; ++k) {
        const std::size_t order = hadamard_order(k);
        CHECK(k % order == 0);
        CHECK(Hadamard::create(order));
    }
}

TEST_CASE("hadamard: every base order below 200 that is claimed is one, and most multiples of 4 are",
          "[formats][hadamard]") {
    std::size_t found = 0;
    for (std::size_t b = 4; b < 200; b += 4) {
        const auto h = fewbit::detail::base_matrix(b);
        if (!h) continue;
        ++found;
        for (std::size_t i = 0; i < b; ++i)
            for (std::size_t j = 0; j < i; ++j) {
                int dot = 0;
                for (std::size_t c = 0; c < b; ++c) dot += (*h)(i, c) * (*h)(j, c);
                if (dot != 0) FAIL("order " << b << ": rows " << i << " and " << j);
            }
    }
    CHECK(found >= 30);
}
