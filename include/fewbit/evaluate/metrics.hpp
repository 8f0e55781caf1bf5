// How far one set of numbers is from another: relative error, NMSE, SQNR, cosine, largest error.
//
//   noise = sum (reference - approximation)^2        signal = sum reference^2
//
// Sums are doubles in the order of the elements, so the result does not depend on threads or compilers.
#pragma once

#include <cstddef>
#include <span>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/quantized_matrix.hpp"

namespace fewbit::inline v0::evaluate {

/// What compare() measures. The corner cases are defined:
///
/// | case                                    | relative_error, nmse | sqnr_db   | cosine |
/// |-----------------------------------------|----------------------|-----------|--------|
/// | no elements, or both all zero           | 0                    | +infinity | 1      |
/// | equal, not zero                         | 0                    | +infinity | 1      |
/// | reference all zero, approximation not   | +infinity            | -infinity | 0      |
/// | approximation all zero, reference not   | 1                    | 0         | 0      |
/// | NaN or infinity anywhere (either side)  | NaN                  | NaN       | NaN    |
///
/// In the last case max_abs_error and mean_square_error are NaN too, and not_finite counts the pairs to
/// blame.
struct ErrorMetrics {
    std::size_t count = 0;         ///< pairs compared
    std::size_t not_finite = 0;    ///< pairs with a NaN or an infinity
    double relative_error = 0;     ///< sqrt(noise / signal)
    double nmse = 0;               ///< noise / signal
    double sqnr_db = 0;            ///< 10 log10(signal / noise)
    double cosine = 1;             ///< sum r a / sqrt(sum r^2 sum a^2)
    double max_abs_error = 0;      ///< max |r - a|, in the unit of the inputs
    double mean_square_error = 0;  ///< noise / count
};

/// Collects pairs piece by piece, for data that never lies in memory as a whole.
class ErrorAccumulator {
public:
    /// Adds pairs; spans of different length are compared over the shorter one (precondition: equal).
    FEWBIT_API void add(std::span<const float> reference, std::span<const float> approximation) noexcept;
    /// Adds everything that `other` has seen.
    FEWBIT_API void add(const ErrorAccumulator& other) noexcept;
    [[nodiscard]] FEWBIT_API ErrorMetrics metrics() const noexcept;

private:
    std::size_t count_ = 0;
    std::size_t not_finite_ = 0;
    double signal_ = 0;
    double noise_ = 0;
    double energy_ = 0;  // of the approximation
    double dot_ = 0;
    double largest_ = 0;
};

/// Metrics of two spans. Error: different lengths.
[[nodiscard]] FEWBIT_API Result<ErrorMetrics> compare(std::span<const float> reference,
                                                      std::span<const float> approximation);

/// Metrics of two matrices, strides respected. Error: different shapes.
[[nodiscard]] FEWBIT_API Result<ErrorMetrics> compare(MatrixView<const float> reference,
                                                      MatrixView<const float> approximation);

/// Metrics of the values that the codes stand for. Error: different shapes.
[[nodiscard]] FEWBIT_API Result<ErrorMetrics> compare(MatrixView<const float> reference,
                                                      const QuantizedMatrix& quantized);

}  // namespace fewbit::inline v0::evaluate
