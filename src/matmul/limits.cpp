// The limit loops of this build, as data. (Those of an instruction set that this CPU lacks stand at the end
// and are cut off.)
#include "fewbit/matmul/limits.hpp"

#include <array>

#include "fewbit/matmul/isa.hpp"

namespace fewbit::inline v0 {

namespace kernels {
std::uint64_t limit_generic_fma_f32(std::size_t) noexcept;
std::uint64_t limit_generic_dot_int8(std::size_t) noexcept;
std::uint64_t limit_generic_read(const void*, std::size_t) noexcept;
#if defined(FEWBIT_BUILT_AVX2)
std::uint64_t limit_avx2_fma_f32(std::size_t) noexcept;
std::uint64_t limit_avx2_dot_int8(std::size_t) noexcept;
std::uint64_t limit_avx2_dot_words(std::size_t) noexcept;
std::uint64_t limit_avx2_dot_int4(std::size_t) noexcept;
std::uint64_t limit_avx2_read(const void*, std::size_t) noexcept;
std::uint64_t limit_avx2_read_prefetch(const void*, std::size_t) noexcept;
std::uint64_t limit_avx2_read_streams(const void*, std::size_t) noexcept;
#endif
#if defined(FEWBIT_BUILT_AVX512_VNNI)
std::uint64_t limit_avx512_vnni_fma_f32(std::size_t) noexcept;
std::uint64_t limit_avx512_vnni_dot_int8(std::size_t) noexcept;
std::uint64_t limit_avx512_vnni_read(const void*, std::size_t) noexcept;
std::uint64_t limit_avx512_vnni_read_streams(const void*, std::size_t) noexcept;
#endif
#if defined(FEWBIT_BUILT_AVX512_BF16)
std::uint64_t limit_avx512_bf16_dot_bf16(std::size_t) noexcept;
#endif
#if defined(FEWBIT_BUILT_AMX_INT8)
std::uint64_t limit_amx_int8_dot_int8(std::size_t) noexcept;
#endif
#if defined(FEWBIT_BUILT_NEON)
std::uint64_t limit_neon_fma_f32(std::size_t) noexcept;
std::uint64_t limit_neon_dot_int8(std::size_t) noexcept;
std::uint64_t limit_neon_dot_int4(std::size_t) noexcept;
std::uint64_t limit_neon_read(const void*, std::size_t) noexcept;
std::uint64_t limit_neon_read_streams(const void*, std::size_t) noexcept;
#endif
#if defined(FEWBIT_BUILT_NEON_DOTPROD)
std::uint64_t limit_neon_dotprod_dot_int8(std::size_t) noexcept;
#endif
#if defined(FEWBIT_BUILT_NEON_I8MM)
std::uint64_t limit_neon_i8mm_dot_int8(std::size_t) noexcept;
#endif
}  // namespace kernels

namespace {

// operations: accumulators x lanes x 2, as the kernel files say.
constexpr std::array compute {
    ComputeLimit{"fma-f32", Isa::generic, "multiply, add", 8 * 4 * 2, kernels::limit_generic_fma_f32},
        ComputeLimit{"dot-int8", Isa::generic, "16-bit multiply, widen, add", 4 * 8 * 2,
                     kernels::limit_generic_dot_int8},
#if defined(FEWBIT_BUILT_AVX2)
        ComputeLimit{"fma-f32", Isa::avx2, "fmadd", 12 * 8 * 2, kernels::limit_avx2_fma_f32},
        ComputeLimit{"dot-int8", Isa::avx2, "maddubs, madd, add", 8 * 32 * 2, kernels::limit_avx2_dot_int8},
        ComputeLimit{"dot-int8", Isa::avx2, "16-bit madd, add", 8 * 16 * 2, kernels::limit_avx2_dot_words},
        ComputeLimit{"dot-int4", Isa::avx2, "8 maddubs, madd, 8 add", 4 * 8 * 32 * 2,
                     kernels::limit_avx2_dot_int4},
#endif
#if defined(FEWBIT_BUILT_AVX512_VNNI)
        ComputeLimit{"fma-f32", Isa::avx512_vnni, "fmadd", 16 * 16 * 2, kernels::limit_avx512_vnni_fma_f32},
        ComputeLimit{"dot-int8", Isa::avx512_vnni, "dpbusd", 16 * 64 * 2,
                     kernels::limit_avx512_vnni_dot_int8},
#endif
#if defined(FEWBIT_BUILT_AVX512_BF16)
        ComputeLimit{"dot-bf16", Isa::avx512_bf16, "dpbf16", 12 * 32 * 2,
                     kernels::limit_avx512_bf16_dot_bf16},
#endif
#if defined(FEWBIT_BUILT_AMX_INT8)
        ComputeLimit{"dot-int8", Isa::amx_int8, "tdpbssd", 4 * 16 * 16 * 64 * 2,
                     kernels::limit_amx_int8_dot_int8},
#endif
#if defined(FEWBIT_BUILT_NEON)
        ComputeLimit{"fma-f32", Isa::neon, "fmla", 16 * 4 * 2, kernels::limit_neon_fma_f32},
        ComputeLimit{"dot-int8", Isa::neon, "smull, smlal2, sadalp", 16 * 16 * 2,
                     kernels::limit_neon_dot_int8},
        ComputeLimit{"dot-int4", Isa::neon, "smull, 15 smlal, sadalp", 16 * 16 * 8 * 2,
                     kernels::limit_neon_dot_int4},
#endif
#if defined(FEWBIT_BUILT_NEON_DOTPROD)
        ComputeLimit{"dot-int8", Isa::neon_dotprod, "sdot", 16 * 16 * 2,
                     kernels::limit_neon_dotprod_dot_int8},
#endif
#if defined(FEWBIT_BUILT_NEON_I8MM)
        ComputeLimit{"dot-int8", Isa::neon_i8mm, "smmla", 16 * 32 * 2, kernels::limit_neon_i8mm_dot_int8},
#endif
};

constexpr std::array read {
    ReadLimit{"plain", Isa::generic, kernels::limit_generic_read},
#if defined(FEWBIT_BUILT_AVX2)
        ReadLimit{"plain", Isa::avx2, kernels::limit_avx2_read},
        ReadLimit{"prefetch", Isa::avx2, kernels::limit_avx2_read_prefetch},
        ReadLimit{"streams", Isa::avx2, kernels::limit_avx2_read_streams},
#endif
#if defined(FEWBIT_BUILT_AVX512_VNNI)
        ReadLimit{"plain", Isa::avx512_vnni, kernels::limit_avx512_vnni_read},
        ReadLimit{"streams", Isa::avx512_vnni, kernels::limit_avx512_vnni_read_streams},
#endif
#if defined(FEWBIT_BUILT_NEON)
        ReadLimit{"plain", Isa::neon, kernels::limit_neon_read},
        ReadLimit{"streams", Isa::neon, kernels::limit_neon_read_streams},
#endif
};

template <class T>
std::span<const T> supported(std::span<const T> all) noexcept {
    std::size_t count = 0;
    while (count < all.size() && cpu_supports(all[count].isa)) ++count;
    return all.first(count);
}

}  // namespace

std::span<const ComputeLimit> compute_limits() noexcept {
    return supported(std::span<const ComputeLimit>(compute));
}
std::span<const ReadLimit> read_limits() noexcept { return supported(std::span<const ReadLimit>(read)); }

}  // namespace fewbit::inline v0
