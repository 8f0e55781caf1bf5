// AVX-512 VNNI kernels for tables of 16 in Layout::tile16 with int8 activations. kernels/tile16/README.md has the arithmetic
// and what limits it.
#include "kernels/tile16/lanes_avx512.hpp"
#include "kernels/tile16/vnni_fields.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode codebook_avx512_vnni_int8;

namespace {

void run_int8(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    int8_products<Avx512, TableField<Avx512>>(call, part, scratch);
}

}  // namespace

const KernelCode codebook_avx512_vnni_int8{run_int8, 0, Avx512::rows, tile_channels,
                                           int8_scratch_bytes<Avx512>};

}  // namespace fewbit::inline v0::kernels
