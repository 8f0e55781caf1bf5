// BitMatrix: unsigned codes of 2..8 bits (or raw 16- and 32-bit float elements) in rows of whole bytes.
//
//   row r starts at byte r * row_bytes(); code c lies at bits c*b .. c*b+b-1 of the row's little-endian bit
//   stream, lowest bits first:   b = 3:  byte 0 = c2[1:0] c1[2:0] c0[2:0],  byte 1 = c5[0] c4 c3 c2[2], ...
//
// For 2, 4 and 8 bits this is the order of ONNX MatMulNBits and, byte by byte, of compressed-tensors words.
// Unused bits at the end of a row are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/eight_codes.hpp"

namespace fewbit::inline v0 {

namespace detail {

/// Code `index` of a packed row. Reads only bytes that hold it.
[[nodiscard]] inline std::uint8_t code_at(const std::uint8_t* row, int bits, std::size_t index) noexcept {
    const auto width = static_cast<unsigned>(bits);
    const std::size_t bit = index * width;
    unsigned word = row[bit / 8];
    if (bit % 8 + width > 8) word |= static_cast<unsigned>(row[bit / 8 + 1]) << 8;
    return static_cast<std::uint8_t>(word >> (bit % 8) & ((1u << width) - 1));
}

/// Unpacks `count` codes starting at code `first` of a packed row. Reads only bytes that hold those codes.
inline void unpack_codes(const std::uint8_t* row, int bits, std::size_t first, std::size_t count,
                         std::uint8_t* out) noexcept {
    if (bits == 8) {
        if (count != 0) std::memcpy(out, row + first, count);
        return;
    }
    std::size_t i = 0;
    if (bits == 4) {
        if (count != 0 && first % 2 != 0) out[i++] = code_at(row, bits, first);
        const std::uint8_t* const source = row + (first + i) / 2;
        std::uint8_t* const to = out + i;
        const std::size_t pairs = (count - i) / 2;
        for (std::size_t j = 0; j < pairs; ++j) {
            to[2 * j] = source[j] & 15;
            to[2 * j + 1] = static_cast<std::uint8_t>(source[j] >> 4);
        }
        if (i + 2 * pairs < count) out[count - 1] = code_at(row, bits, first + count - 1);
        return;
    }
    for (; i < count && (first + i) % 8 != 0; ++i) out[i] = code_at(row, bits, first + i);
    const std::uint8_t* const source = row + (first + i) / 8 * static_cast<unsigned>(bits);
    const std::size_t eights = (count - i) / 8;
    switch (bits) {
        case 2: unpack_eights<2>(source, eights, out + i); break;
        case 3: unpack_eights<3>(source, eights, out + i); break;
        case 5: unpack_eights<5>(source, eights, out + i); break;
        case 6: unpack_eights<6>(source, eights, out + i); break;
        default: unpack_eights<7>(source, eights, out + i);
    }
    for (i += 8 * eights; i < count; ++i) out[i] = code_at(row, bits, first + i);
}

/// Packs `count` codes into a row from its start; codes have no bits above `bits`.
inline void pack_codes(const std::uint8_t* codes, int bits, std::size_t count, std::uint8_t* row) noexcept {
    std::uint32_t pending = 0;
    int held = 0;
    for (std::size_t i = 0; i < count; ++i) {
        pending |= static_cast<std::uint32_t>(codes[i]) << held;
        for (held += bits; held >= 8; held -= 8, pending >>= 8) *row++ = static_cast<std::uint8_t>(pending);
    }
    if (held > 0) *row = static_cast<std::uint8_t>(pending);
}

}  // namespace detail

class BitMatrix {
public:
    BitMatrix() = default;

    [[nodiscard]] static std::optional<std::size_t> row_bytes_for(std::size_t cols, int bits) noexcept {
        const auto total = checked_multiply(cols, static_cast<std::size_t>(bits));
        if (!total) return std::nullopt;
        return ceil_div(*total, 8);
    }

    /// All codes zero. Error: the size overflows, or memory is exhausted.
    [[nodiscard]] static Result<BitMatrix> allocate(std::size_t rows, std::size_t cols, int bits) {
        const auto row_bytes = row_bytes_for(cols, bits);
        if (!row_bytes)
            return fail(ErrorKind::bad_input, "a row of ", cols, " codes of ", bits, " bits overflows");
        auto bytes = Tensor::allocate(Scalar::u8, {rows, *row_bytes});
        if (!bytes) return Unexpected{std::move(bytes).error()};
        const auto memory = bytes->mutable_bytes();
        if (!memory.empty()) std::memset(memory.data(), 0, memory.size());
        return BitMatrix(rows, cols, bits, *row_bytes, *std::move(bytes));
    }

    /// Codes that already lie packed in `bytes`, a u8 tensor of shape (rows, row_bytes).
    [[nodiscard]] static Result<BitMatrix> from_bytes(std::size_t rows, std::size_t cols, int bits,
                                                      Tensor bytes) {
        const auto row_bytes = row_bytes_for(cols, bits);
        if (!row_bytes || bytes.type() != Scalar::u8 || bytes.shape() != Tensor::Shape{rows, *row_bytes})
            return fail(ErrorKind::bad_input, "packed codes of ", rows, " x ", cols, " at ", bits,
                        " bits need a u8 tensor of shape (", rows, ", ", row_bytes.value_or(0), "), not ",
                        name(bytes.type()), " ", shape_text(bytes.shape()));
        return BitMatrix(rows, cols, bits, *row_bytes, std::move(bytes));
    }

    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t cols() const noexcept { return cols_; }
    [[nodiscard]] int bits() const noexcept { return bits_; }
    [[nodiscard]] std::size_t row_bytes() const noexcept { return row_bytes_; }
    [[nodiscard]] const Tensor& bytes() const noexcept { return bytes_; }

    [[nodiscard]] const std::uint8_t* row(std::size_t r) const noexcept {
        return reinterpret_cast<const std::uint8_t*>(bytes_.bytes().data()) + r * row_bytes_;
    }
    /// Null when the bytes are read-only.
    [[nodiscard]] std::uint8_t* mutable_row(std::size_t r) noexcept {
        const auto memory = bytes_.mutable_bytes();
        return memory.empty() ? nullptr : reinterpret_cast<std::uint8_t*>(memory.data()) + r * row_bytes_;
    }

    [[nodiscard]] std::uint8_t code(std::size_t r, std::size_t c) const noexcept {
        return detail::code_at(row(r), bits_, c);
    }
    /// Codes [first, first + out.size()) of row r.
    void unpack(std::size_t r, std::size_t first, std::span<std::uint8_t> out) const noexcept {
        detail::unpack_codes(row(r), bits_, first, out.size(), out.data());
    }
    /// Writes a whole row; codes.size() == cols(). Precondition: the bytes are mutable.
    void pack_row(std::size_t r, std::span<const std::uint8_t> codes) noexcept {
        detail::pack_codes(codes.data(), bits_, codes.size(), mutable_row(r));
    }

private:
    BitMatrix(std::size_t rows, std::size_t cols, int bits, std::size_t row_bytes, Tensor bytes)
        : rows_(rows), cols_(cols), bits_(bits), row_bytes_(row_bytes), bytes_(std::move(bytes)) {}

    std::size_t rows_ = 0;
    std::size_t cols_ = 0;
    int bits_ = 8;
    std::size_t row_bytes_ = 0;
    Tensor bytes_;
};

}  // namespace fewbit::inline v0
