// C -= A B in double precision with one result on every machine: the loops, over vectors of `Bytes` bytes.
//
// Element (i, j) of C loses a[i][0] b[0][j], then a[i][1] b[1][j], and so on: each product and each difference is
// rounded by itself (-ffp-contract=off), no sum is split. Vectors run along j, so that neither their width nor
// cutting M, N or K into calls changes a bit; the library builds the loops for several instruction sets.
//
//   strip   3 vectors of columns of B, packed for up to 256 rows of it
//   tile    4 rows of C x a strip, in registers while a strip's rows go by
#pragma once

#include <cstddef>
#include <cstring>

namespace fewbit::inline v0::detail {

/// Precondition: C overlaps neither A nor B.
struct ProductOperands {
    double* c;  ///< (m, n)
    std::size_t c_stride;
    const double* a;  ///< (m, k)
    std::size_t a_stride;
    const double* b;  ///< (k, n)
    std::size_t b_stride;
    std::size_t m, n, k;
};

namespace {  // each instruction set has a copy of its own

template <int Bytes>
struct ProductLanes {
    typedef double Vector __attribute__((vector_size(Bytes)));
    static constexpr std::size_t width = Bytes / sizeof(double), vectors = 3, strip = vectors * width;
    static constexpr std::size_t rows = 4, depth = 256;

    static Vector load(const double* p) noexcept {
        Vector v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }

    /// C (Rows, strip) -= A (Rows, k) times a packed strip.
    template <int Rows>
    static void tile(double* c, std::size_t c_stride, const double* a, std::size_t a_stride,
                     const double* packed, std::size_t k) noexcept {
        Vector sums[Rows][vectors];
        for (int r = 0; r < Rows; ++r)
            for (std::size_t v = 0; v < vectors; ++v)
                sums[r][v] = load(c + static_cast<std::size_t>(r) * c_stride + v * width);
        for (std::size_t i = 0; i < k; ++i) {
            const Vector b0 = load(packed + i * strip), b1 = load(packed + i * strip + width),
                         b2 = load(packed + i * strip + 2 * width);
            for (int r = 0; r < Rows; ++r) {
                const double factor = a[static_cast<std::size_t>(r) * a_stride + i];
                sums[r][0] -= factor * b0;
                sums[r][1] -= factor * b1;
                sums[r][2] -= factor * b2;
            }
        }
        for (int r = 0; r < Rows; ++r)
            for (std::size_t v = 0; v < vectors; ++v)
                std::memcpy(c + static_cast<std::size_t>(r) * c_stride + v * width, &sums[r][v], Bytes);
    }

    static void rows_of_tile(std::size_t count, double* c, std::size_t c_stride, const double* a,
                             std::size_t a_stride, const double* packed, std::size_t k) noexcept {
        switch (count) {
            case 1: return tile<1>(c, c_stride, a, a_stride, packed, k);
            case 2: return tile<2>(c, c_stride, a, a_stride, packed, k);
            case 3: return tile<3>(c, c_stride, a, a_stride, packed, k);
            default: return tile<4>(c, c_stride, a, a_stride, packed, k);
        }
    }

    static void run(const ProductOperands& o) noexcept {
        alignas(64) double packed[depth * strip];
        for (std::size_t k0 = 0; k0 < o.k; k0 += depth) {
            const std::size_t k = o.k - k0 < depth ? o.k - k0 : depth;
            for (std::size_t n = 0; n < o.n; n += strip) {
                const std::size_t columns = o.n - n < strip ? o.n - n : strip;
                for (std::size_t i = 0; i < k; ++i) {
                    const double* from = o.b + (k0 + i) * o.b_stride + n;
                    for (std::size_t j = 0; j < columns; ++j) packed[i * strip + j] = from[j];
                    for (std::size_t j = columns; j < strip; ++j) packed[i * strip + j] = 0;
                }
                for (std::size_t m = 0; m < o.m; m += rows) {
                    const std::size_t count = o.m - m < rows ? o.m - m : rows;
                    double* const c = o.c + m * o.c_stride + n;
                    const double* const a = o.a + m * o.a_stride + k0;
                    if (columns == strip) {
                        rows_of_tile(count, c, o.c_stride, a, o.a_stride, packed, k);
                        continue;
                    }
                    double edge[rows * strip] = {};
                    for (std::size_t r = 0; r < count; ++r)
                        for (std::size_t j = 0; j < columns; ++j) edge[r * strip + j] = c[r * o.c_stride + j];
                    rows_of_tile(count, edge, strip, a, o.a_stride, packed, k);
                    for (std::size_t r = 0; r < count; ++r)
                        for (std::size_t j = 0; j < columns; ++j) c[r * o.c_stride + j] = edge[r * strip + j];
                }
            }
        }
    }
};

}  // namespace
}  // namespace fewbit::inline v0::detail
