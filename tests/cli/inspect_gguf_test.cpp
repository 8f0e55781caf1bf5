// `fewbit inspect` of GGUF files: what they hold, NaN in blocks, names that a terminal would act on.
#include "cli/cli_support.hpp"
#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/io/gguf.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

io::GgufSource source(std::string name, std::string_view type, std::vector<std::size_t> sizes,
                      std::vector<std::uint8_t> bytes) {
    return {std::move(name), io::gguf_tensor_type(type), std::move(sizes),
            [bytes = std::move(bytes)](auto sink) { return sink(std::as_bytes(std::span(bytes))); }};
}

/// Two rows of 256 in q4_k; `damage` sets the scale of the second block to infinity.
std::vector<std::uint8_t> blocks(bool damage) {
    std::vector<float> x(512);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) - 8;
    std::vector<std::uint8_t> bytes(2 * 144);
    ggml::encode_row(ggml::BlockType::q4_k, x, {}, bytes);
    if (damage) {
        bytes[144] = 0x00;
        bytes[145] = 0x7C;
    }
    return bytes;
}

void write(const std::string& path, bool damage) {
    const io::GgufMetadata metadata{{"general.architecture", io::GgufValue::of_text("llama")},
                                    {"general.name", io::GgufValue::of_text("red \x1B[31m")},
                                    {"tokens", io::GgufValue::of_texts(std::vector<std::string>{"a", "b"})}};
    REQUIRE(io::write_gguf(path, metadata,
                           std::vector{source("blk.0.ffn_up.weight", "q4_k", {256, 2}, blocks(damage)),
                                       source("norm\x1B[2J", "f32", {1}, {0, 0, 0x80, 0x3F}),
                                       source("words", "iq2_xxs", {256}, std::vector<std::uint8_t>(66))}));
}

}  // namespace

TEST_CASE("inspect shows GGUF files, and nothing in them reaches the terminal") {
    const Folder folder;
    const std::string path = folder / "model.gguf", json = folder / "out.json";
    write(path, false);
    const Outcome shown = run({"inspect", path, "--json", json});
    check_done(shown);
    for (const char* word : {"GGUF", "architecture \"llama\"", "blk.0.ffn_up.weight", "2 x 256", "q4_k",
                             "4.500", "1 iq2_xxs", "All numbers are finite", "llama.cpp"}) {
        INFO(word);
        CHECK(shown.out.find(word) != std::string::npos);
    }
    CHECK(shown.out.find('\x1B') == std::string::npos);
    CHECK(shown.out.find("\\x1B[2J") != std::string::npos);
    const Json found = read_json(json);
    CHECK(found["type"] == "GGUF");
    CHECK(found["parameters"] == 512 + 1 + 256);
    CHECK(found["tensors"][0]["shape"] == Json({2, 256}));
    CHECK(found["tensors"][0]["format"] == "q4_k");
    CHECK(found["metadata"]["tokens"] == "2 x text");
    CHECK(found["not_finite"].empty());

    write(path, true);
    const Outcome damaged = run({"inspect", path, "--json", json});
    CHECK(damaged.status == 1);
    CHECK(read_json(json)["not_finite"][0]["tensor"] == "blk.0.ffn_up.weight");
    CHECK(read_json(json)["not_finite"][0]["index"][0] == 1);
}
