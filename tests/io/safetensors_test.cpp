#include "fewbit/io/safetensors.hpp"

#include <cstring>
#include <numeric>
#include <vector>

#include "fewbit/core/text.hpp"
#include "io_support.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

Tensor tensor_of(Scalar type, Tensor::Shape shape, unsigned seed = 1) {
    auto tensor = Tensor::allocate(type, std::move(shape));
    std::mt19937 random(seed);
    for (std::byte& byte : tensor->mutable_bytes()) byte = static_cast<std::byte>(random());
    return *tensor;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
    return a.type() == b.type() && a.shape() == b.shape() &&
           (a.size_bytes() == 0 || std::memcmp(a.bytes().data(), b.bytes().data(), a.size_bytes()) == 0);
}

constexpr Scalar all_scalars[] = {Scalar::f32,      Scalar::f16,  Scalar::bf16, Scalar::fp8_e4m3,
                                  Scalar::fp8_e5m2, Scalar::e8m0, Scalar::i8,   Scalar::u8,
                                  Scalar::i32,      Scalar::u32,  Scalar::i64,  Scalar::f64};

}  // namespace

TEST_CASE("a small file is written byte for byte as the reference does", "[io]") {
    const TempFolder folder;
    Tensor half = tensor_of(Scalar::f16, {3}), word = tensor_of(Scalar::i64, {1}),
           bytes = tensor_of(Scalar::u8, {2, 2}), other = tensor_of(Scalar::f16, {});
    REQUIRE(io::save_tensors(folder / "a", {{"b", half}, {"a", other}, {"c", bytes}, {"z", word}},
                             {{"format", "pt"}, {"a", "\"\\\n\x01/é"}}));
    const std::string header =
        R"({"__metadata__":{"a":"\"\\\n\u0001/é","format":"pt"},"z":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
        R"("a":{"dtype":"F16","shape":[],"data_offsets":[8,10]},"b":{"dtype":"F16","shape":[3],"data_offsets":[10,16]},)"
        R"("c":{"dtype":"U8","shape":[2,2],"data_offsets":[16,20]}})";
    std::string padded = header;
    while (padded.size() % 8 != 0) padded += ' ';
    std::string data;
    for (const Tensor* tensor : {&word, &other, &half, &bytes})
        data.append(reinterpret_cast<const char*>(tensor->bytes().data()), tensor->size_bytes());
    CHECK(read_file(folder / "a") == safetensors_bytes(padded, data));
}

TEST_CASE("saved tensors come back, aligned, whatever their type and shape", "[io]") {
    const TempFolder folder;
    std::map<std::string, Tensor> tensors;
    unsigned seed = 0;
    for (const Scalar type : all_scalars) {
        const std::string base(name(type));
        tensors[base + ".scalar"] = tensor_of(type, {}, ++seed);
        tensors[base + ".odd"] = tensor_of(type, {3, 5, 7}, ++seed);
        tensors[base + ".none"] = tensor_of(type, {4, 0}, ++seed);
    }
    tensors["имя с пробелом \"\n\\ 😀"] = tensor_of(Scalar::u8, {1, 1, 1, 1, 1, 1, 1, 1}, ++seed);
    tensors[""] = tensor_of(Scalar::u8, {1}, ++seed);
    const io::Metadata metadata{{"", ""}, {"ключ", "значение\t"}, {"long", std::string(100'000, 'x')}};
    REQUIRE(message(io::save_tensors(folder / "a", tensors, metadata)) == "");
    const auto loaded = io::load_tensors(folder / "a");
    REQUIRE(message(loaded) == "");
    CHECK(loaded->metadata == metadata);
    REQUIRE(loaded->tensors.size() == tensors.size());
    for (const auto& [key, tensor] : tensors) {
        INFO(key);
        REQUIRE(loaded->tensors.contains(key));
        const Tensor& back = loaded->tensors.at(key);
        CHECK(same_bytes(tensor, back));
        CHECK(reinterpret_cast<std::uintptr_t>(back.bytes().data()) % size_bytes(back.type()) == 0);
    }
    REQUIRE(io::save_tensors(folder / "b", loaded->tensors, metadata));
    CHECK(read_file(folder / "a") == read_file(folder / "b"));
    REQUIRE(
        io::save_tensors(folder / "a", loaded->tensors, {}));  // over the file that they are borrowed from
    CHECK(io::load_tensors(folder / "a")->tensors.size() == tensors.size());
    REQUIRE(io::save_tensors(folder / "none", {}));
    CHECK(read_file(folder / "none") == safetensors_bytes("{}      "));
    CHECK(io::load_tensors(folder / "none")->tensors.empty());
}

TEST_CASE("data that is not aligned is copied, not borrowed", "[io]") {
    std::string data = "x";
    for (const float value : {1.5f, -2.0f}) {
        char bytes[4];
        std::memcpy(bytes, &value, 4);
        data.append(bytes, 4);
    }
    const auto file = parse(safetensors_bytes(
        R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})",
        data));
    REQUIRE(message(file) == "");
    const auto b = file->tensor("b");
    REQUIRE(b);
    CHECK(reinterpret_cast<std::uintptr_t>(b->bytes().data()) % 4 == 0);
    CHECK(b->as<float>()[0] == 1.5f);
    CHECK(b->as<float>()[1] == -2.0f);
    const auto a = file->tensor("a");
    REQUIRE(a);
    CHECK(a->bytes().data() == file->bytes(*file->find("a")).data());
}

TEST_CASE("all types of the format are read, those without a scalar as bytes", "[io]") {
    for (int i = 0; i <= static_cast<int>(io::SafetensorsType::u64); ++i) {
        const auto type = static_cast<io::SafetensorsType>(i);
        INFO(io::name(type));
        const std::size_t size = io::bits(type);  // 8 elements
        const auto file =
            parse(safetensors_bytes(text("{\"t\":{\"dtype\":\"", io::name(type),
                                         "\",\"shape\":[2,4],\"data_offsets\":[0,", size, "]}}"),
                                    std::string(size, 'x')));
        REQUIRE(message(file) == "");
        CHECK(file->find("t")->type == type);
        CHECK(file->bytes(*file->find("t")).size() == size);
        const auto tensor = file->tensor("t");
        CHECK(tensor.has_value() == io::scalar(type).has_value());
        if (tensor)
            CHECK(io::safetensors_type(tensor->type()) == type);
        else
            CHECK(contains(message(tensor), io::name(type)));
    }
    CHECK(contains(message(parse(safetensors_bytes("{}"))->tensor("t")), "no tensor 't'"));
}

TEST_CASE("harmless variations of a header", "[io]") {
    for (const char* header :
         {"{}", "{ }  ", "{\"__metadata__\":{}}",
          "{\n\t\"t\" :\r{ \"data_offsets\":[0 , 0],\"shape\":[0],\"dtype\":\"F32\"}}\n",
          "{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"u\":{\"dtype\":\"U8\",\"shape\":["
          "7,0],\"data_offsets\":[0,0]}}",
          "{\"\\u0074\\uD83D\\uDE00\":{\"dtype\":\"\\u00468_E4M3\",\"shape\":[0],\"data_offsets\":[0,0]}}"}) {
        INFO(header);
        CHECK(message(parse(safetensors_bytes(header))) == "");
    }
    // Listed in another order than stored, an empty tensor between.
    const auto file = parse(safetensors_bytes(
        R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"e":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
        "abc"));
    REQUIRE(message(file) == "");
    CHECK(std::to_integer<char>(file->bytes(*file->find("b"))[1]) == 'c');
}

TEST_CASE("the writer refuses what it could not read back", "[io]") {
    const TempFolder folder;
    const Tensor one = tensor_of(Scalar::u8, {1});
    const auto refused = [&](const std::map<std::string, Tensor>& tensors,
                             const io::Metadata& metadata = {}) {
        const std::string sentence = message(io::save_tensors(folder / "out", tensors, metadata));
        CHECK(contains(sentence, "out"));
        CHECK(folder.files() == 0);
        return sentence;
    };
    CHECK(contains(refused({{"\xff", one}}), "\\xff"));
    CHECK(contains(refused({{std::string("a\0b", 3), one}}), "a\\x00b"));
    CHECK(contains(refused({{"__metadata__", one}}), "__metadata__"));
    CHECK(contains(refused({{std::string(70'000, 'n'), one}}), "70000 bytes"));
    CHECK(contains(refused({{"a", tensor_of(Scalar::u8, {1, 1, 1, 1, 1, 1, 1, 1, 1})}}), "9 dimensions"));
    CHECK(contains(refused({{"a", Tensor()}}), "no memory"));
    CHECK(contains(refused({{"a", one}}, {{"k", "\xc0\x80"}}), "UTF-8"));
    CHECK(contains(refused({{"a", one}}, {{"\xed\xa0\x80", "v"}}), "UTF-8"));
}

TEST_CASE("a source must produce what its shape says", "[io]") {
    const TempFolder folder;
    const std::vector<std::byte> bytes(10);
    const auto attempt = [&](std::size_t pieces, std::size_t piece) {
        io::SafetensorsSource source;
        source.type = io::SafetensorsType::u8;
        source.shape = {10};
        source.produce = [&](io::ByteSink sink) -> Result<void> {
            for (std::size_t i = 0; i < pieces; ++i)
                if (auto done = sink(std::span(bytes).first(piece)); !done) return done;
            return {};
        };
        return message(io::write_safetensors(folder / "out", {{"t", source}}));
    };
    CHECK(attempt(5, 2) == "");
    fs::remove(folder / "out");
    CHECK(contains(attempt(4, 2), "'t' of shape (10) produced 8 bytes"));
    CHECK(contains(attempt(6, 2), "12 bytes"));
    CHECK(contains(attempt(0, 2), "0 bytes"));
    CHECK(folder.files() == 0);
    io::SafetensorsSource source;
    source.shape = {1};
    source.produce = [](io::ByteSink) -> Result<void> { return fail(ErrorKind::bad_input, "no more"); };
    CHECK(contains(message(io::write_safetensors(folder / "out", {{"t", source}})), "no more"));
    source.shape = {std::size_t{1} << 62, 4};
    CHECK(contains(message(io::write_safetensors(folder / "out", {{"t", source}})), "overflows"));
    source.type = io::SafetensorsType::f4;
    source.shape = {3};
    CHECK(contains(message(io::write_safetensors(folder / "out", {{"t", source}})), "whole bytes"));
    CHECK(folder.files() == 0);
}
