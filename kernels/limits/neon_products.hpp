// The loop of the limits for 64-bit Arm whose instruction multiplies bytes and adds them to words in one (sdot, smmla).
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace fewbit::inline v0::kernels {
namespace {

/// Sixteen sums, of which add(sum, a, b) makes the next ones: up to four pipes x a latency of four.
std::uint64_t sum_products(std::size_t iterations, auto add) {
    constexpr int sums = 16;
    int32x4_t sum[sums];
    int8x16_t a = vdupq_n_s8(7), b = vdupq_n_s8(3);
    __asm__ volatile("" : "+w"(a), "+w"(b));
#pragma GCC unroll 16
    for (int s = 0; s < sums; ++s) sum[s] = vdupq_n_s32(s);  // all different, or one would do
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
        for (int s = 0; s < sums; ++s) sum[s] = add(sum[s], a, b);
        __asm__ volatile("" : "+w"(a));  // or compilers could multiply once and add `iterations` times
    }
#pragma GCC unroll 16
    for (int s = 1; s < sums; ++s) sum[0] = vaddq_s32(sum[0], sum[s]);
    return vgetq_lane_u64(vreinterpretq_u64_s32(sum[0]), 0);
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
