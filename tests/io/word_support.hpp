// Words of foreign layouts built bit by bit from their definitions, and layers whose every part is known.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "fewbit/core/tensor.hpp"
#include "model_support.hpp"

namespace fewbit_test {

inline fewbit::Tensor tensor_of(fewbit::Scalar type, fewbit::Tensor::Shape shape, const void* data) {
    auto out = fewbit::Tensor::allocate(type, std::move(shape));
    REQUIRE(out);
    if (out->size_bytes() != 0) std::memcpy(out->mutable_bytes().data(), data, out->size_bytes());
    return *out;
}
inline fewbit::Tensor words_tensor(fewbit::Tensor::Shape shape, const std::vector<std::uint32_t>& words) {
    auto out = tensor_of(fewbit::Scalar::i32, std::move(shape), words.data());
    REQUIRE(out.elements() == words.size());
    return out;
}
inline std::vector<std::uint32_t> words_in(const fewbit::Tensor& tensor) {
    REQUIRE(tensor.type() == fewbit::Scalar::i32);
    std::vector<std::uint32_t> out(tensor.elements());
    if (!out.empty()) std::memcpy(out.data(), tensor.bytes().data(), tensor.size_bytes());
    return out;
}

/// Word and bit of bit `i` of code `c`: GPTQ's 96-bit runs for 3 bits, else 32 / b codes per word.
struct BitPlace {
    std::size_t word = 0;
    unsigned bit = 0;
};
inline BitPlace gptq_place(std::size_t c, unsigned bits, unsigned i) {
    if (bits == 3) {
        const std::size_t in_run = c % 32 * 3 + i;
        return {c / 32 * 3 + in_run / 32, static_cast<unsigned>(in_run % 32)};
    }
    return {c / (32 / bits), static_cast<unsigned>(c % (32 / bits)) * bits + i};
}
inline BitPlace compressed_place(std::size_t c, unsigned bits, unsigned i) {
    return {c / (32 / bits), static_cast<unsigned>(c % (32 / bits)) * bits + i};
}

/// A (lines, words) or, on its side, (words, lines) array of words; codes[line][c].
template <class Place>
std::vector<std::uint32_t> pack_by_bits(const std::vector<std::vector<unsigned>>& codes, unsigned bits,
                                        std::size_t words, bool on_its_side, Place place) {
    std::vector<std::uint32_t> out(codes.size() * words);
    bool inside = true;
    for (std::size_t line = 0; line < codes.size(); ++line)
        for (std::size_t c = 0; c < codes[line].size(); ++c)
            for (unsigned i = 0; i < bits; ++i) {
                const BitPlace at = place(c, bits, i);
                inside = inside && at.word < words;
                if (inside && (codes[line][c] >> i & 1u) != 0)
                    out[on_its_side ? at.word * codes.size() + line : line * words + at.word] |= 1u << at.bit;
            }
    REQUIRE(inside);
    return out;
}

/// What a matrix holds, one number at a time.
inline std::vector<std::vector<unsigned>> codes_in(const QuantizedMatrix& w) {
    std::vector<std::vector<unsigned>> out(w.n(), std::vector<unsigned>(w.k()));
    for (std::size_t r = 0; r < w.n(); ++r)
        for (std::size_t c = 0; c < w.k(); ++c) out[r][c] = w.codes.code(r, c);
    return out;
}
/// zeros[group][output]
inline std::vector<std::vector<unsigned>> zeros_by_group(const QuantizedMatrix& w) {
    std::vector<std::vector<unsigned>> out(w.groups_per_row(), std::vector<unsigned>(w.n()));
    for (std::size_t g = 0; g < out.size(); ++g)
        for (std::size_t r = 0; r < w.n(); ++r) out[g][r] = static_cast<unsigned>(w.zero(r, g));
    return out;
}
/// The 16 bits of a scale.
inline std::uint16_t half_at(const fewbit::Tensor& scales, std::size_t index) {
    std::uint16_t out = 0;
    std::memcpy(&out, scales.bytes().data() + 2 * index, 2);
    return out;
}
/// Zero points of at least 1, which "gptq" can hold.
inline void raise_zeros(QuantizedMatrix& w) {
    for (std::size_t r = 0; r < w.zeros.rows(); ++r) {
        std::vector<std::uint8_t> row(w.zeros.cols());
        w.zeros.unpack(r, 0, row);
        for (auto& code : row)
            if (code == 0) code = 1;
        w.zeros.pack_row(r, row);
    }
}

}  // namespace fewbit_test
