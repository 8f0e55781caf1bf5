// What a machine can do with AVX-512 BF16; README.md of this folder says what bounds each loop.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {

std::uint64_t limit_avx512_bf16_dot_bf16(std::size_t iterations) noexcept {
    constexpr int sums = 12;
    __m512 sum[sums];
    __m512i a = _mm512_set1_epi16(0x3FC0), b = _mm512_set1_epi16(0x3A83);  // 1.5 and 1e-3
    __asm__ volatile("" : "+v"(a), "+v"(b));
    for (int s = 0; s < sums; ++s) sum[s] = _mm512_set1_ps(static_cast<float>(s));
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
        for (int s = 0; s < sums; ++s)
            sum[s] = _mm512_dpbf16_ps(sum[s], reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
    for (int s = 1; s < sums; ++s) sum[0] = _mm512_add_ps(sum[0], sum[s]);
    std::uint64_t lanes[8];
    _mm512_storeu_ps(lanes, sum[0]);
    return lanes[0];
}

}  // namespace fewbit::inline v0::kernels
