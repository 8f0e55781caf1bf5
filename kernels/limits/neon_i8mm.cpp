// What a machine can do with NEON and the products of 8-bit matrices; README.md of this folder says
// what bounds the loop.
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {

std::uint64_t limit_neon_i8mm_dot_int8(std::size_t iterations) noexcept {
    constexpr int sums = 16;  // up to four pipes x a latency of four
    int32x4_t sum[sums];
    int8x16_t a = vdupq_n_s8(7), b = vdupq_n_s8(3);
    __asm__ volatile("" : "+w"(a), "+w"(b));
#pragma GCC unroll 16
    for (int s = 0; s < sums; ++s) sum[s] = vdupq_n_s32(s);  // all different, or one would do
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
        for (int s = 0; s < sums; ++s) sum[s] = vmmlaq_s32(sum[s], a, b);
        __asm__ volatile("" : "+w"(a));  // or compilers could multiply once and add `iterations` times
    }
#pragma GCC unroll 16
    for (int s = 1; s < sums; ++s) sum[0] = vaddq_s32(sum[0], sum[s]);
    return vgetq_lane_u64(vreinterpretq_u64_s32(sum[0]), 0);
}

}  // namespace fewbit::inline v0::kernels
