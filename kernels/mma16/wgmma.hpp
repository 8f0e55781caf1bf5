// Shared memory as wgmma reads B from it: 16 inputs of 128 rows, K-major, not swizzled (PTX ISA, "Asynchronous warpgroup level matrix
// shared memory layout"): core matrices of 8 rows x 16 bytes, each 128 bytes in a row.
#pragma once

#include <cstdint>

#include "fewbit/pack/mma16_order.hpp"

namespace fewbit::inline v0::mma16 {

inline constexpr unsigned wgmma_rows = 128;                       ///< N of the instruction
inline constexpr unsigned wgmma_stride_bytes = 8 * 16;            ///< from 8 rows to the next 8
inline constexpr unsigned wgmma_leading_bytes = wgmma_rows * 16;  ///< from 8 inputs to the next 8

/// What the instruction is told of B; `address`: of shared memory, a multiple of 16. (PTX ISA, "Matrix descriptor format".)
FEWBIT_HOST_DEVICE constexpr std::uint64_t wgmma_descriptor(std::uint32_t address) {
    return std::uint64_t{(address & 0x3FFFF) >> 4} | std::uint64_t{wgmma_leading_bytes >> 4} << 16 |
           std::uint64_t{wgmma_stride_bytes >> 4} << 32;
}

/// Which of 32 inputs is column `column` of step `step`: that of the element of A which a lane holds (place_of).
FEWBIT_HOST_DEVICE constexpr unsigned wgmma_input(unsigned step, unsigned column) {
    return 8 * (column % 8 / 2) + 4 * step + 2 * (column / 8) + column % 2;
}

}  // namespace fewbit::inline v0::mma16
