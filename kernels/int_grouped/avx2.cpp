// AVX2 kernels for integer codes in Layout::tile16, in fields of 4 or 8 bits, with int8 and f32 activations.
// README.md of this folder has the arithmetic and what limits it.
#include "kernels/tile16/avx2.hpp"
#include "kernels/tile16/avx2_f32.hpp"
#include "kernels/tile16/fields.hpp"
#include "kernels/tile16/lanes_avx2.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode int_grouped_avx2_int8;
extern const KernelCode int_grouped_avx2_f32;

namespace {

/// Codes 0..15.
struct Nibbles {
    static constexpr std::size_t step_elements = 8;

    explicit Nibbles(const WeightsView&) {}

    __m256 level(__m256i bytes, std::size_t i, __m256i zero) const {
        const __m256i code = _mm256_and_si256(
            _mm256_srli_epi32(bytes, static_cast<int>(8 * (i % 4) + 4 * (i / 4))), _mm256_set1_epi32(15));
        return _mm256_cvtepi32_ps(_mm256_sub_epi32(code, zero));
    }
};

/// Codes 0..255.
struct Bytes {
    static constexpr std::size_t step_elements = 4;

    explicit Bytes(const WeightsView&) {}

    __m256 level(__m256i bytes, std::size_t i, __m256i zero) const {
        const __m256i code =
            _mm256_and_si256(_mm256_srli_epi32(bytes, static_cast<int>(8 * i)), _mm256_set1_epi32(255));
        return _mm256_cvtepi32_ps(_mm256_sub_epi32(code, zero));
    }
};

void run_f32(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    call.w.bits <= 4 ? f32_products<Nibbles>(call, part, scratch) : f32_products<Bytes>(call, part, scratch);
}

}  // namespace

const KernelCode int_grouped_avx2_int8 = integer_kernel<LanesAvx2<1>, LanesAvx2<2>>;
const KernelCode int_grouped_avx2_f32{run_f32, f32_scratch_bytes, 6, tile_channels};

}  // namespace fewbit::inline v0::kernels
