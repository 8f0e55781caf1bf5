// What the CUDA kernels of quantized weights share: the call, and codes of a lane as registers of A.
#pragma once

#include "kernels/mma16/partition.hpp"
#include "kernels/mma16/unpack.hpp"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

using mma16::Codes;
using mma16::Half;

enum class Zero : std::uint8_t { middle, integer, real };
enum class Number : std::uint8_t { f32, f16, bf16, e8m0 };

inline constexpr unsigned warps_per_block = 8;
inline constexpr unsigned threads_per_block = warps_per_block * mma16::lanes;

/// One product. Pointers are of the device; everything that a kernel reads or writes is here.
struct Call {
    const void* codes;        ///< stream of mma16, 16-byte aligned
    const void* scales;       ///< (tile, group, g): pairs of `scale_type`
    const void* offsets;      ///< the same of zero points, u8 pairs, or of offsets in `scale_type`; else null
    const void* x;            ///< (m, padded k) of f16 or bf16, rows 16-byte aligned, zeros behind k
    const float* bias;        ///< (n) or null
    void* y;                  ///< (m, n) of `y_type`
    float* parts;             ///< 2 * blocks of part_floats<...> of the kernel
    std::uint32_t* counters;  ///< (partition.tiles), all 0; left so
    std::uint64_t x_stride;   ///< elements
    std::uint64_t y_stride;   ///< elements
    std::uint32_t m, n;
    std::uint32_t chunks;             ///< of a tile
    std::uint32_t groups;             ///< of a row
    mma16::Divisor halves_per_group;  ///< group / 32
    mma16::Partition partition;
    Number scale_type, y_type;
    std::uint16_t table[16];  ///< of Codes::table4, in the type of x
};

/// A lane's sums: register i of C for each 8 rows of x.
template <unsigned TokenTiles>
struct Sums {
    float c[TokenTiles][4] = {};
};

/// The operands of 32 input channels for a lane.
template <unsigned TokenTiles>
struct FragmentsB {
    std::uint32_t r[TokenTiles][4];  ///< registers 0, 1 of step 0 and of step 1
};

/// Where the parameters of a group of a tile of 16 channels start, in pairs.
FEWBIT_HOST_DEVICE inline std::uint64_t pair_of(const Call& call, std::uint32_t tile, std::uint32_t group) {
    return (std::uint64_t{tile} * call.groups + group) * 8;
}

/// What a lane needs of weights.
template <Codes Kind, Half Type, Zero Offset>
struct Weights {
    const Call& call;
    const std::uint32_t* pairs;  ///< of the table, in shared memory; else not read

    static_assert(Kind != Codes::table4 || Offset == Zero::middle, "tables have no zero points");
    static constexpr unsigned Bits = mma16::bits_of(Kind);

    /// Registers of A for one step of a half; `pair`: of its group's parameters.
    template <class Math>
    FEWBIT_HOST_DEVICE mma16::FragmentA fragment(unsigned lane, const mma16::Words& words, unsigned half,
                                                 unsigned step, std::uint64_t pair) const {
        if constexpr (Kind == Codes::table4) {
            return mma16::look_up(words.w[2 * half + step], pairs, lane);
        } else {
            std::uint32_t z0 = Offset == Zero::real ? 0 : 1u << (Bits - 1), z1 = z0;
            if constexpr (Offset == Zero::integer) {
                const std::uint32_t both = Math::load_u16(call.offsets, pair + lane / 4);
                z0 = both & 0xFF, z1 = both >> 8;
            }
            const auto zeros = mma16::Zeros<Bits, Type>::of(z0, z1);
            if constexpr (Kind == Codes::int4)
                return mma16::unpack4<Math, Type>(words.w[2 * half + step], zeros);
            else
                return mma16::unpack8<Math, Type>(words.w[2 * step], words.w[2 * step + 1], zeros);
        }
    }
};

/// Registers of A that are 1 everywhere: their products are sums of x.
template <Half Type>
FEWBIT_HOST_DEVICE constexpr mma16::FragmentA ones() {
    constexpr std::uint32_t pair = Type == Half::f16 ? 0x3C003C00u : 0x3F803F80u;
    return {{pair, pair, pair, pair}};
}

/// Fills the table of a block; a barrier has to follow. Precondition: mma16::table_words words.
template <class Block>
FEWBIT_HOST_DEVICE void fill_table(const Call& call, Block& block, std::uint32_t* pairs) {
    block.each_thread([&](unsigned thread) {
        for (unsigned i = thread; i < mma16::table_words; i += threads_per_block)
            pairs[i] = mma16::table_pair(call.table, i / mma16::lanes);
    });
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
