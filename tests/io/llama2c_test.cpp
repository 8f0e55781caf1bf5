// llama2.c files: what is written is read, and nothing in a file is trusted.
#include "fewbit/io/llama2c.hpp"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/shared_data.hpp"
#include "support/toy_model.hpp"

namespace {

using namespace fewbit;
using Bytes = std::vector<std::byte>;

Result<io::ModelFile> parse_llama2c(const Bytes& bytes) {
    const auto owner = std::make_shared<const Bytes>(bytes);
    return io::parse_llama2c(*owner, owner, "toy.bin");
}

/// Refused with a sentence that names the file and holds `part`.
void check_refused(const Bytes& bytes, const std::string& part) {
    const auto file = parse_llama2c(bytes);
    INFO("expected: " << part);
    REQUIRE(!file);
    INFO(file.error().message);
    CHECK(file.error().message.find("'toy.bin'") != std::string::npos);
    CHECK(file.error().message.find(part) != std::string::npos);
}

template <class T>
Bytes with(Bytes bytes, std::size_t offset, T value) {
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    return bytes;
}

std::vector<float> row_of(const io::ModelFile& file, const std::string& name, std::size_t row) {
    const QuantizedMatrix& w = file.linears.at(name).weights;
    std::vector<float> values(w.k());
    w.dequantize(row, 0, values);
    return values;
}

const io::ModelShape untied = testing::toy_shape(6, 2, 4, 40, 3, 11, 9, false);
const io::ModelShape tied = testing::toy_shape(4, 4, 8, 24, 2, 7, 5, true);

}  // namespace

TEST_CASE("v0 and v1 files give back every weight") {
    for (const io::ModelShape& shape : {untied, tied}) {
        const io::ModelFile original = testing::toy_model(shape, 1);
        for (const int version : {0, 1}) {
            const auto file = parse_llama2c(testing::llama2c_bytes(original, version));
            INFO((file ? "" : file.error().message));
            REQUIRE(file);
            CHECK(file->shape == shape);
            CHECK(file->type == (version == 0 ? "llama2.c v0" : "llama2.c v1"));
            CHECK(file->vectors == original.vectors);
            REQUIRE(file->linears.size() == original.linears.size());
            for (const auto& [name, linear] : original.linears) {
                INFO(name);
                REQUIRE(file->linears.count(name) == 1);
                REQUIRE(file->linears.at(name).n() == linear.n());
                REQUIRE(file->linears.at(name).k() == linear.k());
                CHECK(file->linears.at(name).weights.format() == float_format(Scalar::f32));
                for (std::size_t r = 0; r < linear.n(); ++r)
                    CHECK(row_of(*file, name, r) == row_of(original, name, r));
            }
        }
    }
}

TEST_CASE("f32 matrices lie in the file's own memory and keep it alive") {
    auto owner = std::make_shared<const Bytes>(testing::llama2c_bytes(testing::toy_model(tied, 1), 0));
    const std::weak_ptr<const Bytes> alive = owner;
    const auto* begin = owner->data();
    auto file = io::parse_llama2c(*owner, owner, "toy.bin");
    REQUIRE(file);
    owner.reset();
    CHECK(!alive.expired());
    CHECK(file->linears.at("model.embed_tokens").weights.codes.bytes().bytes().data() == begin + 28);
    file->linears.clear();
    CHECK(alive.expired());
}

TEST_CASE("v2 files become int8 groups: within half a step of the weights") {
    for (const io::ModelShape& shape : {untied, tied}) {
        const io::ModelFile original = testing::toy_model(shape, 2);
        const auto file = parse_llama2c(testing::llama2c_bytes(original, 2, 8));
        INFO((file ? "" : file.error().message));
        REQUIRE(file);
        CHECK(file->shape == shape);
        for (const auto& [name, linear] : original.linears) {
            INFO(name);
            const QuantizedMatrix& w = file->linears.at(name).weights;
            CHECK(fewbit::name(w.format()) == "int8-g8-narrow-sf32");
            for (std::size_t r = 0; r < linear.n(); ++r) {
                const auto read = row_of(*file, name, r), wanted = row_of(original, name, r);
                for (std::size_t k = 0; k < read.size(); ++k)
                    CHECK(std::fabs(read[k] - wanted[k]) <= w.scale(r, k / 8) * 0.5001f);
            }
        }
    }
}

TEST_CASE("v2 groups that cross the ends of rows are cut to fit") {
    // dim = 32, hidden = 24: groups of 16 cross the rows of down_proj (K = 24), gcd 8.
    const io::ModelShape shape = testing::toy_shape(4, 2, 8, 24, 2, 8, 5, true);
    const io::ModelFile original = testing::toy_model(shape, 3);
    const auto file = parse_llama2c(testing::llama2c_bytes(original, 2, 16));
    INFO((file ? "" : file.error().message));
    REQUIRE(file);
    const QuantizedMatrix& down = file->linears.at("model.layers.0.mlp.down_proj").weights;
    CHECK(name(down.format()) == "int8-g8-narrow-sf32");
    CHECK(down.scale(0, 0) == down.scale(0, 1));
    CHECK(down.scale(0, 2) ==
          down.scale(1, 0));  // the second group: the end of row 0, the beginning of row 1
    CHECK(down.scale(0, 1) != down.scale(0, 2));
    for (std::size_t r = 0; r < down.n(); ++r) {
        const auto read = row_of(*file, "model.layers.0.mlp.down_proj", r),
                   wanted = row_of(original, "model.layers.0.mlp.down_proj", r);
        for (std::size_t k = 0; k < read.size(); ++k)
            CHECK(std::fabs(read[k] - wanted[k]) <= down.scale(r, k / 8) * 0.5001f);
    }
    CHECK(name(file->linears.at("model.embed_tokens").weights.format()) == "int8-g16-narrow-sf32");
}

TEST_CASE("v2 groups whose pieces are too short to be groups become f32, the same weights") {
    struct Case {
        std::size_t hidden, group;
    };
    for (const auto& [hidden, group] : {Case{20, 32}, Case{24, 4}}) {  // gcd(20, 32) = 4
        const io::ModelFile original =
            testing::toy_model(testing::toy_shape(4, 2, 8, hidden, 2, 8, 5, true), 3);
        const auto file = parse_llama2c(testing::llama2c_bytes(original, 2, group));
        INFO((file ? "" : file.error().message));
        REQUIRE(file);
        const std::string down = "model.layers.0.mlp.down_proj";
        CHECK(file->linears.at(down).weights.format() == float_format(Scalar::f32));
        // The exporter's rule on the flattened matrix: codes round(w / scale), scale = max|w| / 127.
        std::vector<float> flat, read;
        for (std::size_t r = 0; r < original.linears.at(down).n(); ++r) {
            const auto wanted = row_of(original, down, r), got = row_of(*file, down, r);
            flat.insert(flat.end(), wanted.begin(), wanted.end());
            read.insert(read.end(), got.begin(), got.end());
        }
        for (std::size_t first = 0; first < flat.size(); first += group) {
            float largest = 0;
            for (std::size_t i = first; i < first + group; ++i)
                largest = std::max(largest, std::fabs(flat[i]));
            for (std::size_t i = first; i < first + group; ++i)
                CHECK(std::fabs(read[i] - flat[i]) <= largest / 127 * 0.5001f);
        }
    }
}

TEST_CASE("header fields that cannot be right are refused by name") {
    struct Case {
        std::size_t field;
        std::int32_t value;
        std::string part;
    };
    constexpr auto lowest = std::numeric_limits<std::int32_t>::min(),
                   highest = std::numeric_limits<std::int32_t>::max();
    const Case cases[] = {
        {0, 0, "dim is 0"},
        {0, -24, "dim is -24"},
        {0, 23, "n_heads = 6 does not divide dim = 23"},
        {0, 18, "heads of 3 elements"},
        {0, highest, "n_heads = 6 does not divide"},
        {0, 6 * 357913940, "truncated"},
        {1, 0, "hidden_dim is 0"},
        {1, lowest, "hidden_dim is -2147483648"},
        {1, highest, "truncated"},
        {2, -1, "n_layers is -1"},
        {2, highest, "truncated"},
        {3, 0, "n_heads is 0"},
        {3, 5, "n_heads = 5 does not divide dim = 24"},
        {4, 0, "n_kv_heads is 0"},
        {4, 4, "n_kv_heads = 4 does not divide n_heads = 6"},
        {4, 12, "n_kv_heads = 12 does not divide"},
        {5, 0, "vocab_size is 0"},
        {5, highest, "truncated"},
        {6, 0, "seq_len is 0"},
        {6, -9, "seq_len is -9"},
    };
    const io::ModelFile model = testing::toy_model(untied, 1);
    for (const int version : {0, 1, 2}) {
        const Bytes good = testing::llama2c_bytes(model, version);
        REQUIRE(parse_llama2c(good));
        const std::size_t at = version == 0 ? 0 : 8;
        for (const Case& c : cases) {
            INFO("version " << version << ", field " << c.field << " = " << c.value);
            check_refused(with(good, at + 4 * c.field, c.value), c.part);
        }
        check_refused(with(good, at + 20, lowest), version == 0 ? "vocab_size is -2147483648, whose magnitude"
                                                                : "vocab_size is -2147483648");
        if (version == 0) continue;
        check_refused(with(good, at + 20, std::int32_t{-11}), "vocab_size is -11");
        check_refused(with(good, 4, std::int32_t{3}), "version 3 is not known");
        check_refused(with(good, 4, std::int32_t{-1}), "version -1 is not known");
        check_refused(with(good, 36, std::uint8_t{2}), "flag for a shared head is 2");
        check_refused(with(good, 36, std::uint8_t{1}),
                      "trailing bytes");  // the head is there, but the flag denies it
        check_refused(with(good, 200, std::uint8_t{9}), "header byte 200 is 9");
    }
    // A table of 2^31 positions in v0 is a truncated file; in v1 it is only a promise, and nothing is sized
    // by it.
    check_refused(with(testing::llama2c_bytes(model, 0), 24, highest), "freq_cos");
    const auto long_context = parse_llama2c(with(testing::llama2c_bytes(model, 1), 32, highest));
    REQUIRE(long_context);
    CHECK(long_context->shape.context == 2147483647u);
}

TEST_CASE("v2 fields that cannot be right are refused") {
    const io::ModelFile model = testing::toy_model(untied, 1);
    const Bytes good = testing::llama2c_bytes(model, 2);
    check_refused(with(good, 37, std::int32_t{0}), "group_size is 0");
    check_refused(with(good, 37, std::int32_t{-64}), "group_size is -64");
    check_refused(with(good, 37, std::numeric_limits<std::int32_t>::max()),
                  "no multiple of group_size = 2147483647");
    check_refused(with(good, 37, std::int32_t{4}), "it is truncated");
    const std::size_t norms = 7 * 24 * 4, embedding = 256 + norms;
    check_refused(with(good, embedding + 25, std::int8_t{-128}), "'model.embed_tokens'(1, 1) is code -128");
    check_refused(with(good, embedding + 11 * 24 + 8, std::numeric_limits<float>::infinity()),
                  "scale 2 of 'model.embed_tokens' is inf");
}

TEST_CASE("gains that are not finite are refused") {
    const Bytes good = testing::llama2c_bytes(testing::toy_model(untied, 1), 1);
    check_refused(with(good, 256 + 4 * (24 + 5), std::numeric_limits<float>::quiet_NaN()),
                  "'model.layers.1.input_layernorm'[5] is nan");
}

TEST_CASE("files cut or extended anywhere are refused") {
    const io::ModelFile model = testing::toy_model(testing::toy_shape(2, 1, 4, 8, 1, 3, 2, false), 1);
    for (const int version : {0, 1, 2}) {
        const Bytes good = testing::llama2c_bytes(model, version);
        REQUIRE(parse_llama2c(good));
        for (std::size_t size = 0; size < good.size(); ++size) {
            const auto file =
                parse_llama2c(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)));
            if (file)
                FAIL("version " << version << " cut to " << size << " of " << good.size()
                                << " bytes was read");
        }
        Bytes longer = good;
        longer.push_back(std::byte{0});
        check_refused(longer, "1 trailing bytes");
    }
}

TEST_CASE("random damage to headers never gives more than the file holds") {
    testing::Random random(5);
    const io::ModelFile model = testing::toy_model(untied, 1);
    for (const int version : {0, 1, 2}) {
        const Bytes good = testing::llama2c_bytes(model, version);
        for (int round = 0; round < 2000; ++round) {
            Bytes bytes = good;
            for (std::size_t i = 0; i <= random.below(3); ++i)
                bytes[random.below(version == 0 ? 28 : 44)] =
                    static_cast<std::byte>(random.below(2) != 0 ? random.bits() : random.below(8));
            if (random.below(4) == 0) bytes.resize(random.below(bytes.size()));
            const auto file = parse_llama2c(bytes);
            if (!file) continue;
            std::size_t weights = 0;
            for (const auto& [name, linear] : file->linears) weights += linear.n() * linear.k();
            CHECK(weights <= bytes.size());
        }
    }
}

TEST_CASE("missing and empty files are errors that name the path") {
    const auto missing = io::read_llama2c("/nowhere/model.bin");
    REQUIRE(!missing);
    CHECK(missing.error().message.find("/nowhere/model.bin") != std::string::npos);
    check_refused({}, "only 0 bytes");
    check_refused(Bytes(27), "only 27 bytes");
}

TEST_CASE("stories260K: v0 and v1 hold the same model") {
    const auto v0 = testing::shared_file("models/stories260K/stories260K.bin"),
               v1 = testing::shared_file("models/stories260K/stories260K_v1.bin");
    if (v0.empty() || v1.empty()) FEWBIT_SKIP("models/stories260K is not in FEWBIT_SHARED_DIR");
    const auto a = io::read_llama2c(v0), b = io::read_llama2c(v1);
    REQUIRE(a);
    REQUIRE(b);
    CHECK(a->shape == b->shape);
    CHECK(a->shape.hidden == 172);
    CHECK(a->vectors == b->vectors);
    for (const auto& [name, linear] : a->linears)
        for (std::size_t r = 0; r < linear.n(); ++r) CHECK(row_of(*a, name, r) == row_of(*b, name, r));
}
