// PackedActivations: x, quantized once, for all the products that share it (q, k, v; gate, up).
//
//   codes   int8 (M, stride), each row padded with zeros: at least 64 beyond K
//   scales  f32 (M, groups)
//   sums    int32 (M, sum_groups): sums of codes over runs of sum_group_elements, with which kernels subtract
//           zero points: sum_k (u - z) a = sum_k u a - z * sum_k a
// For f32 activations it is only a view of x, which must outlive it.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0 {

class PackedActivations {
public:
    PackedActivations() = default;

    [[nodiscard]] const ActivationFormat& format() const noexcept { return format_; }
    [[nodiscard]] std::size_t m() const noexcept { return view_.m; }
    [[nodiscard]] std::size_t k() const noexcept { return k_; }
    /// Elements per entry of `sums`; a product with weights of group g needs min(g, activation group), see
    /// matmul().
    [[nodiscard]] std::size_t sum_group_elements() const noexcept { return view_.sum_group_elements; }
    [[nodiscard]] const ActivationsView& view() const noexcept { return view_; }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return bytes_; }

    friend Result<PackedActivations> pack_activations(MatrixView<const float>, const ActivationFormat&,
                                                      std::size_t, ExecutionContext);

private:
    ActivationFormat format_;
    std::size_t k_ = 0;
    std::size_t bytes_ = 0;
    ActivationsView view_;
    std::shared_ptr<std::byte> memory_;
};

namespace detail {

/// Quantizes x[0, count) to int8; returns the scale (ActivationFormat says how). NaN when x is not finite.
inline float quantize_run(const float* x, std::size_t count, std::int8_t* codes) noexcept {
    // Magnitudes compare as integers, and NaN and infinity come out on top. This loop vectorizes; a float max
    // would not without -ffast-math.
    std::int32_t largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto magnitude = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFu);
        largest = magnitude > largest ? magnitude : largest;
    }
    const float scale = std::bit_cast<float>(largest) / 127.0f;
    if (largest >= 0x7F800000 || scale == 0.0f) {
        std::memset(codes, 0, count);
        return scale == 0.0f ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    }
    // Adding 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low mantissa bits.
    constexpr float magic = 12582912.0f;
    constexpr std::int32_t magic_bits = 0x4B400000;
    for (std::size_t i = 0; i < count; ++i) {
        std::int32_t code = std::bit_cast<std::int32_t>(x[i] / scale + magic) - magic_bits;
        code = code > 127 ? 127 : code;  // a subnormal scale is coarse: the quotient can pass 127
        code = code < -127 ? -127 : code;
        codes[i] = static_cast<std::int8_t>(code);
    }
    return scale;
}

}  // namespace detail

/// Quantizes x (M, K). `sum_group_elements`: how many codes each entry of sums covers; it must divide the
/// activation group (or cover the row). Error: bad format, overflow, no memory.
[[nodiscard]] inline Result<PackedActivations> pack_activations(MatrixView<const float> x,
                                                                const ActivationFormat& format,
                                                                std::size_t sum_group_elements,
                                                                ExecutionContext context = {}) {
    if (auto valid = validate(format); !valid) return Unexpected{std::move(valid).error()};
    PackedActivations packed;
    packed.format_ = format;
    packed.k_ = x.cols;
    packed.view_.m = x.rows;
    if (format.element == ActivationElement::f32) {
        packed.view_.values = x.data;
        packed.view_.stride_elements = x.stride_elements;
        packed.bytes_ = x.rows * x.cols * sizeof(float);
        return packed;
    }
    const std::size_t k = x.cols;
    const std::size_t group = format.group_elements(k), groups = format.groups_per_row(k);
    const std::size_t sum_group = std::clamp<std::size_t>(sum_group_elements, 1, std::max<std::size_t>(k, 1));
    const std::size_t sum_groups = ceil_div(k, sum_group);
    const std::size_t stride = round_up(k, 64) + 64;
    const auto code_bytes = checked_product({x.rows, stride});
    const auto scale_bytes = checked_product({x.rows, round_up(groups, 16), sizeof(float)});
    const auto sum_bytes = checked_product({x.rows, round_up(sum_groups, 16), sizeof(std::int32_t)});
    const auto total = code_bytes && scale_bytes && sum_bytes
                           ? checked_add(*code_bytes + *scale_bytes, *sum_bytes)
                           : std::nullopt;
    packed.memory_ = total ? allocate_host(*total) : nullptr;
    if (!packed.memory_)
        return fail(ErrorKind::out_of_memory, "no memory to quantize activations of ", x.rows, " x ", k);

    auto* const codes = reinterpret_cast<std::int8_t*>(packed.memory_.get());
    auto* const scales = reinterpret_cast<float*>(packed.memory_.get() + *code_bytes);
    auto* const sums = reinterpret_cast<std::int32_t*>(packed.memory_.get() + *code_bytes + *scale_bytes);
    const auto quantize_row = [&](std::size_t m, std::size_t) {
        const float* row = x.data + m * x.stride_elements;
        std::int8_t* out = codes + m * stride;
        for (std::size_t g = 0; g < groups; ++g) {
            const std::size_t begin = g * group, count = std::min(group, k - begin);
            scales[m * groups + g] = detail::quantize_run(row + begin, count, out + begin);
        }
        std::memset(out + k, 0, stride - k);
        for (std::size_t s = 0; s < sum_groups; ++s) {
            std::int32_t sum = 0;
            for (std::size_t i = s * sum_group; i < std::min(k, (s + 1) * sum_group); ++i) sum += out[i];
            sums[m * sum_groups + s] = sum;
        }
    };
    if (x.rows == 1)
        quantize_row(0, 0);
    else
        context.parallel_for(x.rows, quantize_row);

    packed.view_.values = codes;
    packed.view_.stride_elements = stride;
    packed.view_.scales = scales;
    packed.view_.group_elements = group;
    packed.view_.groups = groups;
    packed.view_.sums = sums;
    packed.view_.sum_group_elements = sum_group;
    packed.view_.sum_groups = sum_groups;
    packed.bytes_ = *total;
    return packed;
}

}  // namespace fewbit::inline v0
