// What a machine can do with the NEON of every 64-bit Arm CPU; README.md of this folder says what bounds each
// loop.
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {
namespace {

#define FEWBIT_OPAQUE(value) __asm__ volatile("" : "+w"(value))

std::uint64_t low_bits(int32x4_t value) { return vgetq_lane_u64(vreinterpretq_u64_s32(value), 0); }

uint64x2_t line(const std::uint64_t* p) {
    return veorq_u64(veorq_u64(vld1q_u64(p), vld1q_u64(p + 2)),
                     veorq_u64(vld1q_u64(p + 4), vld1q_u64(p + 6)));
}

/// Four lines of 64 bytes into four sums.
void read_lines(const std::uint64_t* p, uint64x2_t (&sum)[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[i] = veorq_u64(sum[i], line(p + 8 * i));
}

/// Both halves of a register, so that the result depends on every byte.
std::uint64_t total(const uint64x2_t (&sum)[4]) {
    const uint64x2_t all = veorq_u64(veorq_u64(sum[0], sum[1]), veorq_u64(sum[2], sum[3]));
    return vgetq_lane_u64(all, 0) ^ vgetq_lane_u64(all, 1);
}

}  // namespace

std::uint64_t limit_neon_fma_f32(std::size_t iterations) noexcept {
    constexpr int sums = 16;  // up to four pipes x a latency of four
    float32x4_t sum[sums], a = vdupq_n_f32(1.5f), b = vdupq_n_f32(1e-3f);
    FEWBIT_OPAQUE(a);
    FEWBIT_OPAQUE(b);
#pragma GCC unroll 16
    for (int s = 0; s < sums; ++s)
        sum[s] = vdupq_n_f32(static_cast<float>(s));  // all different, or one would do
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
        for (int s = 0; s < sums; ++s) sum[s] = vfmaq_f32(sum[s], a, b);
    }
#pragma GCC unroll 16
    for (int s = 1; s < sums; ++s) sum[0] = vaddq_f32(sum[0], sum[s]);
    return low_bits(vreinterpretq_s32_f32(sum[0]));
}

std::uint64_t limit_neon_dot_int8(std::size_t iterations) noexcept {
    constexpr int sums = 16, group = 8;  // products of a group wait for none of their own
    int32x4_t sum[sums];
    int8x16_t a = vdupq_n_s8(7), b = vdupq_n_s8(3);
    FEWBIT_OPAQUE(b);
#pragma GCC unroll 16
    for (int s = 0; s < sums; ++s) sum[s] = vdupq_n_s32(0);
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 2
        for (int first = 0; first < sums; first += group) {
            int16x8_t narrow[group];  // two products of |x| <= 127 fit: 2 x 127 x 128 = 32512
#pragma GCC unroll 8
            for (int s = 0; s < group; ++s) {
                FEWBIT_OPAQUE(a);  // or the products, which never change, would be taken out of the loop
                narrow[s] = vmull_s8(vget_low_s8(a), vget_low_s8(b));
            }
#pragma GCC unroll 8
            for (int s = 0; s < group; ++s) {
                FEWBIT_OPAQUE(a);
                narrow[s] = vmlal_high_s8(narrow[s], a, b);
            }
#pragma GCC unroll 8
            for (int s = 0; s < group; ++s) sum[first + s] = vpadalq_s16(sum[first + s], narrow[s]);
        }
    }
#pragma GCC unroll 16
    for (int s = 1; s < sums; ++s) sum[0] = vaddq_s32(sum[0], sum[s]);
    return low_bits(sum[0]);
}

std::uint64_t limit_neon_dot_int4(std::size_t iterations) noexcept {
    // Sixteen of both would not fit into the registers, and a sum is needed only twice in 272 instructions.
    constexpr int chains = 16, sums = 8;
    int32x4_t sum[sums];
    // Two that take turns: of 256 opaque ones clang++ 14 moves one to another register, and back.
    int8x16_t a[2] = {vdupq_n_s8(15), vdupq_n_s8(14)}, b = vdupq_n_s8(3);
    FEWBIT_OPAQUE(b);
#pragma GCC unroll 8
    for (int s = 0; s < sums; ++s) sum[s] = vdupq_n_s32(0);
    for (std::size_t i = 0; i < iterations; ++i) {
        int16x8_t narrow[chains];  // sixteen products fit: 16 x 15 x 127 = 30480
#pragma GCC unroll 16
        for (int s = 0; s < chains; ++s) {
            FEWBIT_OPAQUE(a[s % 2]);
            narrow[s] = vmull_s8(vget_low_s8(a[s % 2]), vget_low_s8(b));
        }
#pragma GCC unroll 8
        for (int pair = 0; pair < 8; ++pair) {
#pragma GCC unroll 16
            for (int s = 0; s < chains; ++s) {
                FEWBIT_OPAQUE(a[s % 2]);
                narrow[s] = vmlal_high_s8(narrow[s], a[s % 2], b);
            }
            if (pair == 7) break;  // the first halves of the first pair are multiplied above
#pragma GCC unroll 16
            for (int s = 0; s < chains; ++s) {
                FEWBIT_OPAQUE(a[s % 2]);
                narrow[s] = vmlal_s8(narrow[s], vget_low_s8(a[s % 2]), vget_low_s8(b));
            }
        }
#pragma GCC unroll 16
        for (int s = 0; s < chains; ++s) sum[s % sums] = vpadalq_s16(sum[s % sums], narrow[s]);
    }
#pragma GCC unroll 8
    for (int s = 1; s < sums; ++s) sum[0] = vaddq_s32(sum[0], sum[s]);
    return low_bits(sum[0]);
}

std::uint64_t limit_neon_read(const void* p, std::size_t bytes) noexcept {
    const auto* words = static_cast<const std::uint64_t*>(p);
    uint64x2_t sum[4] = {};
    for (std::size_t at = 0; at < bytes / 8; at += 32) read_lines(words + at, sum);
    return total(sum);
}

std::uint64_t limit_neon_read_streams(const void* p, std::size_t bytes) noexcept {
    const auto* words = static_cast<const std::uint64_t*>(p);
    const std::size_t quarter = bytes / 8 / 4;
    uint64x2_t sum[4] = {};
    for (std::size_t at = 0; at < quarter; at += 32) {
#pragma GCC unroll 4
        for (std::size_t stream = 0; stream < 4; ++stream) read_lines(words + stream * quarter + at, sum);
    }
    return total(sum);
}

}  // namespace fewbit::inline v0::kernels
