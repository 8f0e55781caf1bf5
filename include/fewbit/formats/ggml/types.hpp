// ggml's quantized tensor types: names, ids, sizes of blocks, and the grid behind each. A row of a matrix is a
// run of blocks; a block holds the codes of `elements` weights and the parameters of its groups:
//
//   w = scale * (code - zero)             q4_0, q5_0, q8_0, q3_k, q6_k, q8_k, tq1_0, tq2_0, q2_0
//   w = scale * code + offset             q4_1, q5_1, q2_k, q4_k, q5_k
//   w = scale * codebook[code]            iq4_nl, iq4_xs, mxfp4, nvfp4, q1_0
//
// Layouts are drawn in blocks.hpp. Source: the published layouts of ggml (revision d99724f2).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace fewbit::inline v0::ggml {

// clang-format off
enum class BlockType : std::uint8_t {
    q4_0, q4_1, q5_0, q5_1, q8_0,
    q2_k, q3_k, q4_k, q5_k, q6_k, q8_k,
    iq4_nl, iq4_xs, mxfp4, nvfp4,
    tq1_0, tq2_0, q1_0, q2_0,
};
// clang-format on

enum class Grid : std::uint8_t { integer, real, codebook };  ///< the three lines above

struct BlockTraits {
    BlockType type;
    std::string_view name;
    std::uint32_t id;      ///< in GGUF files
    std::size_t elements;  ///< weights of a block
    std::size_t bytes;     ///< of a block
    std::size_t group;     ///< weights that share a scale
    int bits;              ///< of a code
    Grid grid;
    int zero = 0;  ///< Grid::integer: the code of 0
};

/// Bytes of a block where its f16 scale and, with Grid::real, its second f16 stand; the types that scale
/// otherwise have none.
struct HalfPlaces {
    std::optional<std::size_t> scale, minimum;
};

// clang-format off
inline constexpr std::array<BlockTraits, 19> block_types{{
    {BlockType::q4_0,   "q4_0",    2,  32,  18,  32, 4, Grid::integer, 8},
    {BlockType::q4_1,   "q4_1",    3,  32,  20,  32, 4, Grid::real},
    {BlockType::q5_0,   "q5_0",    6,  32,  22,  32, 5, Grid::integer, 16},
    {BlockType::q5_1,   "q5_1",    7,  32,  24,  32, 5, Grid::real},
    {BlockType::q8_0,   "q8_0",    8,  32,  34,  32, 8, Grid::integer, 128},
    {BlockType::q2_k,   "q2_k",   10, 256,  84,  16, 2, Grid::real},
    {BlockType::q3_k,   "q3_k",   11, 256, 110,  16, 3, Grid::integer, 4},
    {BlockType::q4_k,   "q4_k",   12, 256, 144,  32, 4, Grid::real},
    {BlockType::q5_k,   "q5_k",   13, 256, 176,  32, 5, Grid::real},
    {BlockType::q6_k,   "q6_k",   14, 256, 210,  16, 6, Grid::integer, 32},
    {BlockType::q8_k,   "q8_k",   15, 256, 292, 256, 8, Grid::integer, 128},
    {BlockType::iq4_nl, "iq4_nl", 20,  32,  18,  32, 4, Grid::codebook},
    {BlockType::iq4_xs, "iq4_xs", 23, 256, 136,  32, 4, Grid::codebook},
    {BlockType::mxfp4,  "mxfp4",  39,  32,  17,  32, 4, Grid::codebook},
    {BlockType::nvfp4,  "nvfp4",  40,  64,  36,  16, 4, Grid::codebook},
    {BlockType::tq1_0,  "tq1_0",  34, 256,  54, 256, 2, Grid::integer, 1},
    {BlockType::tq2_0,  "tq2_0",  35, 256,  66, 256, 2, Grid::integer, 1},
    {BlockType::q1_0,   "q1_0",   41, 128,  18, 128, 1, Grid::codebook},
    {BlockType::q2_0,   "q2_0",   42,  64,  18,  64, 2, Grid::integer, 1},
}};
// clang-format on

inline constexpr std::size_t max_block_elements = 256;

[[nodiscard]] constexpr const BlockTraits& traits(BlockType type) noexcept {
    return block_types[static_cast<std::size_t>(type)];
}
[[nodiscard]] constexpr std::string_view name(BlockType type) noexcept { return traits(type).name; }

[[nodiscard]] constexpr HalfPlaces half_places(BlockType type) noexcept {
    switch (type) {
        case BlockType::q4_1:
        case BlockType::q5_1:
        case BlockType::q4_k:
        case BlockType::q5_k: return {0, 2};
        case BlockType::q2_k: return {80, 82};
        case BlockType::q3_k: return {108, {}};
        case BlockType::q6_k: return {208, {}};
        case BlockType::tq1_0: return {52, {}};
        case BlockType::tq2_0: return {64, {}};
        case BlockType::q8_k:
        case BlockType::mxfp4:
        case BlockType::nvfp4: return {};
        default: return {0, {}};
    }
}

/// Whether groups have integer scales under f16 scales of the block (half_places).
[[nodiscard]] constexpr bool has_two_levels(BlockType type) noexcept {
    switch (type) {
        case BlockType::q2_k:
        case BlockType::q3_k:
        case BlockType::q4_k:
        case BlockType::q5_k:
        case BlockType::q6_k:
        case BlockType::iq4_xs: return true;
        default: return false;
    }
}

/// Bytes of a row of k weights. Precondition: k is a multiple of the block.
[[nodiscard]] constexpr std::size_t row_bytes(BlockType type, std::size_t k) noexcept {
    return k / traits(type).elements * traits(type).bytes;
}

/// "q4_k" and the like, in lower case; nothing for other names.
[[nodiscard]] constexpr std::optional<BlockType> parse_block_type(std::string_view text) noexcept {
    for (const BlockTraits& each : block_types)
        if (each.name == text) return each.type;
    return std::nullopt;
}
[[nodiscard]] constexpr std::optional<BlockType> block_type_of_id(std::uint32_t id) noexcept {
    for (const BlockTraits& each : block_types)
        if (each.id == id) return each.type;
    return std::nullopt;
}

/// Twice the values of E2M1; code 8, minus zero, is +0.
inline constexpr std::array<float, 16> e2m1_doubled{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
inline constexpr std::array<float, 16> iq4_codebook{-127, -104, -83, -65, -49, -35, -22, -10,
                                                    1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr std::array<float, 2> sign_codebook{-1, 1};

/// The values of codes before scaling; empty where the grid is no codebook.
[[nodiscard]] constexpr std::span<const float> codebook(BlockType type) noexcept {
    switch (type) {
        case BlockType::iq4_nl:
        case BlockType::iq4_xs: return iq4_codebook;
        case BlockType::mxfp4:
        case BlockType::nvfp4: return e2m1_doubled;
        case BlockType::q1_0: return sign_codebook;
        default: return {};
    }
}

}  // namespace fewbit::inline v0::ggml
