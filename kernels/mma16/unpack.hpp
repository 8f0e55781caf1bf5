// Codes to the registers of A: two numbers, code - zero, in 32 bits, exactly. Nothing is converted: a mask and an OR
// make the code the last bits of a float whose unit in the last place is 1, and a subtraction takes the rest away.
//
//   f16   0x6400 | c = 1024 + c       (c < 1024)         0x6400 | c << 4 = 1024 + 16 c, times 1/16 = 64 + c
//   bf16  0x4300 | c = 128 + c        (c < 128)          8 bits: f32 2^23 + c, subtracted, rounded to bf16 (|c - z| <= 255)
//
//   fp8    its seven bits below the sign stand where those of f16 (bf16) begin, as 2^-8 (2^-120) of the number: one multiplication
//
// Tables of 16 are looked up two numbers at a time.
//
// Math is the arithmetic of two packed numbers: instructions on the device, written out on the host (tests/cuda).
#pragma once

#include <cstdint>

#include "fewbit/pack/mma16_order.hpp"

namespace fewbit::inline v0::mma16 {

/// Elements of x and of A.
enum class Half { f16, bf16 };

/// What a lane loads at once: 16 bytes.
struct Words {
    std::uint32_t w[4];
};

/// The four registers of A for one step.
struct FragmentA {
    std::uint32_t r[4];
};

FEWBIT_HOST_DEVICE constexpr std::uint32_t twice(std::uint32_t half) { return half * 0x10001u; }

/// What is subtracted for the zero points of channels g and g + 8, in the form that each way of unpacking wants.
/// Precondition: z < 2^bits.
template <unsigned Bits, Half Type>
struct Zeros {
    std::uint32_t near[2];  ///< f16: 1024 + z; bf16 in 4 bits: -(128 + z); in 8 bits: 2^23 + z, in f32
    std::uint32_t far[2];   ///< f16 in 4 bits: -(64 + z)

    FEWBIT_HOST_DEVICE static constexpr Zeros of(std::uint32_t z0, std::uint32_t z1) {
        if constexpr (Type == Half::f16)
            return {{twice(0x6400u | z0), twice(0x6400u | z1)},
                    {twice(0xD400u | z0 << 4), twice(0xD400u | z1 << 4)}};
        else if constexpr (Bits == 4)
            return {{twice(0xC300u | z0), twice(0xC300u | z1)}, {}};
        else
            return {{0x4B000000u | z0, 0x4B000000u | z1}, {}};
    }
};

/// 4 bits: `word` holds register r's elements in nibbles r and r + 4.
template <class Math, Half Type>
FEWBIT_HOST_DEVICE FragmentA unpack4(std::uint32_t word, const Zeros<4, Type>& zeros) {
    FragmentA a;
    FEWBIT_UNROLL
    for (unsigned r = 0; r < 4; ++r) {
        const std::uint32_t zero = zeros.near[r & 1];
        if constexpr (Type == Half::bf16) {
            a.r[r] = Math::add_bf16(Math::masked_or(word >> 4 * r, 0x000F000Fu, 0x43004300u), zero);
        } else if ((r & 1) == 0) {
            a.r[r] = Math::subtract_f16(Math::masked_or(word >> 4 * r, 0x000F000Fu, 0x64006400u), zero);
        } else {
            constexpr std::uint32_t sixteenth = 0x2C002C00u;
            a.r[r] = Math::fma_f16(Math::masked_or(word >> 4 * (r - 1), 0x00F000F0u, 0x64006400u), sixteenth,
                                   zeros.far[r & 1]);
        }
    }
    return a;
}

/// 8 bits: word r >> 1 holds registers r's elements in bytes 2 (r & 1) and the next.
template <class Math, Half Type>
FEWBIT_HOST_DEVICE FragmentA unpack8(std::uint32_t word0, std::uint32_t word1, const Zeros<8, Type>& zeros) {
    FragmentA a;
    FEWBIT_UNROLL
    for (unsigned r = 0; r < 4; ++r) {
        const std::uint32_t word = r < 2 ? word0 : word1, zero = zeros.near[r & 1];
        if constexpr (Type == Half::f16) {
            const std::uint32_t selector = (r & 1) == 0 ? 0x4140u : 0x4342u;  // byte, 0x64, byte, 0x64
            a.r[r] = Math::subtract_f16(Math::select_bytes(word, 0x64646464u, selector), zero);
        } else {
            const unsigned first = 2 * (r & 1);  // byte, 0, 0, 0x4B
            const std::uint32_t low = Math::select_bytes(word, 0x4B000000u, 0x7440u | first);
            const std::uint32_t high = Math::select_bytes(word, 0x4B000000u, 0x7440u | (first + 1));
            a.r[r] = Math::bf16_pair(Math::subtract_f32(low, zero), Math::subtract_f32(high, zero));
        }
    }
    return a;
}

/// fp8-e4m3, which both types hold exactly, the codes where unpack8 has them.
template <class Math, Half Type>
FEWBIT_HOST_DEVICE FragmentA unpack_fp8(std::uint32_t word0, std::uint32_t word1) {
    FragmentA a;
    FEWBIT_UNROLL
    for (unsigned r = 0; r < 4; ++r) {
        const std::uint32_t word = r < 2 ? word0 : word1;
        // Each byte as the upper one of a half.
        const std::uint32_t bytes = Math::select_bytes(word, 0, (r & 1) == 0 ? 0x1404u : 0x3424u);
        const std::uint32_t sign = bytes & 0x80008000u;
        if constexpr (Type == Half::f16)
            a.r[r] = Math::fma_f16(Math::masked_or(bytes >> 1, 0x3F803F80u, sign), twice(0x5C00u), 0);  // 2^8
        else
            a.r[r] =
                Math::fma_bf16(Math::masked_or(bytes >> 4, 0x07F007F0u, sign), twice(0x7B80u), 0);  // 2^120
    }
    return a;
}

/// A table of 16: `pairs` holds the numbers of both nibbles of a byte for each byte, once for every lane, so that
/// lanes never meet in a bank of shared memory.
inline constexpr unsigned table_words = 256 * lanes;

FEWBIT_HOST_DEVICE constexpr std::uint32_t table_pair(const std::uint16_t (&table)[16], unsigned byte) {
    return table[byte & 15] | static_cast<std::uint32_t>(table[byte >> 4]) << 16;
}
FEWBIT_HOST_DEVICE inline FragmentA look_up(std::uint32_t word, const std::uint32_t* pairs, unsigned lane) {
    FragmentA a;
    FEWBIT_UNROLL
    for (unsigned r = 0; r < 4; ++r) a.r[r] = pairs[(word >> 8 * r & 0xFF) * lanes + lane];
    return a;
}

}  // namespace fewbit::inline v0::mma16
