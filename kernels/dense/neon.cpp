// NEON kernels for float weights (f32, f16, bf16) in Layout::rows with f32 and bf16 activations: dot products along K in
// lanes of 4 (rows.hpp), whatever the rows. 32 registers hold 4 x 4 sums beside what they are made of: 8 loads for 16
// multiply-adds, which no panel would halve.
#include "kernels/dense/rows.hpp"
#include "kernels/tile16/lanes_neon_f32.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode dense_neon_f32;
extern const KernelCode dense_neon_bf16;

namespace {

struct DenseNeon : NeonF32 {
    static constexpr std::size_t words = 4;
    static constexpr int channels_of_four = 4;  ///< 16 sums

    template <Scalar Type>
    static Floats load(const std::uint8_t* p) {
        return LanesNeon::load(p, Type, 0);
    }
    template <Scalar Type>
    static Floats load_part(const std::uint8_t* p, std::size_t count) {
        std::uint8_t some[16] = {};
        std::memcpy(some, p, count * element_bytes<Type>);
        return load<Type>(some);
    }
    static Floats load_x(const std::uint8_t* p) { return load<Scalar::f32>(p); }
    static Floats load_x_part(const std::uint8_t* p, std::size_t count) {
        return load_part<Scalar::f32>(p, count);
    }
    static float sum(Floats v) { return vaddvq_f32(v); }
};

void run(const KernelCall& call, const Rectangle& part, void*) noexcept {
    switch (call.w.scale) {
        case Scalar::f16: return few_rows<DenseNeon, Scalar::f16>(call, part);
        case Scalar::bf16: return few_rows<DenseNeon, Scalar::bf16>(call, part);
        default: few_rows<DenseNeon, Scalar::f32>(call, part);
    }
}

constexpr KernelCode code{run, 0, 4, 24};

}  // namespace

const KernelCode dense_neon_f32 = code;
const KernelCode dense_neon_bf16 = code.for_bf16();

}  // namespace fewbit::inline v0::kernels
