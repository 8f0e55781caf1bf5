// Registers of 128 bits with sdot: four products are summed for each of four channels, with four activations that lie in
// one quarter of a register. So one load serves four rows of x.
#pragma once

#include "kernels/tile16/lanes_neon.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// `Run` elements of a row stand together in x.
template <int Run>
struct NeonDotprod : LanesNeon {
    using Few = NeonDotprod;
    static constexpr int run = Run, x_quads = 4;
    static constexpr std::size_t chunk_elements = 2048;  ///< of K in a panel: 32 KiB, half of L1

    struct Quad {
        int8x16_t four;
        int place;
    };
    /// Fours of x at p, of which dot() takes the one at `place`.
    static Quad quad(const std::int8_t* p, int place) { return {vld1q_s8(p), place}; }
    static Ints dot(Ints sum, Bytes w, Quad x) {
        switch (x.place) {  // known once loops are unrolled
            case 0: return vdotq_laneq_s32(sum, w, x.four, 0);
            case 1: return vdotq_laneq_s32(sum, w, x.four, 1);
            case 2: return vdotq_laneq_s32(sum, w, x.four, 2);
            default: return vdotq_laneq_s32(sum, w, x.four, 3);
        }
    }
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
