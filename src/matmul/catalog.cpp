// The catalogue as data. The table holds what was linked: a kernel whose instruction set was not built for
// this target has no code, and selection says so.
#include <array>

#include "fewbit/matmul/kernel.hpp"

namespace fewbit::inline v0 {

#if defined(FEWBIT_BUILT_AVX2)
#define FEWBIT_CODE_avx2(symbol) &kernels::symbol
#else
#define FEWBIT_CODE_avx2(symbol) nullptr
#endif
#if defined(FEWBIT_BUILT_AVX_VNNI)
#define FEWBIT_CODE_avx_vnni(symbol) &kernels::symbol
#else
#define FEWBIT_CODE_avx_vnni(symbol) nullptr
#endif
#if defined(FEWBIT_BUILT_AVX512VL_VNNI)
#define FEWBIT_CODE_avx512vl_vnni(symbol) &kernels::symbol
#else
#define FEWBIT_CODE_avx512vl_vnni(symbol) nullptr
#endif
#if defined(FEWBIT_BUILT_AVX512_VNNI)
#define FEWBIT_CODE_avx512_vnni(symbol) &kernels::symbol
#else
#define FEWBIT_CODE_avx512_vnni(symbol) nullptr
#endif
#if defined(FEWBIT_BUILT_AVX512_BF16)
#define FEWBIT_CODE_avx512_bf16(symbol) &kernels::symbol
#else
#define FEWBIT_CODE_avx512_bf16(symbol) nullptr
#endif
#if defined(FEWBIT_BUILT_AMX_INT8)
#define FEWBIT_CODE_amx_int8(symbol) &kernels::symbol
#else
#define FEWBIT_CODE_amx_int8(symbol) nullptr
#endif
#if defined(FEWBIT_BUILT_NEON)
#define FEWBIT_CODE_neon(symbol) &kernels::symbol
#else
#define FEWBIT_CODE_neon(symbol) nullptr
#endif
#if defined(FEWBIT_BUILT_NEON_DOTPROD)
#define FEWBIT_CODE_neon_dotprod(symbol) &kernels::symbol
#else
#define FEWBIT_CODE_neon_dotprod(symbol) nullptr
#endif
#if defined(FEWBIT_BUILT_NEON_I8MM)
#define FEWBIT_CODE_neon_i8mm(symbol) &kernels::symbol
#else
#define FEWBIT_CODE_neon_i8mm(symbol) nullptr
#endif
#define FEWBIT_CODE_generic(symbol) &kernels::symbol

namespace kernels {
#define FEWBIT_KERNEL(family, isa, activations, layout, bits) \
    extern const KernelCode family##_##isa##_##activations;
#include "kernels/catalog.def"
#undef FEWBIT_KERNEL
}  // namespace kernels

namespace {

constexpr unsigned BITS(int bits) { return 1u << bits; }
constexpr unsigned INTEGERS = BITS(2) | BITS(3) | BITS(4) | BITS(5) | BITS(6) | BITS(7) | BITS(8);
constexpr unsigned FLOATS = float_weights;
constexpr unsigned BLOCKS = block_weights;
constexpr unsigned CODEBOOKS = codebook_weights;
constexpr unsigned FLOAT8 = float8_weights;

constexpr std::array catalog{
#define FEWBIT_KERNEL(family, isa, activations, layout, bits) \
    KernelInfo{#family "/" #isa "/" #activations,             \
               #family,                                       \
               Isa::isa,                                      \
               ActivationElement::activations,                \
               Layout::layout,                                \
               bits,                                          \
               FEWBIT_CODE_##isa(family##_##isa##_##activations)},
#include "kernels/catalog.def"
#undef FEWBIT_KERNEL
};

}  // namespace

std::span<const KernelInfo> kernel_catalog() noexcept { return catalog; }

}  // namespace fewbit::inline v0
