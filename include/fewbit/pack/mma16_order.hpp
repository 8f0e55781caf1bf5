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
//   int4    word 2 half + step of the lane's 16 bytes, nibble r + 4 e: a mask gives the two elements of a register
//   table4  the same word, nibble 2 r + e: a byte is the index of both elements
//   int8    word 2 step + (r >> 1), byte 2 (r & 1) + e; fp8 alike
//
//   stream  (tile, chunk, lane, 16 bytes)
//   scales  (tile, group, g): those of channels g and g + 8 side by side; zero points and offsets alike
#pragma once

#include <cstddef>
#include <cstdint>

// FEWBIT_UNROLL stands before loops over registers: an index that is not known when compiling would put them into memory. FEWBIT_ROLL
// stands before loops along K, of which unrolled copies would compete for registers.
#if defined(__CUDACC__)
#define FEWBIT_HOST_DEVICE __host__ __device__
#define FEWBIT_UNROLL _Pragma("unroll")
#define FEWBIT_ROLL _Pragma("unroll 1")
#else
#define FEWBIT_HOST_DEVICE
#define FEWBIT_UNROLL
#define FEWBIT_ROLL
#endif

namespace fewbit::inline v0::mma16 {

inline constexpr unsigned tile_channels = 16;
inline constexpr unsigned half_inputs = 32;
inline constexpr unsigned lanes = 32;
inline constexpr unsigned chunk_bytes = 512;

/// What codes are: integers of 4 or 8 bits, 4 bits that count in a table of 16, numbers of e4m3.
enum class Codes : std::uint8_t { int4, int8, table4, fp8 };

FEWBIT_HOST_DEVICE constexpr unsigned bits_of(Codes codes) {
    return codes == Codes::int8 || codes == Codes::fp8 ? 8 : 4;
}

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
FEWBIT_HOST_DEVICE constexpr unsigned bit_of(Codes codes, unsigned lane, unsigned half, unsigned step,
                                             unsigned r, unsigned e) {
    const bool bytes = bits_of(codes) == 8;
    const unsigned word = bytes ? 2 * step + (r >> 1) : 2 * half + step;
    const unsigned within = bytes                  ? 8 * (2 * (r & 1) + e)
                            : codes == Codes::int4 ? 4 * (r + 4 * e)
                                                   : 4 * (2 * r + e);
    return (lane * 4 + word) * 32 + within;
}

/// Where the code of `channel` (of 16) and `input` (of a chunk) starts: bit_of() of the element that place_of() says is there.
FEWBIT_HOST_DEVICE constexpr unsigned bit_at(Codes codes, unsigned channel, unsigned input) {
    const unsigned half = input / half_inputs, within = input % half_inputs;
    const unsigned lane = channel % 8 * 4 + within / 8;
    const unsigned step = within / 4 % 2, r = channel / 8 + within / 2 % 2 * 2, e = within % 2;
    return bit_of(codes, lane, half, step, r, e);
}

}  // namespace fewbit::inline v0::mma16
