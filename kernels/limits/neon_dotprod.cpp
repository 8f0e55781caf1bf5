// What a machine can do with NEON and the dot products of 8-bit integers; README.md of this folder says what bounds the loop.
#include "kernels/limits/neon_products.hpp"

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {

std::uint64_t limit_neon_dotprod_dot_int8(std::size_t iterations) noexcept {
    return sum_products(iterations,
                        [](int32x4_t sum, int8x16_t a, int8x16_t b) { return vdotq_s32(sum, a, b); });
}

}  // namespace fewbit::inline v0::kernels
