// NEON matrix product kernels for integer codes in Layout::tile16 with int8 activations. kernels/tile16/README.md has the arithmetic and what
// limits it.
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/lanes_neon_i8mm.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode int_grouped_neon_i8mm_int8;

const KernelCode int_grouped_neon_i8mm_int8 = integer_kernel<NeonI8mm>;

}  // namespace fewbit::inline v0::kernels
