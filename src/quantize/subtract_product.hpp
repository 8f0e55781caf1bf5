// C -= A B in double precision, the same bits on every machine; product_lanes.hpp has the loops.
#pragma once

#include "fewbit/quantize/product_lanes.hpp"

namespace fewbit::inline v0::detail {

/// On the calling thread, with the widest vectors that this CPU and this build have.
void subtract_product(const ProductOperands& operands) noexcept;

}  // namespace fewbit::inline v0::detail
