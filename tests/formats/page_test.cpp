// docs/formats.md is true: its tables of bits per weight and of packed bytes are what the code gives.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "fewbit/formats/bit_matrix.hpp"
#include "fewbit/formats/format.hpp"
#include "support/catch.hpp"

using namespace fewbit;

namespace {

std::string page_part(const std::string& marker) {
    const char* root = std::getenv("FEWBIT_SOURCE_DIR");
    std::ifstream file(std::string(root == nullptr ? "." : root) + "/docs/formats.md");
    std::stringstream page;
    page << file.rdbuf();
    const std::string all = page.str(), begin = "<!-- " + marker + ":begin -->\n",
                      end = "<!-- " + marker + ":end -->";
    const std::size_t from = all.find(begin), to = all.find(end);
    REQUIRE(from != std::string::npos);
    REQUIRE(to != std::string::npos);
    return all.substr(from + begin.size(), to - from - begin.size());
}

}  // namespace

TEST_CASE("docs/formats.md: bits per weight") {
    std::istringstream lines(page_part("bits"));
    std::size_t rows = 0;
    for (std::string line; std::getline(lines, line); ++rows) {
        const std::string word = line.substr(2, line.find(' ', 2) - 2);
        const auto format = parse_format(word);
        INFO(line);
        REQUIRE(format);
        char expected[100];
        std::snprintf(expected, sizeof expected, "| %s | %.6f |", name(*format).c_str(),
                      bits_per_weight(*format, 4096, 4096));
        CHECK(line == expected);
    }
    CHECK(rows == 13);
}

TEST_CASE("docs/formats.md: the bit streams") {
    std::string expected;
    for (int bits = 2; bits <= 8; ++bits) {
        auto matrix = BitMatrix::allocate(1, 11, bits);
        std::vector<std::uint8_t> codes;
        for (int i = 0; i < 11; ++i) codes.push_back(static_cast<std::uint8_t>(i & ((1 << bits) - 1)));
        matrix->pack_row(0, codes);
        expected += text("    ", bits, " bits  ");
        for (std::size_t i = 0; i < matrix->row_bytes(); ++i) {
            char byte[8];
            std::snprintf(byte, sizeof byte, " %02x", matrix->row(0)[i]);
            expected += byte;
        }
        expected += "\n";
    }
    CHECK(page_part("stream") == expected);
}
