#include "src/quantize/subtract_product.hpp"

#include "fewbit/core/cpu.hpp"

namespace fewbit::inline v0 {

#if defined(FEWBIT_BUILT_AVX2)
namespace kernels {
void subtract_product_avx2(const detail::ProductOperands&) noexcept;
}
#endif

namespace detail {

void subtract_product(const ProductOperands& operands) noexcept {
#if defined(FEWBIT_BUILT_AVX2)
    static const bool has_avx2 = cpu_has_avx2();
    if (has_avx2) return kernels::subtract_product_avx2(operands);
#endif
    ProductLanes<16>::run(operands);
}

}  // namespace detail
}  // namespace fewbit::inline v0
