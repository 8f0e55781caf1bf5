// What a machine can do with AVX-512 and its VNNI; README.md of this folder says what bounds each loop.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {
namespace {

#define FEWBIT_OPAQUE(value) __asm__ volatile("" : "+v"(value))

std::uint64_t low_bits(__m512i value) {
    std::uint64_t lanes[8];  // (g++ 12 takes the intrinsics that cut a register for uninitialized)
    _mm512_storeu_si512(lanes, value);
    return lanes[0];
}

template <std::size_t Streams>
std::uint64_t read_side_by_side(const void* p, std::size_t bytes) {
    const auto* c = static_cast<const char*>(p);
    const std::size_t part = bytes / Streams;
    __m512i sum[4];
    for (auto& of : sum) of = _mm512_setzero_si512();
    for (std::size_t at = 0; at < part; at += 256)
        for (std::size_t stream = 0; stream < Streams; ++stream) {
            const char* const line = c + stream * part + at;
#pragma GCC unroll 4
            for (int i = 0; i < 4; ++i) sum[i] = _mm512_xor_si512(sum[i], _mm512_load_si512(line + 64 * i));
        }
    std::uint64_t lanes[8], all = 0;
    _mm512_storeu_si512(lanes,
                        _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3])));
    for (const std::uint64_t lane : lanes) all ^= lane;  // so that it depends on every byte
    return all;
}

}  // namespace

std::uint64_t limit_avx512_vnni_fma_f32(std::size_t iterations) noexcept {
    constexpr int sums = 16;  // two pipes x a latency of five, and some to choose from
    __m512 sum[sums], a = _mm512_set1_ps(1.5f), b = _mm512_set1_ps(1e-3f);
    FEWBIT_OPAQUE(a);
    FEWBIT_OPAQUE(b);
#pragma GCC unroll 16
    for (int s = 0; s < sums; ++s) sum[s] = _mm512_set1_ps(static_cast<float>(s));
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
        for (int s = 0; s < sums; ++s) sum[s] = _mm512_fmadd_ps(a, b, sum[s]);
    }
#pragma GCC unroll 16
    for (int s = 1; s < sums; ++s) sum[0] = _mm512_add_ps(sum[0], sum[s]);
    return low_bits(_mm512_castps_si512(sum[0]));
}

std::uint64_t limit_avx512_vnni_dot_int8(std::size_t iterations) noexcept {
    constexpr int sums = 16;  // two pipes x a latency of five, and some to choose from
    __m512i sum[sums], a = _mm512_set1_epi8(7), b = _mm512_set1_epi8(3);
    FEWBIT_OPAQUE(a);
    FEWBIT_OPAQUE(b);
#pragma GCC unroll 16
    for (int s = 0; s < sums; ++s) sum[s] = _mm512_set1_epi32(s);  // all different, or one would do
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
        for (int s = 0; s < sums; ++s) sum[s] = _mm512_dpbusd_epi32(sum[s], a, b);
        FEWBIT_OPAQUE(a);  // or compilers would multiply once and add `iterations` times
    }
#pragma GCC unroll 16
    for (int s = 1; s < sums; ++s) sum[0] = _mm512_add_epi32(sum[0], sum[s]);
    return low_bits(sum[0]);
}

std::uint64_t limit_avx512_vnni_read(const void* p, std::size_t bytes) noexcept {
    return read_side_by_side<1>(p, bytes);
}
std::uint64_t limit_avx512_vnni_read_streams(const void* p, std::size_t bytes) noexcept {
    return read_side_by_side<8>(p, bytes);
}

}  // namespace fewbit::inline v0::kernels
