// What all registers of x86 share in products of int8 activations (int8.hpp, quantize.hpp): how they take x, and work on
// four numbers of the rows of a tile, in 128 bits.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/tile16/constants.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Whether few rows had better read several tiles at once although their instructions are few enough for the CPU to run far
/// ahead in one: Intel's then do not reach half of what memory gives, AMD's (Zen 4) lose by it.
inline bool cpu_prefers_streams() { return __builtin_cpu_is("intel") != 0; }

struct LanesX86 {
    using Codes = __m128i;                      ///< sixteen of a row of x
    using X = std::int8_t;                      ///< what x is multiplied as
    static constexpr int rows = 1;              ///< of x in a register of sums
    static constexpr int depth = 4;             ///< elements of K that dot() sums
    static constexpr int run = 4;               ///< of a row that stand together in x
    static constexpr int x_quads = 1;           ///< fours of x that quad() loads
    static constexpr bool holds_totals = true;  ///< in registers beside the sums
    static constexpr bool signed_weights = false;
    static constexpr bool streams_go_on =
        false;                            ///< tiles side by side: each is followed by the next of its own run
    static constexpr bool nests = false;  ///< groups of W in groups of x (int8_tile.hpp)
    static constexpr bool scales_ints = false;  ///< by lower scales of two levels (int8_two_levels.hpp)

    /// Into L1, soon to be written. (Stores to lines of L2 wait for them one after another.)
    static void fetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
    /// Into L2, to be read later. (g++ 12 drops loops of the intrinsic as if they did nothing.)
    static void fetch_ahead(const void* p) {
        __asm__ volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(p)));
    }
    /// Sixteen codes of each of `count` rows to where their tile has them; what follows them there may be overwritten.
    static void store_codes(const Codes (&codes)[activation_tile_rows], std::size_t count, std::int8_t* out) {
        const auto store = [&](std::size_t quad, __m128i v) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 4 * count * quad), v);
        };
        if (count == 1) return store(0, codes[0]);
        const __m128i a = _mm_unpacklo_epi32(codes[0], codes[1]), b = _mm_unpacklo_epi32(codes[2], codes[3]);
        const __m128i c = _mm_unpackhi_epi32(codes[0], codes[1]), d = _mm_unpackhi_epi32(codes[2], codes[3]);
        store(0, _mm_unpacklo_epi64(a, b));
        store(1, _mm_unpackhi_epi64(a, b));
        store(2, _mm_unpacklo_epi64(c, d));
        store(3, _mm_unpackhi_epi64(c, d));
    }
    /// Sums of codes [begin, end) of the rows of a tile; three numbers after them may be overwritten.
    static void store_sums(const std::int8_t* codes, std::size_t begin, std::size_t end, std::size_t count,
                           std::int32_t* out) {
        __m128i sums = _mm_setzero_si128();
        for (std::size_t k = begin; k < end; k += 4) {
            const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + k * count));
            const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), v);
            sums = _mm_add_epi32(sums, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
        }
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), sums);
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
