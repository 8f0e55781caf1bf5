// BitMatrix: pack and unpack for all widths, lengths and offsets, against a bit-by-bit oracle; buffers of the
// exact size, so that an address sanitizer sees a read past the last byte.
#include "fewbit/formats/bit_matrix.hpp"

#include <memory>
#include <vector>

#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

std::vector<std::uint8_t> random_codes(testing::Random& random, std::size_t count, int bits) {
    std::vector<std::uint8_t> codes(count);
    for (auto& code : codes) code = static_cast<std::uint8_t>(random.bits() & ((1u << bits) - 1));
    return codes;
}

/// Code c of a row, one bit at a time: what the head of bit_matrix.hpp says.
unsigned code_by_bits(const std::uint8_t* row, int bits, std::size_t c) {
    unsigned code = 0;
    for (int b = 0; b < bits; ++b) {
        const std::size_t bit = c * static_cast<std::size_t>(bits) + static_cast<std::size_t>(b);
        code |= static_cast<unsigned>(row[bit / 8] >> (bit % 8) & 1u) << b;
    }
    return code;
}

}  // namespace

TEST_CASE("bit matrix: unpack is the inverse of pack, at every offset", "[formats][bits]") {
    testing::Random random(1);
    for (int bits = 2; bits <= 8; ++bits)
        for (const std::size_t cols : {0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 23, 33, 67}) {
            INFO("bits " << bits << " cols " << cols);
            const auto codes = random_codes(random, cols, bits);
            const std::size_t bytes = *BitMatrix::row_bytes_for(cols, bits);
            CHECK(bytes == (cols * static_cast<std::size_t>(bits) + 7) / 8);
            const std::unique_ptr<std::uint8_t[]> row(new std::uint8_t[bytes]);  // exactly as long as the row
            detail::pack_codes(codes.data(), bits, cols, row.get());
            std::size_t wrong = 0;
            for (std::size_t c = 0; c < cols; ++c) wrong += code_by_bits(row.get(), bits, c) != codes[c];
            if (const auto used = cols * static_cast<std::size_t>(bits) % 8; used != 0)
                wrong += row[bytes - 1] >> used != 0;
            for (std::size_t first = 0; first <= cols; ++first)
                for (std::size_t count = 0; first + count <= cols; ++count) {
                    const std::unique_ptr<std::uint8_t[]> out(new std::uint8_t[count]);
                    detail::unpack_codes(row.get(), bits, first, count, out.get());
                    for (std::size_t i = 0; i < count; ++i) wrong += out[i] != codes[first + i];
                }
            CHECK(wrong == 0);
        }
}

TEST_CASE("bit matrix: rows start at whole bytes and do not touch each other", "[formats][bits]") {
    testing::Random random(2);
    for (int bits = 2; bits <= 8; ++bits) {
        auto matrix = BitMatrix::allocate(5, 13, bits);
        REQUIRE(matrix);
        std::vector<std::vector<std::uint8_t>> rows;
        for (std::size_t r = 0; r < 5; ++r) rows.push_back(random_codes(random, 13, bits));
        for (const std::size_t r : {3, 0, 4, 1, 2}) matrix->pack_row(r, rows[r]);
        std::size_t wrong = 0;
        for (std::size_t r = 0; r < 5; ++r)
            for (std::size_t c = 0; c < 13; ++c) wrong += matrix->code(r, c) != rows[r][c];
        CHECK(wrong == 0);
        // The same bytes, taken over.
        auto again = BitMatrix::from_bytes(5, 13, bits, matrix->bytes());
        REQUIRE(again);
        std::vector<std::uint8_t> out(6);
        again->unpack(4, 7, out);
        CHECK(std::equal(out.begin(), out.end(), rows[4].begin() + 7));
    }
}

TEST_CASE("bit matrix: three bits, byte for byte", "[formats][bits]") {
    auto matrix = BitMatrix::allocate(1, 4, 3);
    REQUIRE(matrix);
    const std::uint8_t codes[] = {0b001, 0b010, 0b111, 0b100};
    matrix->pack_row(0, codes);
    REQUIRE(matrix->row_bytes() == 2);
    CHECK(matrix->row(0)[0] == 0b11'010'001);
    CHECK(matrix->row(0)[1] == 0b0000'100'1);
}

TEST_CASE("bit matrix: sizes that overflow and bytes that do not fit are refused", "[formats][bits]") {
    const std::size_t huge = std::size_t{1} << 62;
    CHECK(!BitMatrix::allocate(1, huge, 8));
    CHECK(!BitMatrix::allocate(huge, huge, 2));
    CHECK(!BitMatrix::allocate(0, huge, 8));  // no rows do not excuse a row that overflows
    CHECK(BitMatrix::allocate(0, 10, 4));
    CHECK(BitMatrix::allocate(10, 0, 4));
    const auto short_bytes = Tensor::allocate(Scalar::u8, {2, 4});
    const auto refused = BitMatrix::from_bytes(2, 9, 4, *short_bytes);
    REQUIRE(!refused);
    CHECK(refused.error().message ==
          "packed codes of 2 x 9 at 4 bits need a u8 tensor of shape (2, 5), not u8 (2, 4)");
    CHECK(!BitMatrix::from_bytes(2, 8, 4, *Tensor::allocate(Scalar::i8, {2, 4})));
}
