// Numbers as kernels of weights read and write them on the device; tests/cuda/host_warp.hpp has the host's twin.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/int_grouped/cuda/weights.hpp"
#include "kernels/mma16/device_warp.cuh"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

struct DecodeMath : mma16::DeviceMath {
    /// 2^(byte - 127); 255 is NaN.
    __device__ static float power_of_two(std::uint32_t byte) {
        return __uint_as_float(byte == 0 ? 0x00400000u : byte == 255 ? 0x7FC00000u : byte << 23);
    }
    /// Elements 2 * pair[i] and 2 * pair[i] + 1 as they are stored: what numbers() makes of them may wait.
    template <unsigned Count>
    __device__ static void load_raw(const void* from, Number type, const std::uint64_t (&pair)[Count],
                                    std::uint32_t (&out)[Count][2]) {
        if (type == Number::f32) {
            FEWBIT_UNROLL
            for (unsigned i = 0; i < Count; ++i) {
                const uint2 v = __ldg(static_cast<const uint2*>(from) + pair[i]);
                out[i][0] = v.x, out[i][1] = v.y;
            }
        } else if (type == Number::e8m0) {
            FEWBIT_UNROLL
            for (unsigned i = 0; i < Count; ++i) out[i][0] = load_u16(from, pair[i]);
        } else {
            FEWBIT_UNROLL
            for (unsigned i = 0; i < Count; ++i)
                out[i][0] = __ldg(static_cast<const std::uint32_t*>(from) + pair[i]);
        }
    }
    template <unsigned Count>
    __device__ static void numbers(Number type, const std::uint32_t (&raw)[Count][2],
                                   float (&out)[Count][2]) {
        if (type == Number::f32) {
            FEWBIT_UNROLL
            for (unsigned i = 0; i < Count; ++i)
                out[i][0] = __uint_as_float(raw[i][0]), out[i][1] = __uint_as_float(raw[i][1]);
        } else if (type == Number::e8m0) {
            FEWBIT_UNROLL
            for (unsigned i = 0; i < Count; ++i)
                out[i][0] = power_of_two(raw[i][0] & 0xFF), out[i][1] = power_of_two(raw[i][0] >> 8);
        } else {
            FEWBIT_UNROLL
            for (unsigned i = 0; i < Count; ++i) {
                const std::uint32_t both = raw[i][0];
                if (type == Number::bf16) {
                    out[i][0] = __uint_as_float(both << 16), out[i][1] = __uint_as_float(both & 0xFFFF0000u);
                } else {
                    out[i][0] = __half2float(__ushort_as_half(static_cast<unsigned short>(both & 0xFFFF)));
                    out[i][1] = __half2float(__ushort_as_half(static_cast<unsigned short>(both >> 16)));
                }
            }
        }
    }
    __device__ static void load_pair(const void* from, Number type, std::uint64_t pair, float (&out)[2]) {
        const std::uint64_t at[1] = {pair};
        std::uint32_t raw[1][2];
        float pairs[1][2];
        load_raw(from, type, at, raw);
        numbers(type, raw, pairs);
        out[0] = pairs[0][0], out[1] = pairs[0][1];
    }
    __device__ static float load_number(const void* from, Number type, std::uint64_t index) {
        if (type == Number::f32) return __ldg(static_cast<const float*>(from) + index);
        const std::uint32_t bits = load_u16(from, index);
        if (type == Number::bf16) return __uint_as_float(bits << 16);
        return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
    }
    __device__ static void store_number(void* to, Number type, std::uint64_t index, float value) {
        if (type == Number::f32)
            static_cast<float*>(to)[index] = value;
        else if (type == Number::f16)
            static_cast<__half*>(to)[index] = __float2half_rn(value);
        else
            static_cast<__nv_bfloat16*>(to)[index] = __float2bfloat16_rn(value);
    }
    /// 16 bytes of shared memory.
    __device__ static void load_staged(const std::uint32_t* from, std::uint32_t (&out)[4]) {
        const uint4 v = *reinterpret_cast<const uint4*>(from);
        out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
    }
    /// 8 bytes, to the first two.
    __device__ static void load_staged_half(const std::uint32_t* from, std::uint32_t (&out)[4]) {
        const uint2 v = *reinterpret_cast<const uint2*>(from);
        out[0] = v.x, out[1] = v.y;
    }
    __device__ static void store_words(void* to, std::uint64_t index, const mma16::Words& words) {
        static_cast<uint4*>(to)[index] = make_uint4(words.w[0], words.w[1], words.w[2], words.w[3]);
    }
    __device__ static std::uint32_t bits(float value) { return __float_as_uint(value); }
    __device__ static float from_bits(std::uint32_t bits) { return __uint_as_float(bits); }
    __device__ static float divide(float a, float b) { return __fdiv_rn(a, b); }
    /// Ties to even.
    __device__ static std::int32_t nearest(float value) { return __float2int_rn(value); }
    /// Of a code that is a number: exponent and fraction are where f16 has them, the exponent's zero 8 lower.
    __device__ static float from_e4m3(std::uint32_t code) {
        const auto half = static_cast<unsigned short>((code & 0x80) << 8 | (code & 0x7F) << 7);
        return __half2float(__ushort_as_half(half)) * 256.0f;
    }
    __device__ static std::uint64_t bits_of_double(double value) {
        return static_cast<std::uint64_t>(__double_as_longlong(value));
    }
    __device__ static double double_of_bits(std::uint64_t bits) {
        return __longlong_as_double(static_cast<long long>(bits));
    }
    /// Ties to even, saturating. Only devices that multiply such numbers have it.
    __device__ static std::uint32_t e4m3(float value) {
#if __CUDA_ARCH__ >= 890
        std::uint16_t both;
        asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(0.0f), "f"(value));
        return both;
#else
        return 0;
#endif
    }
};

struct DecodeWarp : mma16::DeviceWarp {
    using Math = DecodeMath;
    using DeviceWarp::DeviceWarp;
};

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
