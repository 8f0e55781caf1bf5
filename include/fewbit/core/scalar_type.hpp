// The names of the scalar types that tensors hold. Conversions are in scalar.hpp; kernels, which are compiled
// with instruction-set flags and may not emit inline functions of ours, include only this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fewbit::inline v0 {

enum class Scalar : std::uint8_t { f32, f16, bf16, fp8_e4m3, fp8_e5m2, e8m0, i8, u8, i32, u32, i64, f64 };

[[nodiscard]] constexpr std::size_t size_bytes(Scalar type) noexcept {
    switch (type) {
        case Scalar::i64:
        case Scalar::f64: return 8;
        case Scalar::f32:
        case Scalar::i32:
        case Scalar::u32: return 4;
        case Scalar::f16:
        case Scalar::bf16: return 2;
        case Scalar::fp8_e4m3:
        case Scalar::fp8_e5m2:
        case Scalar::e8m0:
        case Scalar::i8:
        case Scalar::u8: return 1;
    }
    return 0;
}

[[nodiscard]] constexpr std::string_view name(Scalar type) noexcept {
    switch (type) {
        case Scalar::f32: return "f32";
        case Scalar::f16: return "f16";
        case Scalar::bf16: return "bf16";
        case Scalar::fp8_e4m3: return "fp8-e4m3";
        case Scalar::fp8_e5m2: return "fp8-e5m2";
        case Scalar::e8m0: return "e8m0";
        case Scalar::i8: return "i8";
        case Scalar::u8: return "u8";
        case Scalar::i32: return "i32";
        case Scalar::u32: return "u32";
        case Scalar::i64: return "i64";
        case Scalar::f64: return "f64";
    }
    return "?";
}

}  // namespace fewbit::inline v0
