// GGUF files: what is written comes back, models in parts, and the files of the reference where they are at
// hand. gguf_hostile_test.cpp has files that lie.
#include "fewbit/io/gguf.hpp"

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "io_support.hpp"
#include "support/catch.hpp"
#include "support/shared_data.hpp"

using namespace fewbit;
using namespace fewbit_test;
using io::GgufKind;
using io::GgufValue;
using Json = nlohmann::json;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

io::GgufSource source(std::string name, std::string_view type, std::vector<std::size_t> sizes,
                      std::string data) {
    return {std::move(name), io::gguf_tensor_type(type), std::move(sizes),
            [data = std::move(data)](FunctionRef<Result<void>(std::span<const std::byte>)> sink) {
                // In two pieces: sinks take any.
                auto done = sink(bytes_of(data).first(data.size() / 2));
                return done ? sink(bytes_of(data).subspan(data.size() / 2)) : std::move(done);
            }};
}

/// What the file held, written again.
std::string rewritten(const io::GgufFile& file, const fs::path& path) {
    std::vector<io::GgufSource> sources;
    for (const io::GgufTensor& tensor : file.tensors)
        sources.push_back({tensor.name, tensor.type, tensor.sizes,
                           [bytes = tensor.bytes](auto sink) { return sink(bytes); }});
    const auto done = io::write_gguf(path, file.metadata, sources);
    INFO(message(done));
    REQUIRE(done);
    return read_file(path);
}

io::GgufMetadata some_metadata() {
    const std::vector<std::string> texts{"", "a", "\xE2\x96\x81the", std::string("nul\0inside", 10)};
    const std::vector<float> floats{0.0f, -0.0f, 1e-40f};
    const std::vector<std::int32_t> integers{0, -1, 2147483647};
    return {{"general.architecture", GgufValue::of_text("llama")},
            {"a.u16", GgufValue::of_u16(65535)},
            {"a.u32", GgufValue::of_u32(4294967295u)},
            {"a.i32", GgufValue::of_i32(-5)},
            {"a.u64", GgufValue::of_u64(~std::uint64_t{0})},
            {"a.f32", GgufValue::of_f32(0.5f)},
            {"a.bool", GgufValue::of_boolean(true)},
            {"a.texts", GgufValue::of_texts(texts)},
            {"a.floats", GgufValue::of_floats(floats)},
            {"a.integers", GgufValue::of_integers(integers)},
            {"a.none", GgufValue::of_texts({})}};
}

Json valid_files() {
    const auto path = testing::shared_file("vectors/ggml/gguf/valid.json");
    return path.empty() ? Json() : Json::parse(read_file(path));
}

}  // namespace

TEST_CASE("gguf: what is written comes back, getters know their kinds", "[io]") {
    const TempFolder folder;
    const std::string floats(4 * 6, 'f'), blocks(18 * 4, 'q');
    REQUIRE(io::write_gguf(
        folder / "a.gguf", some_metadata(),
        std::vector{source("norm", "f32", {6}, floats), source("weights", "q4_0", {64, 2}, blocks),
                    source("none", "f16", {0, 3}, ""), source("scalar", "f32", {}, "abcd"),
                    source("ones", "i8", {3, 1, 1, 1}, "xyz")}));
    const auto file = io::open_gguf(folder / "a.gguf");
    INFO(message(file));
    REQUIRE(file);
    CHECK(file->metadata == some_metadata());
    CHECK(file->alignment == 32);
    REQUIRE(file->tensors.size() == 5);
    for (const io::GgufTensor& tensor : file->tensors) {
        INFO(tensor.name);
        CHECK(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % 32 == 0);
    }
    const io::GgufTensor* weights = file->find("weights");
    REQUIRE(weights != nullptr);
    CHECK(weights->type->blocks == ggml::BlockType::q4_0);
    CHECK(weights->row_elements() == 64);
    CHECK(weights->rows() == 2);
    CHECK(std::memcmp(weights->bytes.data(), blocks.data(), blocks.size()) == 0);
    CHECK(file->find("scalar")->sizes == std::vector<std::size_t>{1});
    CHECK(file->find("ones")->sizes == std::vector<std::size_t>{3});
    CHECK(file->find("nothing") == nullptr);
    CHECK(read_file(folder / "a.gguf").size() % 32 == 0);

    const auto value = [&](std::string_view key) { return *find(file->metadata, key); };
    CHECK(value("general.architecture").as_text() == "llama");
    CHECK(value("a.u16").as_unsigned() == 65535u);
    CHECK(value("a.u64").as_unsigned() == ~std::uint64_t{0});
    CHECK_FALSE(value("a.u64").as_signed());
    CHECK(value("a.i32").as_signed() == -5);
    CHECK_FALSE(value("a.i32").as_unsigned());
    CHECK(value("a.f32").as_real() == 0.5);
    CHECK(value("a.bool").as_boolean() == true);
    CHECK(value("a.texts").as_texts()->at(3) == std::string_view("nul\0inside", 10));
    CHECK(value("a.floats").as_floats()->at(2) == 1e-40f);
    CHECK(value("a.integers").as_integers() == std::vector<std::int64_t>{0, -1, 2147483647});
    CHECK(value("a.none").as_texts()->empty());
    // A getter of another kind gives nothing.
    for (const auto& [key, each] : file->metadata) {
        INFO(key);
        int answers = 0;
        answers += each.as_text().has_value();
        answers += each.as_real().has_value();
        answers += each.as_boolean().has_value();
        answers += each.as_unsigned().has_value() || each.as_signed().has_value();
        answers += each.as_texts().has_value();
        answers += each.as_floats().has_value();
        answers += each.as_integers().has_value();
        CHECK(answers == 1);
    }
    CHECK(find(file->metadata, "a") == nullptr);
    CHECK(rewritten(*file, folder / "b.gguf") == read_file(folder / "a.gguf"));
}

TEST_CASE("gguf: the writer refuses what readers would, and leaves nothing behind", "[io]") {
    const TempFolder folder;
    const auto refused = [&](const io::GgufMetadata& metadata, std::vector<io::GgufSource> tensors) {
        const auto done = io::write_gguf(folder / "a.gguf", metadata, tensors);
        CHECK(folder.files() == 0);
        return message(done);
    };
    using Metadata = io::GgufMetadata;
    CHECK(contains(refused(Metadata{{"", GgufValue::of_u32(1)}}, {}), "a key cannot be ''"));
    CHECK(contains(refused(Metadata{{"k", GgufValue::of_u32(1)}, {"k", GgufValue::of_u32(2)}}, {}), "twice"));
    CHECK(contains(refused({{"general.alignment", GgufValue::of_u64(64)}}, {}), "u64, not u32"));
    for (const std::uint32_t alignment : {0u, 24u, 1u << 21})
        CHECK(contains(refused({{"general.alignment", GgufValue::of_u32(alignment)}}, {}), "power of two"));
    CHECK(contains(refused({}, {source("", "f32", {1}, "abcd")}), "cannot be called ''"));
    CHECK(contains(refused({}, {source(std::string(64, 'n'), "f32", {1}, "abcd")}), "1 to 63 bytes"));
    CHECK(contains(refused({}, {source("t", "f32", {1}, "abcd"), source("t", "f32", {1}, "abcd")}),
                   "two tensors are called 't'"));
    CHECK(contains(refused({}, {source("t", "f32", {1, 1, 1, 1, 1}, "abcd")}), "5 dimensions"));
    CHECK(contains(refused({}, {source("t", "q4_k", {100}, "")}),
                   "rows of 100 elements do not fill blocks of 256"));
    CHECK(contains(refused({}, {source("t", "nothing", {1}, "")}), "no type"));
    CHECK(contains(refused({}, {source("t", "f32", {std::size_t{1} << 40, std::size_t{1} << 40}, "")}),
                   "overflows"));
    CHECK(contains(refused({}, {source("t", "f32", {2}, "short")}), "produced 5 bytes, not the 8"));
    CHECK(contains(refused({}, {source("t", "f32", {1}, "longer")}), "not the 4"));
}

TEST_CASE("gguf: a model in parts is one, whichever part is named", "[io]") {
    const TempFolder folder;
    const auto name = [](int part, int parts) {
        char text[64];
        std::snprintf(text, sizeof text, "m\xC3\xA4-%05d-of-%05d.gguf", part, parts);
        return fs::path(std::u8string(reinterpret_cast<const char8_t*>(text)));
    };
    const auto write_part = [&](int part, int of, int no, int count, const std::string& tensor,
                                std::int32_t total = 3) {
        io::GgufMetadata metadata{{"split.no", GgufValue::of_u16(static_cast<std::uint16_t>(no))},
                                  {"split.count", GgufValue::of_u16(static_cast<std::uint16_t>(count))},
                                  {"split.tensors.count", GgufValue::of_i32(total)}};
        if (no == 0) metadata.push_back({"general.name", GgufValue::of_text("whole")});
        REQUIRE(io::write_gguf(folder / name(part, of), metadata,
                               std::vector{source(tensor, "f32", {1}, tensor + "bcd")}));
    };
    write_part(1, 3, 0, 3, "x");
    write_part(2, 3, 1, 3, "y");
    write_part(3, 3, 2, 3, "z");
    for (const int part : {1, 2, 3}) {
        const auto file = io::open_gguf(folder / name(part, 3));
        INFO(message(file));
        REQUIRE(file);
        CHECK(find(file->metadata, "general.name")->as_text() == "whole");
        REQUIRE(file->tensors.size() == 3);
        CHECK(file->owners.size() == 3);
        for (const char* tensor : {"x", "y", "z"})
            CHECK(static_cast<char>(file->find(tensor)->bytes[0]) == *tensor);
    }
    const auto refusal = [&] { return message(io::open_gguf(folder / name(1, 3))); };
    write_part(2, 3, 2, 3, "y");
    CHECK(contains(refusal(), "is not part 2 of 3"));
    write_part(2, 3, 1, 4, "y");
    CHECK(contains(refusal(), "is not part 2 of 3"));
    write_part(2, 3, 1, 3, "x");
    CHECK(contains(refusal(), "an earlier part holds 'x' too"));
    write_part(2, 3, 1, 3, "y");
    write_part(1, 3, 0, 3, "x", 4);
    CHECK(contains(refusal(), "promises 4 tensors in 3 parts, but they hold 3"));
    fs::remove(folder / name(3, 3));
    CHECK(contains(refusal(), "00003-of-00003"));
    fs::copy_file(folder / name(1, 3), folder / "other.gguf");
    CHECK(contains(message(io::open_gguf(folder / "other.gguf")), "its name must end like"));
    fs::copy_file(folder / name(1, 3), folder / name(1, 2));
    CHECK(contains(message(io::open_gguf(folder / name(1, 2))), "its name must end like"));
}

TEST_CASE("gguf: the reference's files hold what they should, and are written again byte for byte", "[io]") {
    const Json files = valid_files();
    if (files.is_null()) FEWBIT_SKIP("vectors/ggml is not in FEWBIT_SHARED_DIR");
    const TempFolder folder;
    for (const Json& expected : files) {
        const std::string name = expected["file"];
        INFO(name);
        const auto path = testing::shared_file("vectors/ggml/gguf/" + name);
        const auto file = io::open_gguf(path);
        INFO(message(file));
        REQUIRE(file);
        CHECK(file->alignment == expected["alignment"]);
        REQUIRE(file->metadata.size() == expected["kv"].size());
        for (std::size_t i = 0; i < file->metadata.size(); ++i) {
            const auto& [key, value] = file->metadata[i];
            const Json& entry = expected["kv"][i];
            INFO(key);
            CHECK(key == entry["key"]);
            const Json& content = entry["value"];
            const std::string type = entry["type"];
            if (type == "str") {
                CHECK(value.as_text() == content["utf8"].get<std::string>());
            } else if (type == "bool") {
                CHECK(value.as_boolean() == content.get<bool>());
            } else if (type == "f32" || type == "f64") {
                const auto bits = std::stoull(content[type + "_bits"].get<std::string>(), nullptr, 16);
                CHECK(value.as_real() ==
                      (type == "f64"
                           ? std::bit_cast<double>(std::uint64_t{bits})
                           : static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits)))));
            } else if (type == "arr") {
                CHECK(value.kind() == GgufKind::array);
                CHECK(value.count() == entry["count"]);
                const std::string element = entry["element_type"];
                if (element == "str") {
                    const auto texts = value.as_texts();
                    REQUIRE(texts);
                    for (std::size_t t = 0; t < texts->size(); ++t)
                        CHECK((*texts)[t] == content[t]["utf8"].get<std::string>());
                } else if (element == "f32") {
                    const auto floats = value.as_floats();
                    REQUIRE(floats);
                    for (std::size_t t = 0; t < floats->size(); ++t)
                        CHECK(std::bit_cast<std::uint32_t>((*floats)[t]) ==
                              std::stoul(content[t]["f32_bits"].get<std::string>(), nullptr, 16));
                } else if (element[0] == 'i' || (element[0] == 'u' && element != "u64")) {
                    const auto integers = value.as_integers();
                    REQUIRE(integers);
                    for (std::size_t t = 0; t < integers->size(); ++t)
                        CHECK(std::to_string((*integers)[t]) == content[t].get<std::string>());
                }
            } else if (type[0] == 'u') {
                CHECK(std::to_string(*value.as_unsigned()) == content.get<std::string>());
            } else {
                CHECK(std::to_string(*value.as_signed()) == content.get<std::string>());
            }
        }
        const std::string whole = read_file(path);
        REQUIRE(file->tensors.size() == expected["tensors"].size());
        for (std::size_t i = 0; i < file->tensors.size(); ++i) {
            const io::GgufTensor& tensor = file->tensors[i];
            const Json& entry = expected["tensors"][i];
            INFO(tensor.name);
            CHECK(tensor.name == entry["name"]);
            CHECK(tensor.type->id == entry["type_id"]);
            CHECK(tensor.sizes == entry["dims_fastest_first"].get<std::vector<std::size_t>>());
            REQUIRE(tensor.bytes.size() == entry["nbytes"]);
            CHECK(std::memcmp(tensor.bytes.data(), whole.data() + entry["file_offset"].get<std::size_t>(),
                              tensor.bytes.size()) == 0);
        }
        CHECK(rewritten(*file, folder / "again.gguf") == whole);
    }
}
