// Statistics: what calibration hands to methods, per tensor: the inputs x (M tokens, K channels) that a
// weight matrix (N, K) met. They can be saved, loaded and merged; a method's result depends on nothing else
// of the calibration.
//
// Sums, not means, are kept: two runs are merged by adding. Saved form: named tensors (io writes them as
// safetensors),
//
//   fewbit.statistics/version         i64 (1)      1
//   <tensor>/tokens                   i64 (1)      M, at least 1
//   <tensor>/channel_min, channel_max f32 (K)
//   <tensor>/sum_abs, sum_square      f64 (K)      sums over tokens of |x| and x^2
//   <tensor>/hessian_sum              f64 (K, K)   sum of x^T x; only if a method asked for it
//   <tensor>/asymmetry_sum            f64 (K, K)   sum of (x_float - x)^T x, x_float: the same input in the float
//                                                  model; only if a method asked for it
//   <tensor>/range/<observer>         f32 (2)      min and max that an observer chose, any number of them
//   <tensor>/channel_scales           f32 (K)      what x had been divided by; absent: nothing
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/calibrate/range.hpp"

namespace fewbit::inline v0 {

struct TensorStatistics {
    std::uint64_t tokens = 0;
    std::vector<Range> channel_ranges;  ///< (K) smallest and largest value of each channel
    std::vector<double> sum_abs;        ///< (K) sum over tokens of |x|
    std::vector<double> sum_square;  ///< (K) sum over tokens of x^2: importance, and the Hessian's diagonal
    Tensor hessian_sum;              ///< f64 (K, K), or no elements where none was collected
    Tensor asymmetry_sum;            ///< f64 (K, K), or no elements; never without a Hessian
    std::map<std::string, Range, std::less<>>
        ranges;  ///< by observer: "minmax", "percentile", "entropy", ...
    /// (K) or empty: what each channel of the model's own x had been divided by before it was added (pipeline/folds.hpp);
    /// positive. Only a record: nothing here reads it.
    std::vector<float> channel_scales;

    [[nodiscard]] std::size_t channels() const noexcept { return sum_abs.size(); }
    [[nodiscard]] double mean_abs(std::size_t channel) const noexcept {
        return tokens == 0 ? 0 : sum_abs[channel] / static_cast<double>(tokens);
    }
    [[nodiscard]] double mean_square(std::size_t channel) const noexcept {
        return tokens == 0 ? 0 : sum_square[channel] / static_cast<double>(tokens);
    }
    /// Smallest and largest over all channels; {0, 0} when there are none.
    [[nodiscard]] FEWBIT_API Range range() const;

    /// Adds a batch x (M, K), token by token in order, so that any cut into batches gives the same sums. (The
    /// Hessian is collected elsewhere.) Errors: x is not finite; K differs from before.
    FEWBIT_API Result<void> add(MatrixView<const float> x, std::string_view tensor = {});
    /// Adds another run's sums; ranges of observers are widened to hold both. Errors: K differs; only one has
    /// a Hessian; channels that were divided by other scales.
    FEWBIT_API Result<void> merge(const TensorStatistics& other, std::string_view tensor = {});
};

namespace detail {

/// The sums of products of channels.
struct SquareSum {
    const char* name;  ///< in the saved form
    const char* what;  ///< in sentences
    Tensor TensorStatistics::*member;
    bool is_gram;  ///< of a matrix with itself
};
inline constexpr SquareSum square_sums[] = {
    {"hessian_sum", "a Hessian", &TensorStatistics::hessian_sum, true},
    {"asymmetry_sum", "an asymmetry sum", &TensorStatistics::asymmetry_sum, false}};

}  // namespace detail

struct Statistics {
    std::map<std::string, TensorStatistics, std::less<>> tensors;

    /// Null where the tensor was never observed.
    [[nodiscard]] FEWBIT_API const TensorStatistics* find(std::string_view tensor) const;
    /// Adds another run's statistics tensor by tensor. Errors: those of TensorStatistics::merge.
    FEWBIT_API Result<void> merge(const Statistics& other);
};

/// The saved form. Errors: no memory; a tensor whose parts disagree in K.
[[nodiscard]] FEWBIT_API Result<std::map<std::string, Tensor>> to_tensors(const Statistics& statistics);

/// Reads the saved form. Nothing in it is trusted. Errors, naming the entry: another version, an unknown or
/// missing entry, a wrong type or shape, numbers that cannot be (NaN, negative sums or diagonals, min > max,
/// no tokens, scales that are not positive). Sums of products in a mapped file stay there.
[[nodiscard]] FEWBIT_API Result<Statistics> from_tensors(const std::map<std::string, Tensor>& tensors);

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/calibrate/statistics_impl.hpp"
#include "fewbit/calibrate/statistics_io_impl.hpp"
#endif
