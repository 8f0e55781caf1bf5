// Statistics of a layer's input for tests of calibrated methods, each sum written out.
#pragma once

#include <algorithm>
#include <cstddef>

#include "fewbit/calibrate/statistics.hpp"
#include "support/catch.hpp"

namespace fewbit::testing {

/// A^T B (K, K) of A and B (T, K), in double precision.
inline Tensor products(const Matrix& a, const Matrix& b) {
    const std::size_t k = a.cols();
    Tensor out = *Tensor::allocate(Scalar::f64, {k, k});
    const auto sums = out.as_mutable<double>();
    std::fill(sums.begin(), sums.end(), 0.0);
    for (std::size_t t = 0; t < a.rows(); ++t)
        for (std::size_t i = 0; i < k; ++i)
            for (std::size_t j = 0; j < k; ++j)
                sums[i * k + j] += static_cast<double>(a(t, i)) * static_cast<double>(b(t, j));
    return out;
}

/// What calibration gathers from x (T, K), with the sums of its Hessian.
inline TensorStatistics statistics_of(const Matrix& x) {
    TensorStatistics statistics;
    REQUIRE(statistics.add(x));
    statistics.hessian_sum = products(x, x);
    return statistics;
}

}  // namespace fewbit::testing
