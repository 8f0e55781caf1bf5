// C -= A B in double precision, with four lanes a register.
#include "fewbit/quantize/product_lanes.hpp"

namespace fewbit::inline v0::kernels {

void subtract_product_avx2(const detail::ProductOperands&) noexcept;  // declared where it is chosen
void subtract_product_avx2(const detail::ProductOperands& operands) noexcept {
    detail::ProductLanes<32>::run(operands);
}

}  // namespace fewbit::inline v0::kernels
