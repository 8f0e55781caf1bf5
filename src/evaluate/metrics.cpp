// Definitions of evaluate/metrics.hpp.
#include "fewbit/evaluate/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace fewbit::inline v0::evaluate {

void ErrorAccumulator::add(std::span<const float> reference, std::span<const float> approximation) noexcept {
    const std::size_t count = std::min(reference.size(), approximation.size());
    for (std::size_t i = 0; i < count; ++i) {
        const double r = reference[i], a = approximation[i];
        if (!std::isfinite(r) || !std::isfinite(a)) {
            ++not_finite_;
            continue;
        }
        const double error = r - a;
        signal_ += r * r;
        noise_ += error * error;
        energy_ += a * a;
        dot_ += r * a;
        largest_ = std::max(largest_, std::abs(error));
    }
    count_ += count;
}

void ErrorAccumulator::add(const ErrorAccumulator& other) noexcept {
    count_ += other.count_;
    not_finite_ += other.not_finite_;
    signal_ += other.signal_;
    noise_ += other.noise_;
    energy_ += other.energy_;
    dot_ += other.dot_;
    largest_ = std::max(largest_, other.largest_);
}

ErrorMetrics ErrorAccumulator::metrics() const noexcept {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    ErrorMetrics out;
    out.count = count_;
    out.not_finite = not_finite_;
    if (not_finite_ != 0) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        out.relative_error = out.nmse = out.sqnr_db = out.cosine = out.max_abs_error = out.mean_square_error =
            nan;
        return out;
    }
    out.max_abs_error = largest_;
    out.mean_square_error = count_ == 0 ? 0 : noise_ / static_cast<double>(count_);
    if (noise_ == 0) {
        out.sqnr_db = infinity;
        return out;  // the same numbers: the initial values of the other members
    }
    out.nmse = signal_ == 0 ? infinity : noise_ / signal_;
    out.relative_error = std::sqrt(out.nmse);
    out.sqnr_db = signal_ == 0 ? -infinity : 10.0 * std::log10(signal_ / noise_);
    // Two square roots: the product of the energies may overflow or vanish where they do not.
    const double norms = std::sqrt(signal_) * std::sqrt(energy_);
    out.cosine = norms == 0 ? 0 : std::clamp(dot_ / norms, -1.0, 1.0);
    return out;
}

Result<ErrorMetrics> compare(std::span<const float> reference, std::span<const float> approximation) {
    if (reference.size() != approximation.size())
        return fail(ErrorKind::bad_input, "cannot compare ", reference.size(), " numbers with ",
                    approximation.size());
    ErrorAccumulator sums;
    sums.add(reference, approximation);
    return sums.metrics();
}

Result<ErrorMetrics> compare(MatrixView<const float> reference, MatrixView<const float> approximation) {
    if (reference.rows != approximation.rows || reference.cols != approximation.cols)
        return fail(ErrorKind::bad_input, "cannot compare a ", reference.rows, " x ", reference.cols,
                    " matrix with one of ", approximation.rows, " x ", approximation.cols);
    ErrorAccumulator sums;
    for (std::size_t r = 0; r < reference.rows; ++r) sums.add(reference.row(r), approximation.row(r));
    return sums.metrics();
}

Result<ErrorMetrics> compare(MatrixView<const float> reference, const QuantizedMatrix& quantized) {
    if (reference.rows != quantized.n() || reference.cols != quantized.k())
        return fail(ErrorKind::bad_input, "cannot compare a ", reference.rows, " x ", reference.cols,
                    " matrix with a quantized one of ", quantized.n(), " x ", quantized.k());
    ErrorAccumulator sums;
    std::vector<float> decoded(reference.cols);
    for (std::size_t r = 0; r < reference.rows; ++r) {
        quantized.dequantize(r, 0, decoded);
        sums.add(reference.row(r), decoded);
    }
    return sums.metrics();
}

}  // namespace fewbit::inline v0::evaluate
