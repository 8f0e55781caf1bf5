// Integer-only products (Jacob et al. 2018, arXiv 1712.05877, section 2): 8-bit codes in, 8-bit codes out,
// int32 sums and fixed-point rescaling between, no floating point at run time. With x = S1 (q1 - Z1), w =
// S2[n] (q2 - Z2[n]), y = S3 (q3 - Z3) and M[n] = S1 S2[n] / S3 (eq. 4 to 7):
//
//   acc[m][n] = sum_k q1 q2 - Z1 sum_k q2 - Z2 sum_k q1 + K Z1 Z2      = sum_k (q1 - Z1)(q2 - Z2)
//   q3[m][n]  = clamp(Z3 + rescale(saturate(acc + bias[n]), M[n]), least, most)
//
// rescale and its roundings: fixed_point.hpp. bias is int32 with scale S1 S2[n] and zero point 0. A fused
// ReLU is least = Z3. K is at most 33025: |q1 - Z1| and |q2 - Z2| are at most 255, and 33025 * 255^2 =
// 2147450625 < 2^31 < 33026 * 255^2. The partial terms may wrap; their sum modulo 2^32 is then still acc.
//
// A plain loop, the definition to test others against; the fast kernels (kernels/) give f32 outputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/matmul/fixed_point.hpp"

namespace fewbit::inline v0 {

/// The largest K of integer_only_matmul.
inline constexpr std::size_t max_integer_only_k = 33025;
static_assert(max_integer_only_k * 255 * 255 < (1ull << 31) &&
              (max_integer_only_k + 1) * 255 * 255 > (1ull << 31));

/// What is fixed before the product runs. Spans of one element hold for all output channels.
struct IntegerOnlyWeights {
    MatrixView<const std::uint8_t> codes;               ///< (N, K) q2
    std::span<const std::uint8_t> zeros;                ///< (N) or (1) Z2
    std::span<const FixedPointMultiplier> multipliers;  ///< (N) or (1) M
    std::span<const std::int32_t> bias;                 ///< (N) or empty
};

struct IntegerOnlyOutput {
    std::uint8_t zero = 0;  ///< Z3
    std::uint8_t least = 0;
    std::uint8_t most = 255;
};

/// M[n] = x_scale * w_scales[n] / y_scale for (N) or (1) weight scales; a scale of 0 (x or w) gives 0.
/// Errors: a y_scale that is not positive; a multiplier without a fixed-point form, with its channel.
[[nodiscard]] inline Result<std::vector<FixedPointMultiplier>> integer_only_multipliers(
    double x_scale, std::span<const float> w_scales, double y_scale) {
    if (!(y_scale > 0) || !std::isfinite(y_scale))
        return fail(ErrorKind::bad_input, "an output scale of ", y_scale, " is not positive");
    std::vector<FixedPointMultiplier> multipliers;
    for (std::size_t n = 0; n < w_scales.size(); ++n) {
        auto one = fixed_point_multiplier(x_scale * static_cast<double>(w_scales[n]) / y_scale);
        if (!one) return Unexpected{std::move(one).error().within(text("output channel ", n))};
        multipliers.push_back(*one);
    }
    return multipliers;
}

/// y (M, N) from x (M, K) with zero point x_zero. The codes do not depend on the number of threads. Error:
/// shapes that do not fit, K above max_integer_only_k, an empty range of outputs, no memory.
[[nodiscard]] inline Result<void> integer_only_matmul(MatrixView<const std::uint8_t> x, std::uint8_t x_zero,
                                                      const IntegerOnlyWeights& w,
                                                      const IntegerOnlyOutput& output,
                                                      MatrixView<std::uint8_t> y,
                                                      ExecutionContext context = {}) {
    const std::size_t n = w.codes.rows, k = w.codes.cols;
    if (x.cols != k || y.rows != x.rows || y.cols != n)
        return fail(ErrorKind::bad_input, "shapes do not fit: x is ", x.rows, " x ", x.cols, ", W is ", n,
                    " x ", k, ", y is ", y.rows, " x ", y.cols);
    if (k > max_integer_only_k)
        return fail(ErrorKind::unsupported, "int32 sums are proven for ", max_integer_only_k,
                    " products of 8-bit codes, not for ", k);
    const auto one_or_all = [n](std::size_t count) { return count == 1 || count == n; };
    if (!one_or_all(w.zeros.size()) || !one_or_all(w.multipliers.size()) ||
        (!w.bias.empty() && w.bias.size() != n))
        return fail(ErrorKind::bad_input, "weights of ", n, " output channels have ", w.zeros.size(),
                    " zero points, ", w.multipliers.size(), " multipliers and a bias of ", w.bias.size());
    if (output.least > output.most)
        return fail(ErrorKind::bad_input, "outputs from ", int{output.least}, " to ", int{output.most},
                    " are none");

    const auto bytes = checked_product({n, sizeof(std::uint32_t)});
    const auto memory = bytes ? allocate_host(*bytes) : nullptr;
    if (!memory) return fail(ErrorKind::out_of_memory, "no memory for the sums of ", n, " rows of weights");
    auto* const row_sums = reinterpret_cast<std::uint32_t*>(memory.get());  // sum_k q2
    context.parallel_for(n, [&](std::size_t r, std::size_t) {
        row_sums[r] = 0;
        for (std::size_t i = 0; i < k; ++i) row_sums[r] += w.codes(r, i);
    });
    // Unsigned: what wraps on the way is well defined, and the end is in range.
    const auto count = static_cast<std::uint32_t>(k);
    context.parallel_for(x.rows, [&](std::size_t m, std::size_t) {
        std::uint32_t x_sum = 0;  // sum_k q1
        for (std::size_t i = 0; i < k; ++i) x_sum += x(m, i);
        for (std::size_t r = 0; r < n; ++r) {
            std::uint32_t acc = 0;
            for (std::size_t i = 0; i < k; ++i) acc += static_cast<std::uint32_t>(x(m, i)) * w.codes(r, i);
            const std::uint32_t z1 = x_zero, z2 = w.zeros[w.zeros.size() == 1 ? 0 : r];
            acc += count * z1 * z2 - z1 * row_sums[r] - z2 * x_sum;
            const std::int64_t sum =
                static_cast<std::int64_t>(static_cast<std::int32_t>(acc)) + (w.bias.empty() ? 0 : w.bias[r]);
            const FixedPointMultiplier& scale = w.multipliers[w.multipliers.size() == 1 ? 0 : r];
            const std::int64_t code =
                static_cast<std::int64_t>(rescale(saturate_int32(sum), scale)) + output.zero;
            y(m, r) = static_cast<std::uint8_t>(std::clamp<std::int64_t>(code, output.least, output.most));
        }
    });
    return {};
}

}  // namespace fewbit::inline v0
