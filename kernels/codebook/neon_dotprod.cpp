// NEON dot product kernels for tables of 16 in Layout::tile16 with int8 activations. kernels/tile16/README.md has the arithmetic and what
// limits it.
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/lanes_neon_dotprod.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode codebook_neon_dotprod_int8;

const KernelCode codebook_neon_dotprod_int8 = table_kernel<NeonDotprod<4>>;

}  // namespace fewbit::inline v0::kernels
