// Eight floats in a 256-bit register, with AVX2 and FMA. In an unnamed namespace, and so is all that the templates make of
// it: the file that includes this decides which encoding its instructions have.
#pragma once

#include <immintrin.h>

#include <cstddef>

namespace fewbit::inline v0::kernels {
namespace {

struct Eight {
    static constexpr std::size_t lanes = 8;
    using Narrow = Eight;
    static constexpr int sums = 12, most_registers = 2;
    __m256 v;

    Eight() = default;
    Eight(__m256 value) : v(value) {}

    [[nodiscard]] static __m256i first(std::size_t count) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                                  _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    [[nodiscard]] static Eight set(float x) { return _mm256_set1_ps(x); }
    [[nodiscard]] static Eight broadcast(const float* p) { return _mm256_broadcast_ss(p); }
    [[nodiscard]] static Eight load(const float* p) { return _mm256_loadu_ps(p); }
    [[nodiscard]] static Eight load_part(const float* p, std::size_t count) {
        return _mm256_maskload_ps(p, first(count));
    }
    /// Columns of eight rows: rows l and l + 4 in the halves of a register, then 4 x 4 in each half.
    static void load4(const float* p, std::size_t stride, Eight* out) {
        const auto both = [&](std::size_t l) {
            return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + l * stride)),
                                        _mm_loadu_ps(p + (l + 4) * stride), 1);
        };
        const __m256 a = both(0), b = both(1), c = both(2), d = both(3);
        const __m256 ab_low = _mm256_unpacklo_ps(a, b), ab_high = _mm256_unpackhi_ps(a, b);
        const __m256 cd_low = _mm256_unpacklo_ps(c, d), cd_high = _mm256_unpackhi_ps(c, d);
        out[0] = _mm256_shuffle_ps(ab_low, cd_low, 0x44);
        out[1] = _mm256_shuffle_ps(ab_low, cd_low, 0xEE);
        out[2] = _mm256_shuffle_ps(ab_high, cd_high, 0x44);
        out[3] = _mm256_shuffle_ps(ab_high, cd_high, 0xEE);
    }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    void store_part(float* p, std::size_t count) const { _mm256_maskstore_ps(p, first(count), v); }

    friend Eight operator+(Eight a, Eight b) { return _mm256_add_ps(a.v, b.v); }
    friend Eight operator-(Eight a, Eight b) { return _mm256_sub_ps(a.v, b.v); }
    friend Eight operator*(Eight a, Eight b) { return _mm256_mul_ps(a.v, b.v); }
    friend Eight operator/(Eight a, Eight b) { return _mm256_div_ps(a.v, b.v); }
    friend Eight fma(Eight a, Eight b, Eight c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
    friend Eight min(Eight a, Eight b) { return _mm256_min_ps(a.v, b.v); }
    friend Eight max(Eight a, Eight b) { return _mm256_max_ps(a.v, b.v); }
    friend Eight zero_below(Eight x, Eight limit, Eight value) {
        return _mm256_andnot_ps(_mm256_cmp_ps(x.v, limit.v, _CMP_LT_OQ), value.v);
    }
    friend Eight power_of_two(Eight shifted) {
        return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(shifted.v), 23),
                                                    _mm256_set1_epi32(0x3F800000)));
    }
    friend Eight rotate(Eight x, Eight turns) {
        const __m256 cosines = _mm256_moveldup_ps(turns.v), sines = _mm256_movehdup_ps(turns.v);
        return _mm256_fmaddsub_ps(x.v, cosines, _mm256_mul_ps(_mm256_permute_ps(x.v, 0xB1), sines));
    }

    /// The sum of squares in double, in which the squares are exact.
    class Squares {
    public:
        void add(Eight x) {
            const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x.v)),
                          high = _mm256_cvtps_pd(_mm256_extractf128_ps(x.v, 1));
            low_ = _mm256_fmadd_pd(low, low, low_);
            high_ = _mm256_fmadd_pd(high, high, high_);
        }
        [[nodiscard]] double total() const {
            double parts[4];
            _mm256_storeu_pd(parts, _mm256_add_pd(low_, high_));
            return (parts[0] + parts[2]) + (parts[1] + parts[3]);
        }

    private:
        __m256d low_ = _mm256_setzero_pd(), high_ = _mm256_setzero_pd();
    };
};

}  // namespace
}  // namespace fewbit::inline v0::kernels
