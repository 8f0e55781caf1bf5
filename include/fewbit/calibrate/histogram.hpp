// Histogram: a streaming histogram of activations around zero whose range doubles when a larger value comes.
//
//   bins of equal width over [-limit, limit), limit a power of two; doubling adds up neighbours in pairs
//
// Because limits are powers of two, a value ends in the same bin whichever batches came before it: batches
// may be cut, reordered or collected apart and merged, the counts are the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/calibrate/range.hpp"

namespace fewbit::inline v0 {

class Histogram {
public:
    static constexpr std::size_t bins = 4096;  // 2048 for each sign, as TensorRT's entropy calibrator has

    /// Counts every element of x (M, K). Error: x is not finite (nothing is counted then).
    FEWBIT_API Result<void> observe(MatrixView<const float> x, std::string_view tensor = {});
    /// As if everything `other` has seen had been observed here.
    FEWBIT_API void merge(const Histogram& other);

    [[nodiscard]] std::uint64_t total() const noexcept { return total_; }
    /// Smallest and largest value seen, exactly; {0, 0} before the first.
    [[nodiscard]] Range range() const noexcept { return seen_; }
    /// Half the covered interval; 0 while only zeros were seen.
    [[nodiscard]] double limit() const noexcept { return limit_; }
    [[nodiscard]] const std::vector<std::uint64_t>& counts() const noexcept { return counts_; }
    /// Width of a bin, and the lower edge of bin i.
    [[nodiscard]] double width() const noexcept { return 2.0 * limit_ / static_cast<double>(bins); }
    [[nodiscard]] double edge(std::size_t i) const noexcept {
        return (static_cast<double>(i) - static_cast<double>(bins / 2)) * width();
    }

    friend bool operator==(const Histogram&, const Histogram&) = default;

private:
    void grow_to(double limit);

    std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(bins);
    double limit_ = 0;
    std::uint64_t total_ = 0;
    Range seen_;
};

/// The range that leaves a share of `tail` (say 1e-4) of the values outside at each end; linear inside a bin,
/// and never wider than what was seen. tail = 0: min-max. Precondition: 0 <= tail < 0.5.
[[nodiscard]] FEWBIT_API Range percentile_range(const Histogram& histogram, double tail);

/// The range whose grid of `bits` (parameters_for) has the least mean squared error over the histogram;
/// factors 1 - i/100 of the range seen, i = 0..79.
[[nodiscard]] FEWBIT_API Range mse_range(const Histogram& histogram, int bits, bool symmetric);

/// The range [-t, t] (cut to what was seen) whose quantized distribution is the nearest in Kullback-Leibler
/// divergence (Migacz, "8-bit inference with TensorRT", GTC 2017): t on the bin edges, 2^(bits-1) levels of
/// |x|.
[[nodiscard]] FEWBIT_API Range entropy_range(const Histogram& histogram, int bits);

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/calibrate/histogram_impl.hpp"
#endif
