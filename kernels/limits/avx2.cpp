// What a machine can do with AVX2 and FMA; README.md of this folder says what bounds each loop.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {
namespace {

#define FEWBIT_OPAQUE(value) __asm__ volatile("" : "+x"(value))

std::uint64_t low_bits(__m256i value) {
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm256_castsi256_si128(value)));
}

__m256i load(const char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

/// Four lines of 64 bytes into four sums.
void read_lines(const char* p, __m256i (&sum)[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
        sum[i] = _mm256_xor_si256(sum[i], _mm256_xor_si256(load(p + 64 * i), load(p + 64 * i + 32)));
}

/// Of all parts of the sums, so that it depends on every byte.
std::uint64_t total(const __m256i (&sum)[4]) {
    __m256i all = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    all = _mm256_xor_si256(all, _mm256_permute4x64_epi64(all, 0x4E));
    return low_bits(_mm256_xor_si256(all, _mm256_shuffle_epi32(all, 0x4E)));
}

__m256i opaque(__m256i value) {
    FEWBIT_OPAQUE(value);
    return value;
}

/// Eight sums of what `product` makes of `a`. Four products before their sums: in turn, a CPU with half-wide pipes gives
/// some of the sums to the one pipe that multiplies.
std::uint64_t sum_of_products(std::size_t iterations, __m256i a, auto product) {
    constexpr int sums = 8, together = 4;
    const __m256i b = opaque(_mm256_set1_epi8(3));
    __m256i sum[sums];
#pragma GCC unroll 8
    for (int s = 0; s < sums; ++s) sum[s] = _mm256_setzero_si256();
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 2
        for (int first = 0; first < sums; first += together) {
            __m256i products[together];
#pragma GCC unroll 4
            for (int s = 0; s < together; ++s) {
                FEWBIT_OPAQUE(a);  // or the product, which never changes, would be taken out of the loop
                products[s] = opaque(product(a, b));
            }
#pragma GCC unroll 4
            for (int s = 0; s < together; ++s) sum[first + s] = _mm256_add_epi32(sum[first + s], products[s]);
        }
    }
#pragma GCC unroll 8
    for (int s = 1; s < sums; ++s) sum[0] = _mm256_add_epi32(sum[0], sum[s]);
    return low_bits(sum[0]);
}

}  // namespace

std::uint64_t limit_avx2_fma_f32(std::size_t iterations) noexcept {
    constexpr int sums = 12;
    __m256 sum[sums], a = _mm256_set1_ps(1.5f), b = _mm256_set1_ps(1e-3f);
    FEWBIT_OPAQUE(a);
    FEWBIT_OPAQUE(b);
    for (int s = 0; s < sums; ++s) sum[s] = _mm256_set1_ps(static_cast<float>(s));
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
        for (int s = 0; s < sums; ++s) sum[s] = _mm256_fmadd_ps(a, b, sum[s]);
    }
    for (int s = 1; s < sums; ++s) sum[0] = _mm256_add_ps(sum[0], sum[s]);
    return low_bits(_mm256_castps_si256(sum[0]));
}

std::uint64_t limit_avx2_dot_int8(std::size_t iterations) noexcept {
    const __m256i ones = opaque(_mm256_set1_epi16(1));
    return sum_of_products(iterations, _mm256_set1_epi8(7), [ones](__m256i a, __m256i b) {
        return _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones);
    });
}

std::uint64_t limit_avx2_dot_words(std::size_t iterations) noexcept {
    return sum_of_products(iterations, _mm256_set1_epi16(255),
                           [](__m256i a, __m256i b) { return _mm256_madd_epi16(a, b); });
}

std::uint64_t limit_avx2_dot_int4(std::size_t iterations) noexcept {
    constexpr int sums = 4;
    __m256i sum[sums], a = _mm256_set1_epi8(15), b = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    FEWBIT_OPAQUE(b);
    FEWBIT_OPAQUE(ones);
    for (int s = 0; s < sums; ++s) sum[s] = _mm256_setzero_si256();
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 4
        for (int s = 0; s < sums; ++s) {
            FEWBIT_OPAQUE(a);
            __m256i narrow = _mm256_maddubs_epi16(a, b);
#pragma GCC unroll 7
            for (int j = 1; j < 8; ++j) {
                FEWBIT_OPAQUE(a);
                narrow = _mm256_add_epi16(narrow, _mm256_maddubs_epi16(a, b));
            }
            sum[s] = _mm256_add_epi32(sum[s], _mm256_madd_epi16(narrow, ones));
        }
    }
    for (int s = 1; s < sums; ++s) sum[0] = _mm256_add_epi32(sum[0], sum[s]);
    return low_bits(sum[0]);
}

std::uint64_t limit_avx2_read(const void* p, std::size_t bytes) noexcept {
    const auto* c = static_cast<const char*>(p);
    __m256i sum[4] = {};
    for (std::size_t at = 0; at < bytes; at += 256) read_lines(c + at, sum);
    return total(sum);
}

std::uint64_t limit_avx2_read_prefetch(const void* p, std::size_t bytes) noexcept {
    const auto* c = static_cast<const char*>(p);
    __m256i sum[4] = {};
    for (std::size_t at = 0; at < bytes; at += 256) {
        for (int i = 0; i < 4; ++i) _mm_prefetch(c + at + 4096 + 64 * i, _MM_HINT_T0);
        read_lines(c + at, sum);
    }
    return total(sum);
}

std::uint64_t limit_avx2_read_streams(const void* p, std::size_t bytes) noexcept {
    const auto* c = static_cast<const char*>(p);
    const std::size_t quarter = bytes / 4;
    __m256i sum[4] = {};
    for (std::size_t at = 0; at < quarter; at += 256)
        for (std::size_t stream = 0; stream < 4; ++stream) read_lines(c + stream * quarter + at, sum);
    return total(sum);
}

}  // namespace fewbit::inline v0::kernels
