// Models in several safetensors files: read as one, and indexes that lie.
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "io_support.hpp"
#include "model_support.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

Tensor bytes_tensor(char value) {
    auto tensor = Tensor::allocate(Scalar::u8, {3});
    for (std::byte& byte : tensor->mutable_bytes()) byte = static_cast<std::byte>(value);
    return *tensor;
}

}  // namespace

TEST_CASE("a model in several files is read as one", "[io]") {
    const TempFolder folder;
    const io::ModelFile model = small_model(*parse_format("int4-g8-asym"), true);
    REQUIRE(io::write_safetensors_model(folder / "whole", model));
    const auto whole = io::open_safetensors(folder / "whole");
    REQUIRE(whole);
    // Every second tensor in another file; the metadata, which says what the layers are, in the first.
    std::map<std::string, Tensor> parts[2];
    std::string map;
    std::size_t count = 0;
    for (const auto& [name, entry] : whole->entries()) {
        const std::size_t part = count++ % 2;
        parts[part][name] = *whole->tensor(name);
        map += text(map.empty() ? "" : ",", "\"", name, "\":\"part-", part, ".safetensors\"");
    }
    REQUIRE(io::save_tensors(folder / "part-0.safetensors", parts[0], whole->metadata()));
    REQUIRE(io::save_tensors(folder / "part-1.safetensors", parts[1], {{"format", "pt"}}));
    write_file(folder / "model.safetensors.index.json",
               "{\"metadata\":{\"total_size\":1,\"more\":[1,{\"a\":2}]},\"weight_map\":{" + map + "}}");
    for (const fs::path& path : {folder.path(), folder / "model.safetensors.index.json"}) {
        const auto back = io::read_safetensors_model(path);
        REQUIRE(message(back) == "");
        CHECK(difference(model, *back) == "");
    }
    const auto joined = io::open_safetensors_index(folder / "model.safetensors.index.json");
    REQUIRE(joined);
    for (const auto& [name, entry] : whole->entries()) {
        const auto expected = whole->bytes(entry), found = joined->bytes(*joined->find(name));
        CHECK(std::string_view(reinterpret_cast<const char*>(found.data()), found.size()) ==
              std::string_view(reinterpret_cast<const char*>(expected.data()), expected.size()));
    }
}

TEST_CASE("indexes that lie are refused with a sentence", "[io]") {
    const TempFolder folder;
    REQUIRE(io::save_tensors(folder / "a.st", {{"x", bytes_tensor('x')}, {"y", bytes_tensor('y')}}));
    REQUIRE(io::save_tensors(folder / "b.st", {{"z", bytes_tensor('z')}}));
    REQUIRE(io::save_tensors(folder / "c.st", {{"x", bytes_tensor('c')}}));
    const auto refusal = [&](const std::string& json) {
        write_file(folder / "i.json", json);
        return message(io::open_safetensors_index(folder / "i.json"));
    };
    const auto with_map = [&](const std::string& map) { return refusal("{\"weight_map\":{" + map + "}}"); };
    CHECK(with_map(R"("x":"a.st","y":"a.st","z":"b.st")").empty());

    CHECK(contains(refusal("[]"), "is an array"));
    CHECK(contains(refusal("3"), "not an object"));
    CHECK(contains(refusal("{"), "not valid JSON"));
    CHECK(contains(refusal("{}"), "has no 'weight_map'"));
    CHECK(contains(refusal(R"({"weight_map":3})"), "'weight_map' is not an object"));
    CHECK(contains(refusal(R"({"weight_map":["a.st"]})"), "has no 'weight_map'"));
    CHECK(contains(refusal(R"({"more":{"weight_map":{"x":"a.st"}}})"), "has no 'weight_map'"));
    CHECK(contains(with_map(""), "is empty"));
    CHECK(contains(with_map(R"("x":1)"), "'x' something that is no file name"));
    CHECK(contains(with_map(R"("x":["a.st"])"), "something that is no file name"));
    CHECK(contains(with_map(R"("x":{"y":"a.st"})"), "something that is no file name"));
    for (const char* name :
         {"", ".", "..", "../a.st", "/etc/passwd", "sub/a.st", "sub\\\\a.st", "c:a.st", "a\\u0000b"}) {
        INFO(name);
        const std::string said = with_map(text("\"x\":\"", name, "\""));
        CHECK((contains(said, "no name of a file in the same folder") || contains(said, "not valid JSON") ||
               contains(said, "NUL")));
    }
    CHECK(contains(with_map(R"("x":"missing.st")"), "missing.st"));
    CHECK(contains(with_map(R"("x":"a.st","y":"a.st","w":"b.st")"),
                   "'b.st' holds tensor 'z', which the index does not name"));
    CHECK(
        contains(with_map(R"("x":"a.st","y":"a.st","z":"b.st","w":"b.st")"), "tensor 'w' is not in 'b.st'"));
    CHECK(contains(with_map(R"("x":"c.st","y":"a.st")"), "holds tensor 'x', which the index has in 'c.st'"));
    // Every cut.
    const std::string right =
        R"({"metadata":{"total_size":9},"weight_map":{"x":"a.st","y":"a.st","z":"b.st"}})";
    REQUIRE(refusal(right).empty());
    for (std::size_t length = 1; length < right.size(); ++length)
        CHECK_FALSE(refusal(right.substr(0, length)).empty());
}
