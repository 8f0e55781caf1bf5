// Four warps of the device that multiply together, seen from one lane; only for sm_90a. tests/cuda/host_warp.hpp has the host's twin.
#pragma once

#include "kernels/int_grouped/cuda/device_block.cuh"
#include "kernels/mma16/wgmma.hpp"

// An instruction names each of its 64 sums, which have to be operands one by one: the list stands here once.
#define FEWBIT_SUMS_OF_8(constraint, c, t)                                              \
    constraint(c[t][0]), constraint(c[t][1]), constraint(c[t][2]), constraint(c[t][3]), \
        constraint(c[t + 1][0]), constraint(c[t + 1][1]), constraint(c[t + 1][2]), constraint(c[t + 1][3])
#define FEWBIT_SUMS(constraint, c)                                               \
    FEWBIT_SUMS_OF_8(constraint, c, 0), FEWBIT_SUMS_OF_8(constraint, c, 2),      \
        FEWBIT_SUMS_OF_8(constraint, c, 4), FEWBIT_SUMS_OF_8(constraint, c, 6),  \
        FEWBIT_SUMS_OF_8(constraint, c, 8), FEWBIT_SUMS_OF_8(constraint, c, 10), \
        FEWBIT_SUMS_OF_8(constraint, c, 12), FEWBIT_SUMS_OF_8(constraint, c, 14)
// c = A B, or += where `onto`. `scales`: what else the instruction wants to know of floats.
#define FEWBIT_WGMMA(instruction, scales, constraint)                                                    \
    asm volatile("{.reg .pred onto; setp.ne.b32 onto, %69, 0; wgmma.mma_async.sync.aligned." instruction \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "              \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "      \
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "      \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "     \
                 "{%64, %65, %66, %67}, %68, onto" scales ";}"                                           \
                 : FEWBIT_SUMS(constraint, c)                                                            \
                 : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "l"(descriptor),                  \
                   "r"(static_cast<int>(onto)))

namespace fewbit::inline v0::kernels::int_grouped_cuda {

/// What the registers of A and the bytes of B are.
enum class Operand { f16, bf16, int8, e4m3 };

struct WgmmaDeviceWarp : DecodeWarp {
    using DecodeWarp::DecodeWarp;

    /// part = A times B: 16 inputs a step, 128 rows of x that lie at `x` in shared memory.
    template <Half Type, unsigned Steps>
    __device__ void multiply_staged(const mma16::FragmentA (&a)[Steps], const std::uint32_t* x,
                                    Sums<16>& part) const {
        run<Type == Half::f16 ? Operand::f16 : Operand::bf16>(a, x, false, part.c);
    }
    /// The same of bytes, 32 inputs a step; onto what is there, if `onto`.
    template <Codes Kind, unsigned Steps, class T>
    __device__ void multiply_staged_bytes(const mma16::FragmentA (&a)[Steps], const std::uint32_t* x,
                                          bool onto, Sums<16, T>& sums) const {
        run<Kind == Codes::int8 ? Operand::int8 : Operand::e4m3>(a, x, onto, sums.c);
    }

private:
    template <Operand Type, unsigned Steps, class T>
    __device__ static void run(const mma16::FragmentA (&a)[Steps], const std::uint32_t* x, bool onto,
                               T (&c)[16][4]) {
        const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(x));
        together(c);
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        FEWBIT_UNROLL
        for (unsigned step = 0; step < Steps; ++step)
            start<Type>(a[step], mma16::wgmma_descriptor(address + step * 2 * mma16::wgmma_leading_bytes),
                        onto || step > 0, c);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        together(c);
    }
    /// The compiler may move no use of the sums across this: the tensor cores write them meanwhile.
    __device__ static void together(float (&c)[16][4]) { asm volatile("" : FEWBIT_SUMS("+f", c)::"memory"); }
    __device__ static void together(std::int32_t (&c)[16][4]) {
        asm volatile("" : FEWBIT_SUMS("+r", c)::"memory");
    }
    template <Operand Type, class T>
    __device__ static void start(const mma16::FragmentA& a, std::uint64_t descriptor, bool onto,
                                 T (&c)[16][4]) {
        if constexpr (Type == Operand::f16) FEWBIT_WGMMA("m64n128k16.f32.f16.f16", ", 1, 1, 0", "+f");
        if constexpr (Type == Operand::bf16) FEWBIT_WGMMA("m64n128k16.f32.bf16.bf16", ", 1, 1, 0", "+f");
        if constexpr (Type == Operand::int8) FEWBIT_WGMMA("m64n128k32.s32.s8.s8", "", "+r");
        if constexpr (Type == Operand::e4m3) FEWBIT_WGMMA("m64n128k32.f32.e4m3.e4m3", ", 1, 1", "+f");
    }
};

class WgmmaDeviceBlock : public BasicDeviceBlock<WgmmaDeviceWarp> {
public:
    using BasicDeviceBlock::BasicDeviceBlock;
    /// What this thread has written to shared memory is there for wgmma, behind the next barrier.
    __device__ void show_to_tensor_cores() const {
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
};

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda

#undef FEWBIT_WGMMA
#undef FEWBIT_SUMS
#undef FEWBIT_SUMS_OF_8
