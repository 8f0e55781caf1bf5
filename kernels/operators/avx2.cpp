// Operators in 256-bit registers.
#include "kernels/operators/code.hpp"
#include "kernels/operators/eight.hpp"

namespace fewbit::inline v0::kernels {

extern const model::OperatorCode operators_avx2;

const model::OperatorCode operators_avx2 = operators_of<Eight>(Isa::avx2);

}  // namespace fewbit::inline v0::kernels
