// Registers of 256 bits without VNNI. Products of two bytes and their sum are one instruction (vpmaddubsw), but in 16 bits,
// where `narrow_quads` sums of codes of few bits fit, so that only the last is widened. Codes of 8 bits are too large for one:
// with one row or two it is x that comes in two halves, with more both are words (vpmaddwd).
#pragma once

#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/lanes256.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Codes of `Bits` bits at most. FewRows run straight from the stream.
template <int Bits, int FewRows>
struct LanesAvx2 : Lanes256 {
    using Few = LanesAvx2;
    static constexpr int chains = 1, tile_rows = 4, few_rows = FewRows, panel_tiles = 1, halves = 1;
    static constexpr int narrow_quads = Bits <= 4 ? 8 : Bits == 5 ? 4 : 2;
    static_assert(narrow_quads * 2 * ((1 << Bits) - 1) * 127 <= 32767);
    /// Tiles of channels that few rows read at once: one stream alone does not keep the memory busy.
    static constexpr int side_by_side(int rows, int) { return rows == 1 ? 4 : 1; }
    static bool prefers_streams() { return true; }
    static constexpr bool streams_go_on = true;
    static constexpr bool scales_ints = true;
    static constexpr int few_rows_two_levels = Bits == 5 ? 32 : all_rows;  ///< that run from the stream
    static constexpr std::size_t chunk_elements = 2048;                    ///< of K in a panel: 32 KiB

    static Narrow products(Bytes w, Bytes x) { return _mm256_maddubs_epi16(w, x); }
    static Narrow add_narrow(Narrow a, Narrow b) {
        Narrow sum = _mm256_add_epi16(a, b);
        __asm__("" : "+x"(sum));  // or g++ adds in trees, for which there are not registers enough
        return sum;
    }
    static Ints widen(Narrow v, int) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
    /// Times factors of each channel, two words of 16 bits.
    static Ints widen(Narrow v, Ints factors) { return _mm256_madd_epi16(v, factors); }
    static Ints dot_pairs(Ints sum, Ints a, Ints b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
};

/// For codes of 8 bits, as words: of four bytes of each channel or row, the even and the odd ones.
struct Avx2Words : Lanes256 {
    using X = std::int16_t;
    struct Words {
        __m256i even, odd;
    };
    static constexpr int chains = 1, tile_rows = 4, panel_tiles = 1, halves = 1, narrow_quads = 0;
    static constexpr bool holds_totals = false;

    static Words words_of(Bytes v) {
        return {_mm256_and_si256(v, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16(v, 8)};
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

/// Some rows straight from the stream: codes become words once for a tile of rows, and registers suffice for its sums, where
/// halves of x need sums of 16 bits beside those of 32.
template <int FewRows>
struct Avx2WordsOfStream : Avx2Words {
    using Few = Avx2WordsOfStream;
    static constexpr int few_rows = FewRows;
    static constexpr int side_by_side(int, int) { return 1; }
    static bool prefers_streams() { return true; }
    static constexpr bool streams_go_on = false, scales_ints = false;

    static Ints dot(Ints sum, Bytes w, const Words& x) { return Avx2Words::dot(sum, words_of(w), x); }
};

/// One row or two: x = 16 h + l, h and l from -8 to 8, whose products with any code fit eight times; more as `Several` do.
template <int FewRows>
struct LanesAvx2Halves : LanesAvx2<4, 2> {
    using Few = LanesAvx2Halves;
    using Several = Avx2WordsOfStream<FewRows>;
    using X = std::int16_t;
    static constexpr int tile_rows = 2, halves = 2;
    static constexpr bool scales_ints = false;
    static_assert(narrow_quads * 2 * 255 * 8 <= 32767);

    static Bytes quad(const std::int16_t* x, int half) {
        int word;
        std::memcpy(&word, x + 2 * half, sizeof word);
        return _mm256_set1_epi32(word);
    }
    static Ints widen(Narrow v, int half) {
        return _mm256_madd_epi16(v, _mm256_set1_epi16(half == 0 ? 16 : 1));
    }
    /// Codes of x, a multiple of 4, as quad() takes them: four h, four l.
    static void widen_codes(const std::int8_t* from, std::size_t count, std::int16_t* to) {
        const auto widen = [](__m128i v) {
            v = _mm_cvtepi8_epi16(v);
            const __m128i h = _mm_srai_epi16(_mm_add_epi16(v, _mm_set1_epi16(8)), 4);
            const __m128i l = _mm_sub_epi16(v, _mm_slli_epi16(h, 4));
            return _mm_shuffle_epi32(_mm_packs_epi16(h, l), 0xD8);
        };
        std::size_t i = 0;
        for (; i + 8 <= count; i += 8)
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                             widen(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + i))));
        if (i < count) {
            int four;
            std::memcpy(&four, from + i, sizeof four);
            _mm_storel_epi64(reinterpret_cast<__m128i*>(to + i), widen(_mm_cvtsi32_si128(four)));
        }
    }
};

/// Panels of words, for more than FewRows rows (int8_words.hpp).
template <int FewRows>
struct LanesAvx2Words : Avx2Words {
    using Few = LanesAvx2Halves<FewRows>;
    static constexpr int few_rows = FewRows;

    static void store_bytes(std::uint8_t* p, Bytes v) {
        const Words words = words_of(v);
        Lanes256::store_bytes(p, words.even);
        Lanes256::store_bytes(p + register_bytes, words.odd);
    }
};

/// For a kernel of integers: the Lanes for codes of `Bits` bits. Panels pay with more rows where codes are taken from planes.
struct KernelAvx2 : LanesAvx2<4, 8> {};
template <int Bits>
struct LanesOf<KernelAvx2, Bits> {
    using Type = LanesAvx2<(Bits < 4 ? 4 : Bits), Bits == 2 || Bits == 4 ? 32 : 8>;
};
template <>
struct LanesOf<KernelAvx2, 8> {
    using Type = LanesAvx2Words<16>;
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
