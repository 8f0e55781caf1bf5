// What a machine can do with NEON and the products of 8-bit matrices; README.md of this folder says what bounds the loop.
#include "kernels/limits/neon_products.hpp"

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {

std::uint64_t limit_neon_i8mm_dot_int8(std::size_t iterations) noexcept {
    return sum_products(iterations,
                        [](int32x4_t sum, int8x16_t a, int8x16_t b) { return vmmlaq_s32(sum, a, b); });
}

}  // namespace fewbit::inline v0::kernels
