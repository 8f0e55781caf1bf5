// AVX2 kernels for integer codes in Layout::tile16, in fields of 4 or 8 bits, with int8 and f32 activations.
// README.md of this folder has the arithmetic and what limits it.
#include "kernels/tile16/avx2.hpp"
#include "kernels/tile16/avx2_f32.hpp"
#include "kernels/tile16/avx2_int8.hpp"

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
    const Group& scaled(const Group& group) const { return group; }

    template <int Rows>
    void dot_steps(const std::uint8_t* codes, std::size_t steps, const std::int8_t* x, std::size_t stride,
                   __m256i (&dot)[Rows][2]) const {
        const __m256i ones = _mm256_set1_epi16(1);
        const __m256i mask = _mm256_set1_epi8(15);
        constexpr std::size_t run = 4;  // steps summed in int16: 2 nibbles x 2 products of vpmaddubsw each
        static_assert(run * 2 * 2 * 15 * 127 <= 32767);
        const auto sum_run = [&](std::size_t count) __attribute__((always_inline)) {
            __m256i sum[Rows][2];
            for (int r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
            for (std::size_t s = 0; s < count; ++s) {
                const __m256i w0 = load_codes(codes + s * vector_bytes),
                              w1 = load_codes(codes + s * vector_bytes + 32);
                const __m256i low0 = _mm256_and_si256(w0, mask), low1 = _mm256_and_si256(w1, mask);
                const __m256i high0 = _mm256_and_si256(_mm256_srli_epi16(w0, 4), mask);
                const __m256i high1 = _mm256_and_si256(_mm256_srli_epi16(w1, 4), mask);
                for (int r = 0; r < Rows; ++r) {
                    const std::int8_t* row = x + static_cast<std::size_t>(r) * stride + 8 * s;
                    const __m256i a = broadcast_codes(row), b = broadcast_codes(row + 4);
                    sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(low0, a));
                    sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(low1, a));
                    sum[r][0] = _mm256_add_epi16(sum[r][0], _mm256_maddubs_epi16(high0, b));
                    sum[r][1] = _mm256_add_epi16(sum[r][1], _mm256_maddubs_epi16(high1, b));
                }
            }
            for (int r = 0; r < Rows; ++r)
                for (int h = 0; h < 2; ++h)
                    dot[r][h] = _mm256_add_epi32(dot[r][h], _mm256_madd_epi16(sum[r][h], ones));
            codes += count * vector_bytes;
            x += count * 8;
        };
        for (; steps >= run; steps -= run) sum_run(run);
        if (steps != 0) sum_run(steps);
    }
};

/// Codes 0..255; products with integers take 128 off, because AVX2 multiplies signed bytes by way of |w|.
struct Bytes {
    static constexpr std::size_t step_elements = 4;

    explicit Bytes(const WeightsView&) {}

    __m256 level(__m256i bytes, std::size_t i, __m256i zero) const {
        const __m256i code =
            _mm256_and_si256(_mm256_srli_epi32(bytes, static_cast<int>(8 * i)), _mm256_set1_epi32(255));
        return _mm256_cvtepi32_ps(_mm256_sub_epi32(code, zero));
    }
    Group scaled(Group group) const {
        for (__m256i& zero : group.zero) zero = _mm256_sub_epi32(zero, _mm256_set1_epi32(128));
        return group;
    }

    template <int Rows>
    void dot_steps(const std::uint8_t* codes, std::size_t steps, const std::int8_t* x, std::size_t stride,
                   __m256i (&dot)[Rows][2]) const {
        const __m256i sign = _mm256_set1_epi8(-128);
        for (std::size_t s = 0; s < steps; ++s)
            add_signed<Rows>(_mm256_xor_si256(load_codes(codes + s * vector_bytes), sign),
                             _mm256_xor_si256(load_codes(codes + s * vector_bytes + 32), sign), x + 4 * s,
                             stride, dot);
    }
};

void run_int8(const KernelCall& call, const Rectangle& part, void*) noexcept {
    call.w.bits <= 4 ? int8_rectangle<Nibbles>(call, part) : int8_rectangle<Bytes>(call, part);
}

void run_f32(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    call.w.bits <= 4 ? f32_products<Nibbles>(call, part, scratch) : f32_products<Bytes>(call, part, scratch);
}

}  // namespace

const KernelCode int_grouped_avx2_int8{run_int8, 0, 4, tile_channels};
const KernelCode int_grouped_avx2_f32{run_f32, f32_scratch_bytes, 6, tile_channels};

}  // namespace fewbit::inline v0::kernels
