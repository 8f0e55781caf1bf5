// What a machine can do with nothing beyond C++: 16-byte vectors of the compiler, which every 64-bit CPU has.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {
namespace {

typedef float Floats __attribute__((vector_size(16)));
typedef std::uint16_t Shorts __attribute__((vector_size(16)));
typedef std::int32_t Ints __attribute__((vector_size(16)));
typedef std::uint32_t Words __attribute__((vector_size(16)));  // sums: unsigned, so that they wrap

constexpr int sums = 8;

#if defined(__x86_64__)
#define FEWBIT_OPAQUE(value) __asm__ volatile("" : "+x"(value))
#elif defined(__aarch64__)
#define FEWBIT_OPAQUE(value) __asm__ volatile("" : "+w"(value))
#else
#define FEWBIT_OPAQUE(value) __asm__ volatile("" : "+m"(value))
#endif

}  // namespace

std::uint64_t limit_generic_fma_f32(std::size_t iterations) noexcept {
    Floats sum[sums] = {}, a = {1.0f, 2.0f, 3.0f, 4.0f}, b = {1e-3f, 1e-3f, 1e-3f, 1e-3f};
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 8
        for (int s = 0; s < sums; ++s) {
            FEWBIT_OPAQUE(a);
            sum[s] += a * b;
        }
    }
    for (int s = 1; s < sums; ++s) sum[0] += sum[s];
    std::uint64_t bits;
    std::memcpy(&bits, &sum[0], sizeof bits);
    return bits;
}

std::uint64_t limit_generic_dot_int8(std::size_t iterations) noexcept {
    constexpr int pairs = 4;  // of sums, for products in even and in odd places
    Words even[pairs] = {}, odd[pairs] = {};
    Shorts a = {1, 2, 3, 4, 5, 6, 7, 8}, b = {3, 5, 3, 5, 3, 5, 3, 5};
    FEWBIT_OPAQUE(b);
    for (std::size_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 4
        for (int s = 0; s < pairs; ++s) {
            FEWBIT_OPAQUE(a);
            const Shorts product = a * b;  // one of 255 x 127 fits, a sum of two does not
            even[s] +=
                reinterpret_cast<Words>(reinterpret_cast<Ints>(reinterpret_cast<Words>(product) << 16) >> 16);
            odd[s] += reinterpret_cast<Words>(reinterpret_cast<Ints>(product) >> 16);
        }
    }
    even[0] += odd[0];
    for (int s = 1; s < pairs; ++s) even[0] += even[s] + odd[s];
    std::uint64_t bits;
    std::memcpy(&bits, &even[0], sizeof bits);
    return bits;
}

std::uint64_t limit_generic_read(const void* p, std::size_t bytes) noexcept {
    const auto* words = static_cast<const std::uint64_t*>(p);
    std::uint64_t sum[8] = {};
    for (std::size_t i = 0; i < bytes / 8; i += 8)
        for (std::size_t j = 0; j < 8; ++j) sum[j] ^= words[i + j];
    for (std::size_t j = 1; j < 8; ++j) sum[0] ^= sum[j];
    return sum[0];
}

}  // namespace fewbit::inline v0::kernels
