// The searches of ggml's encoders on AVX2: sixteen groups side by side; README.md of this folder says what bounds them.
// Compiled without contraction, so that the FMA that the flags allow is never used: its single rounding would change
// codes.
#include <immintrin.h>

#include "fewbit/formats/ggml/lane_run.hpp"

namespace fewbit::inline v0::kernels {

void encode_avx2(const ggml::detail::LaneJob&) noexcept;

namespace {

/// A lane type (lanes.hpp). In an unnamed namespace, and so is all that the templates make of it.
struct Eight {
    static constexpr std::size_t lanes = 8;
    using Part = Eight;
    struct Mask {
        __m256 v;
        friend Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.v, b.v)}; }
    };
    __m256 v;

    Eight() = default;
    Eight(__m256 value) : v(value) {}
    Eight(float value) : v(_mm256_set1_ps(value)) {}

    [[nodiscard]] static Eight load(const float* p) { return _mm256_loadu_ps(p); }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    void store_halves(std::uint16_t* p) const {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    /// Rows l and l + 4 in the halves of a register, then 4 x 4 in each half.
    template <class Row>
    static void load4(Row row, Eight* out) {
        const auto both = [&](std::size_t l) {
            return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row(l))),
                                        _mm_loadu_ps(row(l + 4)), 1);
        };
        const __m256 a = both(0), b = both(1), c = both(2), d = both(3);
        const __m256 ab_low = _mm256_unpacklo_ps(a, b), ab_high = _mm256_unpackhi_ps(a, b);
        const __m256 cd_low = _mm256_unpacklo_ps(c, d), cd_high = _mm256_unpackhi_ps(c, d);
        out[0] = _mm256_shuffle_ps(ab_low, cd_low, 0x44);
        out[1] = _mm256_shuffle_ps(ab_low, cd_low, 0xEE);
        out[2] = _mm256_shuffle_ps(ab_high, cd_high, 0x44);
        out[3] = _mm256_shuffle_ps(ab_high, cd_high, 0xEE);
    }
    static void store4(const Eight* codes, std::uint8_t* const* rows, std::size_t first) {
        const __m256i byte = _mm256_set1_epi32(255);
        const auto low = [&](std::size_t j) {
            return _mm256_and_si256(_mm256_cvttps_epi32(codes[j].v), byte);
        };
        const __m256i even = _mm256_or_si256(low(0), _mm256_slli_epi32(low(1), 8));
        const __m256i odd = _mm256_or_si256(_mm256_slli_epi32(low(2), 16), _mm256_slli_epi32(low(3), 24));
        std::uint32_t each[8];
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), _mm256_or_si256(even, odd));
        for (std::size_t l = 0; l < 8; ++l) std::memcpy(rows[l] + first, each + l, 4);
    }
    static void store_row(const Eight* codes, std::size_t count, std::uint8_t* out) {
        // Pairs of registers to 16 bits; then to 8, which leaves runs of four codes in the order 0 2 4 6 1 3 5 7.
        const auto words = [&](std::size_t i) {
            const __m256i packed =
                _mm256_packs_epi32(_mm256_cvttps_epi32(codes[i].v), _mm256_cvttps_epi32(codes[i + 1].v));
            return _mm256_and_si256(packed, _mm256_set1_epi16(255));
        };
        const __m256i low = words(0), high = count == 4 ? words(2) : low;
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
        if (count == 4)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
        else
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(bytes));
    }

    friend Eight operator+(Eight a, Eight b) { return _mm256_add_ps(a.v, b.v); }
    friend Eight operator-(Eight a, Eight b) { return _mm256_sub_ps(a.v, b.v); }
    friend Eight operator*(Eight a, Eight b) { return _mm256_mul_ps(a.v, b.v); }
    friend Eight operator/(Eight a, Eight b) { return _mm256_div_ps(a.v, b.v); }
    friend Mask operator<(Eight a, Eight b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
    friend Mask operator<=(Eight a, Eight b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
    friend Mask operator==(Eight a, Eight b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
    friend Mask operator!=(Eight a, Eight b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_NEQ_UQ)}; }
    friend Eight select(Mask mask, Eight a, Eight b) { return _mm256_blendv_ps(b.v, a.v, mask.v); }
    friend bool any(Mask mask, Eight) { return _mm256_movemask_ps(mask.v) != 0; }
    friend Eight min(Eight a, Eight b) { return _mm256_min_ps(a.v, b.v); }
    friend Eight max(Eight a, Eight b) { return _mm256_max_ps(a.v, b.v); }
    friend Eight abs(Eight a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v); }
    friend Eight copysign(Eight a, Eight sign) {
        return _mm256_or_ps(abs(a).v, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign.v));
    }
    friend Eight sqrt(Eight a) { return _mm256_sqrt_ps(a.v); }
    friend Eight nearest(Eight a) {
        using namespace ggml::detail;
        const __m256 shift = _mm256_set1_ps(shift_of_nearest);
        const __m256i mask = _mm256_set1_epi32(static_cast<int>(mantissa_mask)),
                      exponent = _mm256_set1_epi32(static_cast<int>(exponent_of_shift));
        const __m256i low = _mm256_and_si256(_mm256_castps_si256(_mm256_add_ps(a.v, shift)), mask);
        return _mm256_sub_ps(_mm256_castsi256_ps(_mm256_or_si256(low, exponent)), shift);
    }
    friend Eight truncate(Eight a) { return _mm256_round_ps(a.v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
};

}  // namespace

void encode_avx2(const ggml::detail::LaneJob& job) noexcept {
    ggml::detail::run_lanes<ggml::detail::Pair<Eight>>(job);
}

}  // namespace fewbit::inline v0::kernels
