// mma16: the order of codes for tensor cores, as pure functions of integers. Packing, kernels and tests read it.
//
//   tile    16 output channels;  chunk: 64 input channels of 4 bits, 32 of 8 bits: 512 bytes, 16 of each lane of a warp
//   half    32 input channels, of which mma.m16n8k16 multiplies 16 per step:
//
//     lane = 4 g + t, register r = 0..3 of A, element e = 0, 1:
//       channel  g + 8 (r & 1)
//       input    8 t + 4 step + 2 (r >> 1) + e          within the half
//
//   so that lane t needs 8 neighbours of x for both steps of a half: one load of 16 bytes.
//
//   4 bits  word 2 half + step of the lane's 16 bytes, nibble r + 4 e: a mask gives the two elements of a register
//   8 bits  word 2 step + (r >> 1), byte 2 (r & 1) + e
//
//   stream  (tile, chunk, lane, 16 bytes)
//   scales  (tile, group, g): those of channels g and g + 8 side by side; zero points and offsets alike
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define FEWBIT_HOST_DEVICE __host__ __device__
#else
#define FEWBIT_HOST_DEVICE
#endif

namespace fewbit::inline v0::mma16 {

inline constexpr unsigned tile_channels = 16;
inline constexpr unsigned half_inputs = 32;
inline constexpr unsigned lanes = 32;
inline constexpr unsigned chunk_bytes = 512;

/// Input channels of a chunk.
FEWBIT_HOST_DEVICE constexpr unsigned chunk_inputs(unsigned bits) {
    return chunk_bytes * 8 / bits / tile_channels;
}
FEWBIT_HOST_DEVICE constexpr unsigned halves_per_chunk(unsigned bits) {
    return chunk_inputs(bits) / half_inputs;
}

/// Where an element of A stands in a chunk.
struct Place {
    unsigned channel;  ///< 0..15
    unsigned input;    ///< 0..chunk_inputs - 1
};

/// Element e of register r of a lane, for `step` (0, 1) of `half`.
FEWBIT_HOST_DEVICE constexpr Place place_of(unsigned lane, unsigned half, unsigned step, unsigned r,
                                            unsigned e) {
    const unsigned g = lane / 4, t = lane % 4;
    return {g + 8 * (r & 1), half * half_inputs + 8 * t + 4 * step + 2 * (r >> 1) + e};
}

/// Bit of the chunk at which the code of an element starts.
FEWBIT_HOST_DEVICE constexpr unsigned bit_of(unsigned bits, unsigned lane, unsigned half, unsigned step,
                                             unsigned r, unsigned e) {
    const unsigned word = bits == 4 ? 2 * half + step : 2 * step + (r >> 1);
    const unsigned within = bits == 4 ? 4 * (r + 4 * e) : 8 * (2 * (r & 1) + e);
    return (lane * 4 + word) * 32 + within;
}

}  // namespace fewbit::inline v0::mma16
