// What a machine can do with AMX and 8-bit integers; README.md of this folder says what bounds each loop.
#include <cstdint>

#include "kernels/tile16/amx.hpp"

namespace fewbit::inline v0::kernels {

std::uint64_t limit_amx_int8_dot_int8(std::size_t iterations) noexcept {
    configure_tiles(amx_rows, amx_row_bytes);
    for (std::size_t i = 0; i < iterations; ++i) {
        multiply_tiles<true, 0, 2, 4>();
        multiply_tiles<true, 1, 2, 5>();
        multiply_tiles<true, 3, 2, 6>();
        multiply_tiles<true, 7, 2, 6>();
    }
    alignas(64) std::int32_t sums[amx_rows * amx_row_bytes / sizeof(std::int32_t)];
    store_tile<0>(sums, amx_row_bytes);
    release_tiles();
    return static_cast<std::uint64_t>(sums[0]);
}

}  // namespace fewbit::inline v0::kernels
