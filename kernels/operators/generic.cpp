// Operators in 128-bit registers, as far as the compiler knows any: on 64-bit Arm NEON, which every such CPU has.
#include <cstdint>
#include <cstring>

#include "kernels/operators/code.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace fewbit::inline v0::kernels {

extern const model::OperatorCode operators_generic;

namespace {

struct Four {
    static constexpr std::size_t lanes = 4;
    using Narrow = Four;
    static constexpr int sums = 8, most_registers = 2;
#if defined(__aarch64__)
    using Floats = float32x4_t;
    using Ints = int32x4_t;
#else
    typedef float Floats __attribute__((vector_size(16)));
    typedef std::int32_t Ints __attribute__((vector_size(16)));
#endif
    Floats v;

    Four() = default;
    Four(Floats value) : v(value) {}

    [[nodiscard]] static Four set(float x) { return Floats{x, x, x, x}; }
    [[nodiscard]] static Four broadcast(const float* p) { return set(*p); }
    [[nodiscard]] static Four load(const float* p) { return load_part(p, lanes); }
    [[nodiscard]] static Four load_part(const float* p, std::size_t count) {
        Floats v = {0, 0, 0, 0};
        std::memcpy(&v, p, count * sizeof(float));
        return v;
    }
    /// Columns of four rows.
    static void load4(const float* p, std::size_t stride, Four* out) {
        const Floats a = load(p).v, b = load(p + stride).v, c = load(p + 2 * stride).v,
                     d = load(p + 3 * stride).v;
        const Floats ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                     ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7),
                     cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5),
                     cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        out[0] = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
        out[1] = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
        out[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
        out[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    }
    void store(float* p) const { store_part(p, lanes); }
    void store_part(float* p, std::size_t count) const { std::memcpy(p, &v, count * sizeof(float)); }

    friend Four operator+(Four a, Four b) { return a.v + b.v; }
    friend Four operator-(Four a, Four b) { return a.v - b.v; }
    friend Four operator*(Four a, Four b) { return a.v * b.v; }
    friend Four operator/(Four a, Four b) { return a.v / b.v; }
    friend Four fma(Four a, Four b, Four c) {
#if defined(__aarch64__)
        return vfmaq_f32(c.v, a.v, b.v);
#else
        return a.v * b.v + c.v;
#endif
    }
    friend Four min(Four a, Four b) { return select(a.v < b.v, a, b); }
    friend Four max(Four a, Four b) { return select(a.v > b.v, a, b); }
    friend Four zero_below(Four x, Four limit, Four value) { return select(x.v < limit.v, set(0.0f), value); }
    friend Four power_of_two(Four shifted) {
        constexpr std::int32_t one = 0x3F800000;
        return Floats((Ints(shifted.v) << 23) + Ints{one, one, one, one});
    }
    friend Four rotate(Four x, Four turns) {
        const Floats cosines = __builtin_shufflevector(turns.v, turns.v, 0, 0, 2, 2),
                     sines = __builtin_shufflevector(turns.v, turns.v, 1, 1, 3, 3),
                     swapped = __builtin_shufflevector(x.v, x.v, 1, 0, 3, 2);
        return x.v * cosines + swapped * sines * Floats{-1, 1, -1, 1};
    }

    /// The sum of squares in double, in which the squares are exact.
    class Squares {
    public:
        void add(Four x) {
            for (int i = 0; i < 4; ++i) sums_[i] += static_cast<double>(x.v[i]) * static_cast<double>(x.v[i]);
        }
        [[nodiscard]] double total() const { return (sums_[0] + sums_[2]) + (sums_[1] + sums_[3]); }

    private:
        double sums_[4] = {};
    };

private:
    template <class Mask>
    [[nodiscard]] static Four select(Mask mask, Four a, Four b) {
        const Ints chosen = Ints(mask);
        return Floats((Ints(a.v) & chosen) | (Ints(b.v) & ~chosen));
    }
};

}  // namespace

const model::OperatorCode operators_generic = operators_of<Four>(Isa::generic);

}  // namespace fewbit::inline v0::kernels
