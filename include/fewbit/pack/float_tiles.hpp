// The arithmetic of PackedActivations that stay floats: rows of f32 or bf16, of which some stand together in words of 4
// bytes (matmul/contract.hpp draws them). Laid out for compilers to vectorize.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/scalar.hpp"

namespace fewbit::inline v0::detail {

/// Elements of K that rows of floats which stand together are a multiple of: kernels need no other end.
inline constexpr std::size_t float_tile_elements = 16;

/// What stands in 4 bytes of rows that stand together (matmul/contract.hpp): an f32; two bf16, of each four along K the first
/// and third, then the second and fourth; or one bf16, as the f32 that it is.
enum class FloatWord : std::uint8_t { f32, two_bf16, bf16_as_f32 };

/// `rows` rows of x (k elements each), stride_elements apart, as [word][row], zeros beyond k up to a multiple of
/// float_tile_elements.
template <FloatWord Word>
inline void arrange_rows(const float* x, std::size_t stride_elements, std::size_t rows, std::size_t k,
                         std::byte* out) noexcept {
    constexpr std::size_t piece = 256, per_word = Word == FloatWord::two_bf16 ? 2 : 1;
    std::uint32_t words[piece];
    for (std::size_t first = 0; first < k; first += piece * per_word)
        for (std::size_t r = 0; r < rows; ++r) {
            const float* const from = x + r * stride_elements + first;
            const std::size_t count = std::min(k - first, piece * per_word);
            const std::size_t whole = round_up(count, float_tile_elements) / per_word;
            if constexpr (Word == FloatWord::two_bf16) {
                std::uint16_t halves[2 * piece];
                for (std::size_t i = 0; i < count; ++i) halves[i] = bf16_from_float(from[i]);
                for (std::size_t i = count; i < 2 * whole; ++i) halves[i] = 0;
                for (std::size_t i = 0; i < whole; ++i) {
                    const std::size_t at = i / 2 * 4 + i % 2;
                    words[i] = halves[at] | static_cast<std::uint32_t>(halves[at + 2]) << 16;
                }
            } else {
                if constexpr (Word == FloatWord::f32)
                    std::memcpy(words, from, 4 * count);
                else
                    for (std::size_t i = 0; i < count; ++i)
                        words[i] = static_cast<std::uint32_t>(bf16_from_float(from[i])) << 16;
                std::memset(words + count, 0, 4 * (whole - count));
            }
            std::byte* const to = out + 4 * (first / per_word * rows + r);
            for (std::size_t i = 0; i < whole; ++i) std::memcpy(to + 4 * i * rows, words + i, 4);
        }
}

inline void arrange_rows(FloatWord word, const float* x, std::size_t stride_elements, std::size_t rows,
                         std::size_t k, std::byte* out) noexcept {
    switch (word) {
        case FloatWord::f32: return arrange_rows<FloatWord::f32>(x, stride_elements, rows, k, out);
        case FloatWord::two_bf16: return arrange_rows<FloatWord::two_bf16>(x, stride_elements, rows, k, out);
        case FloatWord::bf16_as_f32:
            return arrange_rows<FloatWord::bf16_as_f32>(x, stride_elements, rows, k, out);
    }
}

/// A row of x in bf16, element by element, with zeros up to a multiple of 4.
inline void round_row(const float* x, std::size_t k, std::byte* out) noexcept {
    auto* const halves = reinterpret_cast<std::uint16_t*>(out);
    for (std::size_t i = 0; i < k; ++i) halves[i] = bf16_from_float(x[i]);
    for (std::size_t i = k; i % 4 != 0; ++i) halves[i] = 0;
}

/// The same numbers as f32.
inline void widen_row(const float* x, std::size_t k, std::byte* out) noexcept {
    auto* const words = reinterpret_cast<std::uint32_t*>(out);
    for (std::size_t i = 0; i < k; ++i) words[i] = static_cast<std::uint32_t>(bf16_from_float(x[i])) << 16;
    for (std::size_t i = k; i % 4 != 0; ++i) words[i] = 0;
}

}  // namespace fewbit::inline v0::detail
