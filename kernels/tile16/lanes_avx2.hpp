// Registers of 256 bits without VNNI. Products of two bytes and their sum are one instruction (vpmaddubsw), but in 16 bits:
// eight sums of 2 x 15 x 127 fit, so that only every eighth is widened. Codes of 8 bits are two of 4, 16 h + l,
// or, with many rows, words (vpmaddwd).
#pragma once

#include "kernels/tile16/lanes256.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Halves of a code that are multiplied one after the other.
template <int Halves>
struct LanesAvx2 : Lanes256 {
    using Few = LanesAvx2;
    static constexpr int chains = 1, tile_rows = 4, few_rows = 4, panel_tiles = 1, halves = Halves,
                         narrow_quads = 8;
    /// Tiles of channels that few rows read at once: one stream alone does not keep the memory busy.
    static constexpr int side_by_side(int rows, int) { return rows == 1 ? 4 : 1; }
    static bool prefers_streams() { return true; }
    static constexpr std::size_t chunk_elements = 2048;  ///< of K in a panel: 16 KiB for each half
    static_assert(narrow_quads * 2 * 15 * 127 <= 32767);

    static Bytes half(Bytes w, int which) {
        if (Halves == 1) return w;
        return which == 0 ? high_nibbles(w) : low_nibbles(w);
    }
    static Narrow products(Bytes w, Bytes x) { return _mm256_maddubs_epi16(w, x); }
    static Narrow add_narrow(Narrow a, Narrow b) {
        Narrow sum = _mm256_add_epi16(a, b);
        __asm__("" : "+x"(sum));  // or g++ adds in trees, for which there are not registers enough
        return sum;
    }
    static Ints widen(Narrow v, int which) {
        return _mm256_madd_epi16(v, _mm256_set1_epi16(which == Halves - 1 ? 1 : 16));
    }
};

/// For many rows times codes of 8 bits: products of words, which no code is too large for (int8_words.hpp).
struct LanesAvx2Words : Lanes256 {
    using Few = LanesAvx2<2>;
    using X = std::int16_t;
    /// Of four bytes of each channel or row, the even and the odd ones.
    struct Words {
        __m256i even, odd;
    };
    static constexpr int chains = 1, tile_rows = 4, few_rows = 4, panel_tiles = 1, halves = 1,
                         narrow_quads = 0;
    static constexpr bool holds_totals = false;

    static Bytes half(Bytes w, int) { return w; }
    static void store_bytes(std::uint8_t* p, Bytes v) {
        Lanes256::store_bytes(p, _mm256_and_si256(v, _mm256_set1_epi16(0xFF)));
        Lanes256::store_bytes(p + register_bytes, _mm256_srli_epi16(v, 8));
    }
    static Words quad(const std::int16_t* x) {
        int even, odd;
        std::memcpy(&even, x, sizeof even);
        std::memcpy(&odd, x + 2, sizeof odd);
        return {_mm256_set1_epi32(even), _mm256_set1_epi32(odd)};
    }
    static Ints dot(Ints sum, const Words& w, const Words& x) {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w.even, x.even));
        __asm__("" : "+x"(sum));  // as in LanesAvx2
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w.odd, x.odd));
        __asm__("" : "+x"(sum));
        return sum;
    }
    /// Codes of x, a multiple of 4, as quad() takes them.
    static void widen_codes(const std::int8_t* from, std::size_t count, std::int16_t* to) {
        const auto widen = [](__m128i v, std::int16_t* at) {
            const __m128i even = _mm_srai_epi16(_mm_slli_epi16(v, 8), 8), odd = _mm_srai_epi16(v, 8);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm_unpacklo_epi32(even, odd));
            return _mm_unpackhi_epi32(even, odd);
        };
        std::size_t i = 0;
        for (; i + 16 <= count; i += 16)
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i + 8),
                             widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)), to + i));
        for (; i < count; i += 4) {
            int four;
            std::memcpy(&four, from + i, sizeof four);
            std::int16_t words[8];
            widen(_mm_cvtsi32_si128(four), words);
            std::memcpy(to + i, words, 8);
        }
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
