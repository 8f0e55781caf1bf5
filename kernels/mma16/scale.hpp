// A scale for numbers that become 8 bits, found by a warp: the largest magnitude over what the grid's largest code stands for.
#pragma once

#include <cstdint>

#include "fewbit/pack/mma16_order.hpp"

namespace fewbit::inline v0::mma16 {

/// The scale with which the largest of |f(0)| ... |f(count - 1)| becomes `top`; NaN where one is not finite.
template <class Warp>
FEWBIT_HOST_DEVICE float scale_of_largest(const Warp& warp, std::uint32_t count, float top, auto&& f) {
    using Math = typename Warp::Math;
    // Magnitudes are ordered like the integers that they are stored as, NaN above infinity.
    const std::uint32_t largest = warp.largest(warp.template map<std::uint32_t>([&](unsigned lane) {
        std::uint32_t most = 0;
        FEWBIT_ROLL
        for (std::uint32_t i = lane; i < count; i += lanes) {
            const std::uint32_t magnitude = Math::bits(f(i)) & 0x7FFFFFFFu;
            most = magnitude > most ? magnitude : most;
        }
        return most;
    }));
    return largest >= 0x7F800000u ? Math::from_bits(0x7FC00000u)
                                  : Math::divide(Math::from_bits(largest), top);
}

/// x / scale to the nearest of -127 ... 127, ties to even; 0 where the scale is not positive.
template <class Math>
FEWBIT_HOST_DEVICE std::int32_t code_of_int8(float x, float scale) {
    if (!(scale > 0)) return 0;
    const std::int32_t code = Math::nearest(Math::divide(x, scale));
    return code > 127 ? 127 : code < -127 ? -127 : code;
}

}  // namespace fewbit::inline v0::mma16
