// docs/files.md shows real bytes: the examples are made again here and compared with the page.
#include <cstdlib>

#include "fewbit/io/model_safetensors.hpp"
#include "io_support.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

/// 16 bytes a line: offset, bytes, characters.
std::string hex_dump(std::string_view bytes) {
    constexpr const char* digits = "0123456789abcdef";
    std::string out;
    for (std::size_t line = 0; line < bytes.size(); line += 16) {
        for (int shift = 8; shift >= 0; shift -= 4) out += digits[line >> shift & 15];
        out += "  ";
        std::string shown;
        for (std::size_t i = line; i < line + 16; ++i) {
            if (i < bytes.size()) {
                const auto byte = static_cast<unsigned char>(bytes[i]);
                out += digits[byte >> 4];
                out += digits[byte & 15];
                shown += byte >= 0x20 && byte < 0x7F ? static_cast<char>(byte) : '.';
            } else {
                out += "  ";
            }
            out += i % 8 == 7 ? "  " : " ";
        }
        out += shown + "\n";
    }
    return out;
}

/// The layer of the page: 2 x 5 of int4-g8-asym, one group per row.
io::ModelFile example() {
    auto w = *QuantizedMatrix::allocate(*parse_format("int4-g8-asym"), 2, 5);
    w.codes.pack_row(0, std::vector<std::uint8_t>{1, 2, 3, 4, 5});
    w.codes.pack_row(1, std::vector<std::uint8_t>{15, 14, 13, 12, 11});
    w.zeros.pack_row(0, std::vector<std::uint8_t>{8});
    w.zeros.pack_row(1, std::vector<std::uint8_t>{7});
    w.set_scale(0, 0, 0.5f);
    w.set_scale(1, 0, 2.0f);
    io::ModelFile model;
    model.linears["up"].weights = w;
    model.linears["up"].bias = {1.0f, -1.0f};
    return model;
}

}  // namespace

TEST_CASE("the examples of docs/files.md are what is written", "[io][docs]") {
    const char* root = std::getenv("FEWBIT_SOURCE_DIR");
    if (root == nullptr) FEWBIT_SKIP("FEWBIT_SOURCE_DIR does not say where docs/files.md is");
    const std::string page = read_file(fs::path(root) / "docs" / "files.md");
    const TempFolder folder;

    Tensor counts = *Tensor::allocate(Scalar::u8, {3}), ranges = *Tensor::allocate(Scalar::f32, {1, 2});
    for (std::uint8_t i = 0; i < 3; ++i) counts.mutable_bytes()[i] = std::byte{i};
    ranges.as_mutable<float>()[0] = -1.0f;
    ranges.as_mutable<float>()[1] = 1.5f;
    REQUIRE(io::save_tensors(folder / "small", {{"counts", counts}, {"ranges", ranges}}, {{"tokens", "64"}}));
    const std::string small = hex_dump(read_file(folder / "small"));
    INFO(small);
    CHECK(contains(page, small));

    REQUIRE(io::write_safetensors_model(folder / "layer", example()));
    const std::string bytes = read_file(folder / "layer");
    const auto file = parse(bytes);
    REQUIRE(file);
    std::size_t data = 0;
    std::string metadata;
    for (const auto& [name, entry] : file->entries()) data += entry.size_bytes;
    for (const auto& [key, value] : file->metadata()) metadata += key + " = " + value + "\n";
    const std::string dump = hex_dump(std::string_view(bytes).substr(bytes.size() - data));
    INFO(metadata << dump);
    CHECK(contains(page, metadata));
    CHECK(contains(page, dump));
    const std::string header = bytes.substr(8, bytes.size() - data - 8);
    const std::string tensors = header.substr(header.find("\"up.bias\""));
    INFO(tensors);
    std::string joined;  // the page breaks the header after each tensor
    for (const char c : page)
        if (c != '\n') joined += c;
    CHECK(contains(joined, tensors.substr(0, tensors.find_last_not_of(' ') + 1)));
}
