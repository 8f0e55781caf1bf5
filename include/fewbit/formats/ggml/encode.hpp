// Encoding rows of floats into ggml's blocks, byte for byte as the reference encoder does.
//
// All arithmetic is f32, one rounding per operation, sums in the order of the weights: the bytes depend on it.
// Where the reference's bytes depend on the compiler (blocks so small that 1 / scale overflows), the codes are
// those of a block of zeros.
// Source: what ggml (revision d99724f2) computes, restated; encode_impl.hpp has the rule of every type.
#pragma once

#include <span>

#include "fewbit/core/config.hpp"
#include "fewbit/formats/ggml/types.hpp"

namespace fewbit::inline v0::ggml {

/// Encodes one row. `x`: K weights, finite, K a multiple of the block. `importance`: empty, or K weights >= 0,
/// one per column; types with one way to encode ignore them (uses_importance). `out`: row_bytes(type, K).
FEWBIT_API void encode_row(BlockType type, std::span<const float> x, std::span<const float> importance,
                           std::span<std::uint8_t> out) noexcept;

/// Whether encode_row looks at importance.
[[nodiscard]] constexpr bool uses_importance(BlockType type) noexcept {
    switch (type) {
        case BlockType::q4_0:
        case BlockType::q4_1:
        case BlockType::q5_0:
        case BlockType::q5_1:
        case BlockType::q2_k:
        case BlockType::q3_k:
        case BlockType::q4_k:
        case BlockType::q5_k:
        case BlockType::q6_k:
        case BlockType::iq4_nl:
        case BlockType::iq4_xs: return true;
        default: return false;
    }
}

}  // namespace fewbit::inline v0::ggml

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/formats/ggml/encode_impl.hpp"
#endif
