// What all registers of x86 share in products of int8 activations (int8.hpp, quantize.hpp): work on four numbers of the
// rows of a tile, in 128 bits.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/tile16/constants.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct LanesX86 {
    /// Into L1, soon to be written. (Stores to lines of L2 wait for them one after another.)
    static void fetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
    /// Into L2, to be read later. (g++ 12 drops loops of the intrinsic as if they did nothing.)
    static void fetch_ahead(const void* p) {
        __asm__ volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(p)));
    }
    /// sums + the sums of four codes each.
    static __m128i add_quads(__m128i sums, const std::int8_t* codes) {
        const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
        const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), v);
        return _mm_add_epi32(sums, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
