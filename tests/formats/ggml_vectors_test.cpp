// ggml's blocks against bytes of the reference: every value decoded, every block encoded, with and without
// importance. The vectors are in FEWBIT_SHARED_DIR/vectors/ggml; ggml_blocks_test.cpp needs none.
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/formats/ggml/encoders.hpp"
#include "support/catch.hpp"
#include "support/shared_data.hpp"

using namespace fewbit;
using namespace fewbit::testing;
using Json = nlohmann::json;

namespace {

const std::string folder = "vectors/ggml/";

template <class T>
std::vector<T> read_vector(const std::string& name) {
    const std::string bytes = read_text(shared_file(folder + name));
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
}

/// A type of the manifest that this library has; "q4_K" is q4_k here.
std::optional<ggml::BlockType> type_of(const Json& entry) {
    std::string name = entry["type"];
    std::ranges::transform(name, name.begin(), [](char c) { return c == 'K' ? 'k' : c; });
    return ggml::parse_block_type(name);
}

Json manifest() {
    const auto path = shared_file(folder + "manifest.json");
    return path.empty() ? Json() : Json::parse(read_text(path));
}

}  // namespace

TEST_CASE("ggml vectors: every block decodes to the reference's bits") {
    const Json all = manifest();
    if (all.is_null()) FEWBIT_SKIP("vectors/ggml is not in FEWBIT_SHARED_DIR");
    std::set<ggml::BlockType> seen;
    for (const Json& entry : all["types"]) {
        const auto type = type_of(entry);
        if (!type) continue;
        INFO(entry["name"]);
        const auto& t = ggml::traits(*type);
        CHECK(t.id == entry["type_id"]);
        CHECK(t.elements == entry["block_elements"]);
        CHECK(t.bytes == entry["block_bytes"]);
        const auto bytes = read_vector<std::uint8_t>(entry["quantized"]["file"]);
        const auto expected = read_vector<std::uint32_t>(entry["dequantized"]["file"]);
        REQUIRE(expected.size() == bytes.size() / t.bytes * t.elements);
        std::size_t wrong = 0;
        std::vector<float> values(t.elements);
        for (std::size_t b = 0; b < bytes.size() / t.bytes; ++b) {
            ggml::dequantize_block(*type, bytes.data() + b * t.bytes, values.data());
            wrong += std::memcmp(values.data(), expected.data() + b * t.elements, 4 * t.elements) != 0;
        }
        CHECK(wrong == 0);
        seen.insert(*type);
    }
    CHECK(seen.size() == ggml::block_types.size());
}

TEST_CASE("ggml vectors: every row encodes to the reference's bytes, by every encoder") {
    const Json all = manifest();
    if (all.is_null()) FEWBIT_SKIP("vectors/ggml is not in FEWBIT_SHARED_DIR");
    const auto input = read_vector<float>("input.f32");
    const auto importance = read_vector<float>("imatrix.f32");
    std::size_t encoded = 0;
    for (const Json& entry : all["types"]) {
        const auto type = type_of(entry);
        const std::string name = entry["name"];
        if (!type || name.ends_with(".random") || name.ends_with(".rowref")) continue;
        INFO(name);
        const auto& t = ggml::traits(*type);
        const std::size_t rows = entry["rows"], cols = entry["cols"];
        const auto expected = read_vector<std::uint8_t>(entry["quantized"]["file"]);
        std::set<std::size_t> undefined;
        if (entry.contains("undefined_blocks"))
            for (const Json& block : entry["undefined_blocks"]) undefined.insert(block.get<std::size_t>());
        std::vector<std::uint8_t> bytes(rows * ggml::row_bytes(*type, cols));
        REQUIRE(bytes.size() == expected.size());
        const std::size_t stride = ggml::row_bytes(*type, cols);
        for (const ggml::Encoder& encoder : ggml::encoders()) {
            INFO(encoder.name);
            for (std::size_t r = 0; r < rows; ++r)
                encoder.encode_row(*type, {input.data() + r * cols, cols},
                                   name.ends_with(".imatrix") ? std::span<const float>(importance)
                                                              : std::span<const float>{},
                                   {bytes.data() + r * stride, stride});
            std::size_t wrong = 0, first = bytes.size();
            for (std::size_t b = 0; b < bytes.size() / t.bytes; ++b)
                if (undefined.count(b) == 0 &&
                    std::memcmp(bytes.data() + b * t.bytes, expected.data() + b * t.bytes, t.bytes) != 0) {
                    ++wrong;
                    first = std::min(first, b);
                }
            INFO("first wrong block " << first << " of " << bytes.size() / t.bytes);
            CHECK(wrong == 0);
        }
        ++encoded;
    }
    CHECK(encoded >= 30);
}
