// The contract between the library and its kernels: all that a kernel may include of ours. Plain structs
// only: kernel files are compiled with instruction-set flags, and an inline function emitted there could be
// linked program-wide and crash an older CPU.
//
// A kernel computes y[m][n] = sum_k x[m][k] * w[n][k] (+ bias[n]) for a rectangle of y, cannot fail, starts
// no thread, allocates nothing, and gives the same bits however the rectangles are cut. The caller guarantees
// M, N, K >= 1 and a rectangle that starts at multiples of tile_m and tile_n.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fewbit/core/scalar_type.hpp"

namespace fewbit::inline v0 {

/// Instruction sets, weakest first: among kernels that fit, the last supported one is chosen.
/// A new one also needs its row in isa.hpp and in cmake/isa.cmake.
enum class Isa : std::uint8_t {
    generic,
    avx2,
    avx_vnni,
    avx512vl_vnni,
    avx512_vnni,
    avx512_bf16,
    amx_int8,
    neon,
    neon_dotprod,
    neon_i8mm
};

/// Orders of bytes that kernels want; drawn in pack/layout.hpp.
enum class Layout : std::uint8_t { rows, tile16 };

/// Signed 8-bit codes of x and unsigned codes of w are summed in int32 over at most this many products before
/// they are scaled; 255 * 127 * 2^15 < 2^31, zero point included.
inline constexpr std::size_t max_int32_products = 32768;
static_assert(255ull * 127ull * max_int32_products < (1ull << 31));

/// What codes stand for: numbers, places in a table of 16, fp8.
enum class Codes : std::uint8_t { integer, table, fp8_e4m3, fp8_e5m2 };

/// Weights as a kernel sees them. W is (n, k); codes are unsigned, value = scale * (code - zero),
/// scale * code + offset or scale * table[code] (formats/format.hpp).
struct WeightsView {
    std::size_t n = 0;
    std::size_t k = 0;
    std::size_t group_elements = 0;  ///< along K; k when a row has one scale
    std::size_t groups = 0;          ///< per row
    int bits = 0;
    int field_bits = 0;  ///< tile16: that a code takes in the stream
    Codes kind = Codes::integer;
    int middle_code = 0;  ///< the zero of all groups when has_zeros and has_offsets are false; 0 of codebooks
    bool has_zeros = false;    ///< an integer code per group
    bool has_offsets = false;  ///< a number of type `scale` per group
    std::size_t super_groups =
        0;                    ///< tile16: groups under one scale of type `scale`, their own being i8; or 0
    bool per_tensor = false;  ///< one scale (and zero or offset) for all
    Scalar scale =
        Scalar::f32;      ///< f32, f16, bf16, e8m0, u8 (rows only); of float weights the elements' type
    int block_type = -1;  ///< Layout::rows of blocks: the ggml::BlockType, codes are whole blocks

    const std::uint8_t* codes = nullptr;  ///< rows: row 0; tile16: tile 0
    std::size_t codes_stride_bytes = 0;   ///< rows: between rows; tile16: between tiles
    // Layout::rows, and per-tensor parameters of every layout. Strides are between rows, 0 when per_tensor.
    const std::uint8_t* scales = nullptr;
    std::size_t scales_stride_bytes = 0;
    const std::uint8_t* zeros = nullptr;  ///< `bits` per code, packed like the codes
    std::size_t zeros_stride_bytes = 0;
    const std::uint8_t* offsets = nullptr;
    std::size_t offsets_stride_bytes = 0;
    const std::uint8_t* row_scales = nullptr;  ///< Layout::rows: (n) e8m0 that scales of u8 count, else null
    // Codebooks.
    const float* table = nullptr;         ///< the values of all codes: 16, or 256 of fp8
    const std::int8_t* levels = nullptr;  ///< Codes::table with int8 activations: value = unit * level
    float unit = 0;
};

/// Rows of int8 activations that stand together for kernels that ask for it (KernelCode::rows_together).
inline constexpr std::size_t activation_tile_rows = 4;

/// Sums of activations cover at most this many elements, so that kernels may cut K at multiples of it and still know the
/// sums of what they cut.
inline constexpr std::size_t max_sum_elements = 256;

/// Activations as a kernel sees them, in tiles of rows_together rows, the last one perhaps of fewer. f32, bf16: of a tile
/// of r rows [word][r], so that the tile of row m starts at m * stride_elements. A word is one f32, or two bf16: of each
/// four along K the first and third, then the second and fourth; zeros beyond k, up to a multiple of 16. Rows one by one
/// stand as they are, f32 where the caller has them, bf16 with zeros up to a multiple of 4. bf16_as_f32: numbers rounded to
/// bf16 that stand as f32 does. What follows the stride is empty. int8: of a tile of r rows, with e for elements_together
///   codes   [stride_elements / e][r][e]   zeros beyond k, at least 64 for each row
///   scales  [groups][r]
///   sums    [sum_groups][r]               of codes, over runs of sum_group_elements along K
/// so that the tile of row m starts at m * stride_elements, m * groups and m * sum_groups. Tiles of one row are
/// plain rows. Three numbers behind the last scale and the last sum may be read.
struct ActivationsView {
    std::size_t m = 0;
    const void* values = nullptr;
    std::size_t stride_elements = 0;
    std::size_t rows_together = 1;
    std::size_t elements_together = 4;
    bool bf16_as_f32 = false;
    const float* scales = nullptr;
    std::size_t group_elements = 0;
    std::size_t groups = 0;
    const std::int32_t* sums = nullptr;
    std::size_t sum_group_elements = 0;  ///< divides both group sizes; at most max_sum_elements
    std::size_t sum_groups = 0;
};

/// One tile of activations to quantize, symmetric and with the ranges of the values themselves: a scale for each
/// group of each row, max|x| / largest_code; codes x / scale, rounded to the nearest integer, ties to even
/// (pack/activation_codes.hpp has the rule in full). Behind scales and sums of fewer rows than activation_tile_rows
/// there is room for three numbers more.
struct ActivationTile {
    const float* x = nullptr;
    std::size_t x_stride_elements = 0;
    std::size_t rows = 0;  ///< 1 to activation_tile_rows
    std::size_t elements_together = 4;
    std::size_t k = 0;
    std::size_t group_elements = 0;      ///< a multiple of elements_together, or the row
    std::size_t sum_group_elements = 0;  ///< divides group_elements; such a multiple too, or the row
    int largest_code = 127;
    std::size_t stride_elements = 0;
    std::int8_t* codes = nullptr;  ///< outputs as in ActivationsView
    float* scales = nullptr;
    std::int32_t* sums = nullptr;
};

struct OutputView {
    float* values = nullptr;  ///< (m, n)
    std::size_t stride_elements = 0;
    const float* bias = nullptr;  ///< (n) or null
};

struct KernelCall {
    WeightsView w;
    ActivationsView x;
    OutputView y;
};

/// The part of y to compute: rows [m_begin, m_end), columns [n_begin, n_end).
struct Rectangle {
    std::size_t m_begin = 0;
    std::size_t m_end = 0;
    std::size_t n_begin = 0;
    std::size_t n_end = 0;
};

/// What a kernel file exports.
struct KernelCode {
    void (*run)(const KernelCall&, const Rectangle&, void* scratch) noexcept = nullptr;
    std::size_t scratch_bytes = 0;  ///< per lane, aligned to 64; of any call, unless the next is there
    std::size_t tile_m = 1;
    std::size_t tile_n = 1;
    std::size_t (*scratch_bytes_of)(const KernelCall&) noexcept =
        nullptr;                    ///< what this call needs; may be null
    std::size_t rows_together = 1;  ///< how it reads activations: int8 1 or activation_tile_rows
    void (*quantize)(const ActivationTile&) noexcept =
        nullptr;                        ///< for rows_together; null: portable code does
    std::size_t elements_together = 4;  ///< of K of each row, where rows stand together: what a product takes
    bool bf16_as_f32 = false;           ///< bf16 activations: how it reads them
    /// Returns the kernel of another instruction set that this one hands a call to; null: none. Null itself: never.
    const KernelCode* (*hands_to)(const KernelCall&) noexcept = nullptr;

    /// A kernel for f32 activations as one for bf16, whose numbers are f32 too. (consteval: nothing of it is linked.)
    [[nodiscard]] consteval KernelCode for_bf16() const {
        KernelCode code = *this;
        code.bf16_as_f32 = true;
        return code;
    }
};

}  // namespace fewbit::inline v0
