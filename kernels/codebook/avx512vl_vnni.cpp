// 256-bit AVX-512 VNNI kernels for tables of 16 in Layout::tile16 with int8 activations:
// registers of 256 bits, of which there are 32. kernels/tile16/README.md has the arithmetic.
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/lanes_vnni256.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode codebook_avx512vl_vnni_int8;

namespace {

struct Dot {
    static __m256i dot(__m256i sum, __m256i w, __m256i x) { return _mm256_dpbusd_epi32(sum, w, x); }
    static __m256i dot_pairs(__m256i sum, __m256i a, __m256i b) { return _mm256_dpwssd_epi32(sum, a, b); }
};
using Lanes = LanesVnni256<Dot, 8, all_rows>;

}  // namespace

const KernelCode codebook_avx512vl_vnni_int8 = table_kernel<Lanes>;

}  // namespace fewbit::inline v0::kernels
