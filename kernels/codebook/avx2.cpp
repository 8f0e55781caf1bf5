// AVX2 kernels for codebooks in Layout::tile16: tables of 16 with int8 and f32 activations, fp8 with f32 ones.
// README.md of this folder has the arithmetic and what limits it.
#include "kernels/tile16/avx2.hpp"
#include "kernels/tile16/avx2_f32.hpp"
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/lanes_avx2.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode codebook_avx2_int8;
extern const KernelCode codebook_avx2_f32;

namespace {

/// Codes of 4 bits into a table of 16: two permutations of 8 floats.
class Table {
public:
    static constexpr std::size_t step_elements = 8;

    explicit Table(const WeightsView& w)
        : low_(_mm256_loadu_ps(w.table)), high_(_mm256_loadu_ps(w.table + 8)) {}

    __m256 level(__m256i bytes, std::size_t i, __m256i) const {
        const int shift = static_cast<int>(8 * (i % 4) + 4 * (i / 4));
        const __m256i place = _mm256_srli_epi32(bytes, shift);  // permutations look at three bits
        const __m256 top =
            _mm256_castsi256_ps(_mm256_slli_epi32(bytes, 28 - shift));  // the fourth is the sign
        return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low_, place), _mm256_permutevar8x32_ps(high_, place),
                                top);
    }

private:
    __m256 low_, high_;
};

/// fp8 with `Mantissa` bits below the point and the exponent's `Bias`. Magnitudes from `Special` on, in units of the
/// code, are infinity and NaN.
template <int Mantissa, int Bias, int Special, bool HasInfinity>
struct Float8 {
    static constexpr std::size_t step_elements = 4;

    explicit Float8(const WeightsView&) {}

    __m256 level(__m256i bytes, std::size_t i, __m256i) const {
        const __m256i code = _mm256_slli_epi32(bytes, static_cast<int>(24 - 8 * i));
        const __m256i sign = _mm256_and_si256(code, _mm256_set1_epi32(static_cast<int>(0x80000000u)));
        const __m256i magnitude =
            _mm256_srli_epi32(_mm256_and_si256(code, _mm256_set1_epi32(0x7F000000)), 1 + Mantissa);
        const __m256i normal = _mm256_add_epi32(magnitude, _mm256_set1_epi32((127 - Bias) << 23));
        // Subnormals: 2^(1 - Bias) (1 + m) - 2^(1 - Bias), so that no f32 subnormal arises.
        const __m256i first = _mm256_set1_epi32((128 - Bias) << 23);
        const __m256 subnormal = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_add_epi32(magnitude, first)),
                                               _mm256_castsi256_ps(first));
        const __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(1 << 23), magnitude);
        const __m256i special =
            _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32((Special << (23 - Mantissa)) - 1));
        const __m256 value =
            _mm256_blendv_ps(_mm256_castsi256_ps(normal), subnormal, _mm256_castsi256_ps(small));
        const __m256i ends =
            _mm256_and_si256(special, _mm256_set1_epi32(HasInfinity ? 0x7F800000 : 0x7FC00000));
        return _mm256_or_ps(value, _mm256_castsi256_ps(_mm256_or_si256(sign, ends)));
    }
};

using E4m3 = Float8<3, 7, 0x7F, false>;
using E5m2 = Float8<2, 15, 0x7C, true>;

void run_f32(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    switch (call.w.kind) {
        case Codes::fp8_e4m3: return f32_products<E4m3>(call, part, scratch);
        case Codes::fp8_e5m2: return f32_products<E5m2>(call, part, scratch);
        default: return f32_products<Table>(call, part, scratch);
    }
}

}  // namespace

const KernelCode codebook_avx2_int8 = table_kernel<LanesAvx2<2>>;
const KernelCode codebook_avx2_f32{run_f32, f32_scratch_bytes, 6, tile_channels};

}  // namespace fewbit::inline v0::kernels
