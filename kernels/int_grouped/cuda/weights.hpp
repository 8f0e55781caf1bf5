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
/// Chunks that a unit of the partition is long, in batch.hpp and prompt.hpp.
inline constexpr unsigned chunks_per_unit = 4;

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
    // Of w8a8.hpp alone: scales of rows of x (m), and sums of their codes (m), read where zero points or offsets are.
    const float* x_scales;
    const std::int32_t* x_sums;
    Zero zero;
};

/// A lane's sums: register i of C for each 8 rows of x.
template <unsigned TokenTiles, class T = float>
struct Sums {
    T c[TokenTiles][4] = {};
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

/// f<codes, type, offset>(), whichever they are. Precondition: tables and fp8 have no offsets.
template <class F>
decltype(auto) with_kind(Codes codes, Half type, Zero offset, F&& f) {
    const auto with_type = [&]<Codes Kind, Zero Offset>() -> decltype(auto) {
        return type == Half::f16 ? f.template operator()<Kind, Half::f16, Offset>()
                                 : f.template operator()<Kind, Half::bf16, Offset>();
    };
    const auto with_offset = [&]<Codes Kind>() -> decltype(auto) {
        switch (offset) {
            case Zero::integer: return with_type.template operator()<Kind, Zero::integer>();
            case Zero::real: return with_type.template operator()<Kind, Zero::real>();
            default: return with_type.template operator()<Kind, Zero::middle>();
        }
    };
    switch (codes) {
        case Codes::int4: return with_offset.template operator()<Codes::int4>();
        case Codes::int8: return with_offset.template operator()<Codes::int8>();
        case Codes::fp8: return with_type.template operator()<Codes::fp8, Zero::middle>();
        default: return with_type.template operator()<Codes::table4, Zero::middle>();
    }
}

/// What a lane needs of weights.
template <Codes Kind, Half Type, Zero Offset>
struct Weights {
    const Call& call;
    const std::uint32_t* pairs;  ///< of the table, in shared memory; else not read

    static_assert((Kind != Codes::table4 && Kind != Codes::fp8) || Offset == Zero::middle,
                  "tables and fp8 have no zero points");
    static constexpr unsigned Bits = mma16::bits_of(Kind);

    /// Registers of A for one step of a half; `pair`: of its group's parameters.
    template <class Math>
    FEWBIT_HOST_DEVICE mma16::FragmentA fragment(unsigned lane, const mma16::Words& words, unsigned half,
                                                 unsigned step, std::uint64_t pair) const {
        if constexpr (Kind == Codes::table4) {
            return mma16::look_up(words.w[2 * half + step], pairs, lane);
        } else if constexpr (Kind == Codes::fp8) {
            return mma16::unpack_fp8<Math, Type>(words.w[2 * step], words.w[2 * step + 1]);
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

/// Sums of a warp on their way out, 16 channels x 16 rows. A stride of 20 keeps the lanes of a store in different banks.
inline constexpr unsigned staged_stride = 20;
inline constexpr unsigned staged_words = 16 * staged_stride;

/// Hands 16 channels x 8 TokenTiles rows to f(row, channel, sum), a row's channels by neighbouring lanes: through `staged`,
/// staged_words of shared memory of the warp's own.
template <unsigned TokenTiles, class T, class Warp, class F>
FEWBIT_HOST_DEVICE void each_staged(const Warp& warp,
                                    const typename Warp::template Value<Sums<TokenTiles, T>>& sums, T* staged,
                                    F&& f) {
    static_assert(TokenTiles % 2 == 0);
    FEWBIT_UNROLL
    for (unsigned first = 0; first < TokenTiles; first += 2) {
        warp.update(
            [&](unsigned lane, const Sums<TokenTiles, T>& sum) {
                FEWBIT_UNROLL
                for (unsigned t = 0; t < 2; ++t) FEWBIT_UNROLL
                for (unsigned c = 0; c < 4; ++c)
                    staged[(8 * t + lane % 4 * 2 + (c & 1)) * staged_stride + lane / 4 + 8 * (c >> 1)] =
                        sum.c[first + t][c];
            },
            sums);
        warp.sync();
        warp.update([&](unsigned lane) {
            FEWBIT_ROLL
            for (unsigned at = lane; at < 16 * mma16::tile_channels; at += mma16::lanes) {
                const unsigned row = at / mma16::tile_channels, channel = at % mma16::tile_channels;
                f(8 * first + row, channel, staged[row * staged_stride + channel]);
            }
        });
        warp.sync();
    }
}

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
