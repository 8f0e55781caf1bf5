// Registers of 256 bits without VNNI. Products of two bytes and their sum are one instruction (vpmaddubsw), but in 16 bits:
// eight sums of 2 x 15 x 127 fit, so that only every eighth is widened. Codes of 8 bits are two of 4, 16 h + l.
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

}  // namespace
}  // namespace fewbit::inline v0::kernels
