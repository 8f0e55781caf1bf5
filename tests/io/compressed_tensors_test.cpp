#include "fewbit/io/compressed_tensors.hpp"

#include <algorithm>

#include "io_support.hpp"
#include "support/catch.hpp"
#include "word_support.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

Tensor filled(Scalar type, Tensor::Shape shape, int byte = 0) {
    auto out = *Tensor::allocate(type, std::move(shape));
    std::ranges::fill(out.mutable_bytes(), static_cast<std::byte>(byte));
    return out;
}

Tensor shape_tensor(std::int64_t n, std::int64_t k) {
    const std::int64_t values[] = {n, k};
    return tensor_of(Scalar::i64, {2}, values);
}

}  // namespace

TEST_CASE("compressed-tensors: words by hand", "[io]") {
    auto w = *QuantizedMatrix::allocate(*parse_format("int4-g8-asym"), 2, 16);
    std::vector<std::uint8_t> row(16);
    for (std::size_t k = 0; k < 16; ++k) row[k] = static_cast<std::uint8_t>(k);  // signed: -8 .. 7
    w.codes.pack_row(0, row);
    w.zeros.pack_row(0, std::vector<std::uint8_t>{8, 1});
    w.zeros.pack_row(1, std::vector<std::uint8_t>{7, 15});
    Linear linear;
    linear.weights = w;
    const auto packed = io::pack_compressed(linear);
    REQUIRE(packed);
    CHECK(words_in(packed->weight) == std::vector<std::uint32_t>{0x76543210, 0xFEDCBA98, 0, 0});
    CHECK(packed->zero_point->shape() == Tensor::Shape{1, 2});
    CHECK(words_in(*packed->zero_point) == std::vector<std::uint32_t>{0x78, 0xF1});
    CHECK(packed->shape->as<std::int64_t>()[0] == 2);
    CHECK(packed->shape->as<std::int64_t>()[1] == 16);
    CHECK_FALSE(packed->g_idx);

    // 3 bits: ten codes per word, two bits unused; eleven codes of 7 are a full word and one more.
    auto three = *QuantizedMatrix::allocate(*parse_format("int3-channel"), 1, 11);
    three.codes.pack_row(0, std::vector<std::uint8_t>(11, 7));
    linear.weights = three;
    CHECK(words_in(io::pack_compressed(linear)->weight) == std::vector<std::uint32_t>{0x3FFFFFFF, 7});

    // int-quantized: the signed codes.
    auto eight = *QuantizedMatrix::allocate(*parse_format("int8-channel-asym"), 1, 3);
    eight.codes.pack_row(0, std::vector<std::uint8_t>{0, 128, 255});
    eight.zeros.pack_row(0, std::vector<std::uint8_t>{127});
    linear.weights = eight;
    const auto plain = io::pack_compressed(linear);
    REQUIRE(plain);
    CHECK(plain->weight.type() == Scalar::i8);
    CHECK(std::ranges::equal(plain->weight.as<std::int8_t>(), std::vector<int>{-128, 0, 127}));
    CHECK(plain->zero_point->as<std::int8_t>()[0] == -1);
    CHECK_FALSE(plain->shape);
}

TEST_CASE("compressed-tensors: all bits, groups, zero points and sizes against a packer by bits, and back",
          "[io]") {
    std::mt19937 random(23);
    for (unsigned bits = 2; bits <= 8; ++bits)
        for (const char* granularity : {"-channel", "-g8", "-g9", "-g24"})
            for (const char* offset : {"", "-narrow", "-asym"})
                for (const char* scale : {"-sf16", "-sbf16", "-sf32"})
                    for (const auto& [n, k] :
                         {std::pair<std::size_t, std::size_t>{1, 72}, {5, 144}, {33, 72}}) {
                        const std::string name = "int" + std::to_string(bits) + granularity + offset + scale;
                        INFO(name << " " << n << " x " << k);
                        const Format format = *parse_format(name);
                        const Linear linear = random_linear(format, n, k, random);
                        const auto packed = io::pack_compressed(linear);
                        REQUIRE(message(packed) == "");
                        const QuantizedMatrix& w = linear.weights;
                        const bool words = bits != 8 || format.granularity == Granularity::group;
                        REQUIRE(packed->shape.has_value() == words);
                        REQUIRE(packed->zero_point.has_value() == (format.offset == Offset::integer));
                        const std::size_t per_word = 32 / bits;
                        if (words) {
                            const std::size_t row_words = (k + per_word - 1) / per_word;
                            REQUIRE(packed->weight.shape() == Tensor::Shape{n, row_words});
                            CHECK(words_in(packed->weight) ==
                                  pack_by_bits(codes_in(w), bits, row_words, false, compressed_place));
                        }
                        if (words && packed->zero_point) {
                            const auto zeros = zeros_by_group(w);
                            const std::size_t zero_words = (n + per_word - 1) / per_word;
                            REQUIRE(packed->zero_point->shape() == Tensor::Shape{zero_words, zeros.size()});
                            CHECK(words_in(*packed->zero_point) ==
                                  pack_by_bits(zeros, bits, zero_words, true, compressed_place));
                        }
                        CHECK(same(packed->scale, w.scales));
                        const auto back = io::unpack_compressed(*packed, io::compressed_config(format));
                        REQUIRE(message(back) == "");
                        CHECK(same(back->weights.codes.bytes(), w.codes.bytes()));
                        CHECK(same(back->weights.scales, w.scales));
                        CHECK(same(back->weights.zeros.bytes(), w.zeros.bytes()));
                        CHECK(back->weights.format().offset == format.offset);
                        CHECK(back->transform.empty());
                    }
}

TEST_CASE("compressed-tensors: inputs in another order, unused indices, unpacked zero points, 32-bit shapes",
          "[io]") {
    std::mt19937 random(29);
    Linear linear = random_linear(*parse_format("int4-g8-asym"), 3, 16, random);
    for (std::uint32_t j = 0; j < 16; ++j)
        linear.transform.permutation.push_back(j < 8 ? 2 * j : 2 * (j - 8) + 1);
    auto packed = io::pack_compressed(linear);
    REQUIRE(message(packed) == "");
    CHECK(words_in(*packed->g_idx) ==
          std::vector<std::uint32_t>{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1});
    const io::CompressedConfig config = io::compressed_config(linear.weights.format());
    const auto back = io::unpack_compressed(*packed, config);
    REQUIRE(message(back) == "");
    CHECK(same(*back, linear));

    packed->g_idx = words_tensor({16}, std::vector<std::uint32_t>(16, 0xFFFFFFFF));
    CHECK(io::unpack_compressed(*packed, config)->transform.empty());
    packed->g_idx.reset();
    std::vector<std::int8_t> zeros;
    for (std::size_t r = 0; r < 3; ++r)
        for (std::size_t g = 0; g < 2; ++g)
            zeros.push_back(static_cast<std::int8_t>(linear.weights.zero(r, g) - 8));
    packed->zero_point = tensor_of(Scalar::i8, {3, 2}, zeros.data());
    packed->shape = words_tensor({2}, {3, 16});
    const auto old = io::unpack_compressed(*packed, config);
    REQUIRE(message(old) == "");
    CHECK(same(old->weights.zeros.bytes(), linear.weights.zeros.bytes()));
}

TEST_CASE("compressed-tensors: what it cannot hold is refused with what can", "[io]") {
    const auto refusal = [&](const char* format, std::size_t n, std::size_t k) {
        const auto done = io::check_compressed(*parse_format(format), n, k);
        return done ? std::string() : done.error().message;
    };
    CHECK(contains(refusal("int4-g32-fzero", 8, 32), "int4-g32-asym fits"));
    CHECK(contains(refusal("int8-tensor", 8, 32), "int8-channel-sf16 fits"));
    CHECK(contains(refusal("q8_0", 8, 32), ".gguf"));
    CHECK(contains(refusal("int4-g32", 8, 40), "the layout gptq"));
    CHECK(contains(refusal("int4-g32", 0, 32), "empty"));
    CHECK(refusal("int5-g8", 7, 8) == "");
}

TEST_CASE("compressed-tensors: hostile tensors", "[io][hostile]") {
    std::mt19937 random(31);
    const io::CompressedConfig config = io::compressed_config(*parse_format("int4-g8-asym"));
    const auto good = *io::pack_compressed(random_linear(*parse_format("int4-g8-asym"), 9, 16, random));
    const auto with = [&](auto&& change) {
        io::CompressedTensors tensors = good;
        change(tensors);
        return message(io::unpack_compressed(tensors, config));
    };
    REQUIRE(with([](auto&) {}) == "");
    CHECK(contains(with([&](auto& t) { t.weight = filled(Scalar::i8, {9, 2}); }), "not i32"));
    CHECK(contains(with([&](auto& t) { t.weight = {}; }), "two extents"));
    CHECK(contains(with([&](auto& t) { t.weight = filled(Scalar::i32, {0, 2}); }), "two extents"));
    CHECK(contains(with([&](auto& t) { t.weight = filled(Scalar::i32, {9, 3}); }), "does not hold"));
    CHECK(contains(with([&](auto& t) { t.shape.reset(); }), "weight_shape is missing"));
    CHECK(contains(with([&](auto& t) { t.shape = filled(Scalar::i64, {3}); }), "not two integers"));
    CHECK(contains(with([&](auto& t) { t.shape = filled(Scalar::f64, {2}); }), "not two integers"));
    for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{8, 16},
                               {9, 17},
                               {9, 8},
                               {-9, 16},
                               {9, -16},
                               {9, 0},
                               {0, 0},
                               {9, INT64_MAX},
                               {INT64_MIN, INT64_MIN}})
        CHECK(contains(with([&, n = n, k = k](auto& t) { t.shape = shape_tensor(n, k); }), "does not hold"));
    CHECK(contains(with([&](auto& t) { t.scale = filled(Scalar::f16, {9, 1}); }), "not f16 (9, 2)"));
    CHECK(contains(with([&](auto& t) { t.scale = filled(Scalar::u8, {9, 2}); }), "scales of type u8"));
    CHECK(contains(with([&](auto& t) { t.zero_point.reset(); }), "weight_zero_point is missing"));
    CHECK(contains(with([&](auto& t) { t.zero_point = filled(Scalar::i32, {1, 2}); }), "not i32 (2, 2)"));
    CHECK(contains(with([&](auto& t) { t.zero_point = filled(Scalar::i8, {2, 2}); }), "not i8 (9, 2)"));
    CHECK(contains(with([&](auto& t) { t.zero_point = filled(Scalar::i8, {9, 2}, 0x10); }), "holds 16"));
    CHECK(contains(with([&](auto& t) { t.g_idx = filled(Scalar::i32, {16}, 0x7F); }), "there are 2"));
    CHECK(contains(with([&](auto& t) { t.g_idx = filled(Scalar::i32, {9}); }), "group index"));
    CHECK(contains(with([&](auto& t) { t.g_idx = filled(Scalar::u8, {16}, 0xFF); }), "group index"));
    for (const int bits : {-1, 0, 1, 9, 33})
        CHECK(contains(message(io::unpack_compressed(good, {bits, 8, false, true})), "bits are not read"));
    CHECK(contains(message(io::unpack_compressed(good, {4, 0, false, true})), "do not divide"));
    CHECK(contains(message(io::unpack_compressed(good, {4, 32, false, true})), "do not divide"));
    CHECK(contains(message(io::unpack_compressed(good, {4, 4, false, true})), "not f16 (9, 4)"));

    io::CompressedTensors plain{
        filled(Scalar::i8, {2, 8}, 0x10), filled(Scalar::f16, {2, 1}, 0xFF), {}, {}, {}};
    CHECK(contains(message(io::unpack_compressed(plain, {4, std::nullopt, true, false})), "holds 16"));
    const auto eight = io::unpack_compressed(plain, {8, std::nullopt, true, false});
    REQUIRE(eight);  // the scales are NaN and stay so
    CHECK(eight->weights.codes.code(0, 0) == 144);
    CHECK(half_at(eight->weights.scales, 0) == 0xFFFF);
}
