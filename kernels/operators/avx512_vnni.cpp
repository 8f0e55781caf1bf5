// Operators in 512-bit registers.
#include <immintrin.h>

#include "kernels/operators/code.hpp"
#include "kernels/operators/eight.hpp"

namespace fewbit::inline v0::kernels {

extern const model::OperatorCode operators_avx512_vnni;

namespace {

struct Sixteen {
    static constexpr std::size_t lanes = 16;
    using Narrow = Eight;  // few lines fill no more
    static constexpr int sums = 16, most_registers = 4;
    __m512 v;

    Sixteen() = default;
    Sixteen(__m512 value) : v(value) {}

    [[nodiscard]] static __mmask16 first(std::size_t count) {
        return static_cast<__mmask16>((1u << count) - 1);
    }
    [[nodiscard]] static Sixteen set(float x) { return _mm512_set1_ps(x); }
    [[nodiscard]] static Sixteen broadcast(const float* p) { return _mm512_set1_ps(*p); }
    [[nodiscard]] static Sixteen load(const float* p) { return _mm512_loadu_ps(p); }
    [[nodiscard]] static Sixteen load_part(const float* p, std::size_t count) {
        return _mm512_maskz_loadu_ps(first(count), p);
    }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
    void store_part(float* p, std::size_t count) const { _mm512_mask_storeu_ps(p, first(count), v); }

    friend Sixteen operator+(Sixteen a, Sixteen b) { return _mm512_add_ps(a.v, b.v); }
    friend Sixteen operator-(Sixteen a, Sixteen b) { return _mm512_sub_ps(a.v, b.v); }
    friend Sixteen operator*(Sixteen a, Sixteen b) { return _mm512_mul_ps(a.v, b.v); }
    friend Sixteen operator/(Sixteen a, Sixteen b) { return _mm512_div_ps(a.v, b.v); }
    friend Sixteen fma(Sixteen a, Sixteen b, Sixteen c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
    friend Sixteen min(Sixteen a, Sixteen b) { return _mm512_min_ps(a.v, b.v); }
    friend Sixteen max(Sixteen a, Sixteen b) { return _mm512_max_ps(a.v, b.v); }
    friend Sixteen zero_below(Sixteen x, Sixteen limit, Sixteen value) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_NLT_UQ), value.v);
    }
    friend Sixteen power_of_two(Sixteen shifted) {
        return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(shifted.v), 23),
                                                    _mm512_set1_epi32(0x3F800000)));
    }
    friend Sixteen rotate(Sixteen x, Sixteen turns) {
        const __m512 cosines = _mm512_moveldup_ps(turns.v), sines = _mm512_movehdup_ps(turns.v);
        return _mm512_fmaddsub_ps(x.v, cosines, _mm512_mul_ps(_mm512_permute_ps(x.v, 0xB1), sines));
    }

    /// The sum of squares in double, in which the squares are exact.
    class Squares {
    public:
        void add(Sixteen x) {
            const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x.v)),
                          high = _mm512_cvtps_pd(_mm512_maskz_extractf32x8_ps(0xFF, x.v, 1));
            low_ = _mm512_fmadd_pd(low, low, low_);
            high_ = _mm512_fmadd_pd(high, high, high_);
        }
        [[nodiscard]] double total() const {
            double parts[8];  // (g++ 12 takes the intrinsics that cut a register for uninitialized)
            _mm512_storeu_pd(parts, _mm512_add_pd(low_, high_));
            return ((parts[0] + parts[4]) + (parts[1] + parts[5])) +
                   ((parts[2] + parts[6]) + (parts[3] + parts[7]));
        }

    private:
        __m512d low_ = _mm512_setzero_pd(), high_ = _mm512_setzero_pd();
    };
};

}  // namespace

const model::OperatorCode operators_avx512_vnni = operators_of<Sixteen>(Isa::avx512_vnni);

}  // namespace fewbit::inline v0::kernels
