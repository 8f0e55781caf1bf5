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
    /// Elements 2 * pair and 2 * pair + 1 as f32.
    __device__ static void load_pair(const void* from, Number type, std::uint64_t pair, float (&out)[2]) {
        if (type == Number::f32) {
            const float2 v = __ldg(static_cast<const float2*>(from) + pair);
            out[0] = v.x, out[1] = v.y;
            return;
        }
        if (type == Number::e8m0) {
            const std::uint32_t both = load_u16(from, pair);
            out[0] = power_of_two(both & 0xFF), out[1] = power_of_two(both >> 8);
            return;
        }
        const std::uint32_t both = __ldg(static_cast<const std::uint32_t*>(from) + pair);
        if (type == Number::bf16) {
            out[0] = __uint_as_float(both << 16), out[1] = __uint_as_float(both & 0xFFFF0000u);
        } else {
            out[0] = __half2float(__ushort_as_half(static_cast<unsigned short>(both & 0xFFFF)));
            out[1] = __half2float(__ushort_as_half(static_cast<unsigned short>(both >> 16)));
        }
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
    __device__ static void load_int8(const std::int8_t* from, std::uint32_t (&out)[2]) {
        const uint2 both = __ldg(reinterpret_cast<const uint2*>(from));
        out[0] = both.x, out[1] = both.y;
    }
    __device__ static std::uint32_t bits(float value) { return __float_as_uint(value); }
    __device__ static float from_bits(std::uint32_t bits) { return __uint_as_float(bits); }
    __device__ static float divide(float a, float b) { return __fdiv_rn(a, b); }
    /// Ties to even.
    __device__ static std::int32_t nearest(float value) { return __float2int_rn(value); }
};

struct DecodeWarp : mma16::DeviceWarp {
    using Math = DecodeMath;
    using DeviceWarp::DeviceWarp;
};

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
