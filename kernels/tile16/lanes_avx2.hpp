// Registers of 256 bits without VNNI. Products of two bytes and their sum are one instruction (vpmaddubsw), but in 16 bits:
//
//   codes of 4 bits     eight sums of 2 x 15 x 127 fit, so that only every eighth is widened
//   codes of 8 bits     128 is taken off, then |w| times sign(x, w): a single sum fits, 2 x 128 x 127
#pragma once

#include "kernels/tile16/lanes256.hpp"

namespace fewbit::inline v0::kernels {
namespace {

struct Avx2Few : Lanes256 {
    static constexpr int chains = 1, few_rows = 4, panel_tiles = 1;
    static constexpr std::size_t chunk_elements = 1024;  ///< of K in a panel: 16 KiB, half of L1
};

struct Avx2Nibbles : Avx2Few {
    using Few = Avx2Nibbles;
    using Operand = __m256i;
    static constexpr int narrow_quads = 8;
    static constexpr bool signed_weights = false;
    static_assert(narrow_quads * 2 * 15 * 127 <= 32767);

    static Operand operand(Bytes w) { return w; }
    static Narrow products(Operand w, Bytes x) { return _mm256_maddubs_epi16(w, x); }
    static Narrow add_narrow(Narrow a, Narrow b) { return _mm256_add_epi16(a, b); }
    static Ints widen(Narrow v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
};

struct Avx2Bytes : Avx2Few {
    using Few = Avx2Bytes;
    struct Operand {
        __m256i w, magnitude;
    };
    static constexpr int narrow_quads = 0;
    static constexpr bool signed_weights = true;
    static_assert(2 * 128 * 127 <= 32767);  // and sign() never negates -128: activations lie in -127..127

    static Operand operand(Bytes w) { return {w, _mm256_abs_epi8(w)}; }
    static Ints dot(Ints sum, const Operand& w, Bytes x) {
        const __m256i pairs = _mm256_maddubs_epi16(w.magnitude, _mm256_sign_epi8(x, w.w));
        return add(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
