// A warp of the device, seen from one of its lanes: Value<T> is the lane's own T. tests/cuda/host_warp.hpp is its twin.
#pragma once

#include "kernels/mma16/unpack.hpp"

namespace fewbit::inline v0::mma16 {

struct DeviceMath {
    __device__ static std::uint32_t masked_or(std::uint32_t bits, std::uint32_t mask, std::uint32_t magic) {
        std::uint32_t out;  // 0xEA: (a & b) | c
        asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(out) : "r"(bits), "r"(mask), "r"(magic));
        return out;
    }
    __device__ static std::uint32_t subtract_f16(std::uint32_t a, std::uint32_t b) {
        std::uint32_t out;
        asm("sub.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
        return out;
    }
    __device__ static std::uint32_t fma_f16(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
        std::uint32_t out;
        asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
        return out;
    }
    __device__ static std::uint32_t fma_bf16(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
        std::uint32_t out;
        asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
        return out;
    }
    /// sm_80 has no add.bf16x2: a times 1.
    __device__ static std::uint32_t add_bf16(std::uint32_t a, std::uint32_t b) {
        return fma_bf16(a, 0x3F803F80u, b);
    }
    /// Byte i of the result: byte number (nibble i of selector) of `low` (0..3) and `high` (4..7).
    __device__ static std::uint32_t select_bytes(std::uint32_t low, std::uint32_t high,
                                                 std::uint32_t selector) {
        return __byte_perm(low, high, selector);
    }
    __device__ static float subtract_f32(std::uint32_t a, std::uint32_t b) {
        return __uint_as_float(a) - __uint_as_float(b);
    }
    __device__ static std::uint32_t bf16_pair(float low, float high) {
        std::uint32_t out;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
        return out;
    }
    /// The same number, of which the compiler knows nothing: what follows from it is computed where it is needed, and takes no register
    /// from there to here.
    __device__ static std::uint32_t hidden(std::uint32_t number) {
        asm volatile("" : "+r"(number));
        return number;
    }
    __device__ static float fma_f32(float a, float b, float c) { return __fmaf_rn(a, b, c); }

    /// 16 bytes of x from element `from`: read by all blocks, so they may stay in L1.
    __device__ static Words load_x(const void* x, std::uint64_t from) {
        Words out;
        asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(out.w[0]), "=r"(out.w[1]), "=r"(out.w[2]), "=r"(out.w[3])
                     : "l"(static_cast<const std::uint16_t*>(x) + from));
        return out;
    }
    __device__ static std::uint32_t load_u16(const void* from, std::uint64_t index) {
        return __ldg(static_cast<const std::uint16_t*>(from) + index);
    }
};

class DeviceWarp {
public:
    template <class T>
    using Value = T;
    using Math = DeviceMath;

    __device__ explicit DeviceWarp(unsigned lane) : lane_(lane) {}

    /// f(lane, values...) of every lane.
    template <class R, class F, class... Values>
    __device__ R map(F&& f, const Values&... values) const {
        return f(lane_, values...);
    }
    /// f(lane, values...), which may change them.
    template <class F, class... Values>
    __device__ void update(F&& f, Values&... values) const {
        f(lane_, values...);
    }
    /// What a lane has written to shared memory is there for the others afterwards.
    __device__ void sync() const { __syncwarp(); }
    /// A chunk's codes, which nobody reads twice.
    __device__ Words load_codes(const void* codes, std::uint64_t chunk) const {
        const auto* from = static_cast<const std::byte*>(codes) + chunk * chunk_bytes + lane_ * sizeof(Words);
        Words out;
        asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(out.w[0]), "=r"(out.w[1]), "=r"(out.w[2]), "=r"(out.w[3])
                     : "l"(from));
        return out;
    }
    /// sums.c[tile8] += A times B of 8 tokens, 32 inputs: signed bytes, or e4m3 from sm_89 on.
    template <Codes Kind, class B, class Sums>
    __device__ void multiply_bytes(const FragmentA& a, const B& b, unsigned tile8, Sums& sums) const {
        auto* const c = sums.c[tile8];
        if constexpr (Kind == Codes::int8)
            asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
                "%9}, "
                "{%0, %1, %2, %3};"
                : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
        else
            asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                "{%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
    }
    /// The largest of all lanes' numbers, their sum; known to all lanes.
    __device__ std::uint32_t largest(std::uint32_t value) const {
        return __reduce_max_sync(0xFFFFFFFFu, value);
    }
    __device__ std::int32_t sum(std::int32_t value) const { return __reduce_add_sync(0xFFFFFFFFu, value); }
    /// f() of one lane.
    template <class F>
    __device__ void once(F&& f) const {
        if (lane_ == 0) f();
    }
    /// sums.c[tile8] += A times registers of `step` of B for 8 tokens.
    template <Half Type, class B, class Sums>
    __device__ void multiply(const FragmentA& a, const B& b, unsigned tile8, unsigned step,
                             Sums& sums) const {
        float* const c = sums.c[tile8];
        const std::uint32_t b0 = b.r[tile8][2 * step], b1 = b.r[tile8][2 * step + 1];
        if constexpr (Type == Half::f16)
            asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
                "%9}, "
                "{%0, %1, %2, %3};"
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));
        else
            asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                "{%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));
    }

private:
    unsigned lane_;
};

}  // namespace fewbit::inline v0::mma16
