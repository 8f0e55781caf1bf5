// The arithmetic of PackedActivations that stay floats: rows of f32 or bf16, of which some stand together in words of 4
// bytes (matmul/contract.hpp draws them). Laid out for compilers to vectorize.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fewbit/core/scalar.hpp"

namespace fewbit::inline v0::detail {

/// `rows` rows of x (k elements each), stride_elements apart, as [word][row], a word being one f32 or two bf16; an odd k is
/// followed by a zero.
template <bool Bf16>
inline void arrange_rows(const float* x, std::size_t stride_elements, std::size_t rows, std::size_t k,
                         std::byte* out) noexcept {
    constexpr std::size_t piece = 256, per_word = Bf16 ? 2 : 1;
    std::uint32_t words[piece];
    for (std::size_t first = 0; first < k; first += piece * per_word)
        for (std::size_t r = 0; r < rows; ++r) {
            const float* const from = x + r * stride_elements + first;
            const std::size_t count = std::min(k - first, piece * per_word);
            const std::size_t whole = (count + per_word - 1) / per_word;
            if constexpr (Bf16) {
                std::uint16_t halves[2 * piece];
                for (std::size_t i = 0; i < count; ++i) halves[i] = bf16_from_float(from[i]);
                if (count % 2 != 0) halves[count] = 0;
                std::memcpy(words, halves, 4 * whole);
            } else {
                std::memcpy(words, from, 4 * whole);
            }
            std::byte* const to = out + 4 * (first / per_word * rows + r);
            for (std::size_t i = 0; i < whole; ++i) std::memcpy(to + 4 * i * rows, words + i, 4);
        }
}

}  // namespace fewbit::inline v0::detail
