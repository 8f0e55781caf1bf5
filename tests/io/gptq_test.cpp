#include "fewbit/io/gptq.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "io_support.hpp"
#include "support/catch.hpp"
#include "word_support.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

io::GptqConfig config_of(const Format& format, io::GptqVersion version) {
    return {format.bits,
            format.granularity == Granularity::group ? std::optional(format.group) : std::nullopt,
            format.offset == Offset::none, version};
}

/// Good tensors of an 8 x 16 layer in int4-g8, to be spoilt.
io::GptqTensors good_tensors() {
    std::mt19937 random(9);
    auto packed = io::pack_gptq(random_linear(*parse_format("int4-g8"), 8, 16, random), io::GptqVersion::v1);
    REQUIRE(packed);
    return *packed;
}
const io::GptqConfig good_config{4, 8, true, io::GptqVersion::v1};

}  // namespace

TEST_CASE("gptq: words by hand", "[io]") {
    // Output 0 has codes 0..7, output 1 codes 15..8 for its 8 inputs; six more outputs are all 8.
    auto w = *QuantizedMatrix::allocate(*parse_format("int4-g8"), 8, 8);
    for (std::size_t r = 0; r < 8; ++r) {
        std::vector<std::uint8_t> row(8, 8);
        for (std::size_t k = 0; k < 8 && r < 2; ++k) row[k] = static_cast<std::uint8_t>(r == 0 ? k : 15 - k);
        w.codes.pack_row(r, row);
        w.set_scale(r, 0, 0.5f * static_cast<float>(r + 1));
    }
    Linear linear;
    linear.weights = w;
    const auto v1 = io::pack_gptq(linear, io::GptqVersion::v1);
    REQUIRE(v1);
    CHECK(v1->qweight.shape() == Tensor::Shape{1, 8});
    CHECK(words_in(v1->qweight) == std::vector<std::uint32_t>{0x76543210, 0x89ABCDEF, 0x88888888, 0x88888888,
                                                              0x88888888, 0x88888888, 0x88888888,
                                                              0x88888888});
    CHECK(words_in(v1->qzeros) == std::vector<std::uint32_t>{0x77777777});
    CHECK(words_in(*v1->g_idx) == std::vector<std::uint32_t>(8, 0));
    CHECK(half_at(v1->scales, 1) == 0x3C00);  // 1.0
    CHECK(words_in(io::pack_gptq(linear, io::GptqVersion::v2)->qzeros) ==
          std::vector<std::uint32_t>{0x88888888});

    // 3 bits: codes 0 1 2 .. 7, four times, in 96 bits: 0xFAC688 is 0..7 in 24 bits.
    auto three = *QuantizedMatrix::allocate(*parse_format("int3-g32"), 32, 32);
    for (std::size_t r = 0; r < 32; ++r) {
        std::vector<std::uint8_t> row(32);
        for (std::size_t k = 0; k < 32; ++k) row[k] = static_cast<std::uint8_t>(k % 8);
        three.codes.pack_row(r, row);
    }
    linear.weights = three;
    const auto packed = io::pack_gptq(linear, io::GptqVersion::v2);
    REQUIRE(packed);
    const auto words = words_in(packed->qweight);
    REQUIRE(words.size() == 96);
    CHECK(words[0] == 0x88FAC688);
    CHECK(words[32] == 0xC688FAC6);
    CHECK(words[64] == 0xFAC688FA);
    CHECK(words_in(packed->qzeros) ==
          std::vector<std::uint32_t>{0x24924924, 0x49249249, 0x92492492});  // all 4
}

TEST_CASE("gptq: all bits, groups, zero points and sizes against a packer by bits, and back", "[io]") {
    std::mt19937 random(11);
    for (const unsigned bits : {2u, 3u, 4u, 8u})
        for (const char* granularity : {"-channel", "-g8", "-g9", "-g32", "-g128"})
            for (const char* offset : {"", "-narrow", "-asym"})
                for (const char* scale : {"-sf16", "-sbf16"})
                    for (const auto& [n, k] :
                         {std::pair<std::size_t, std::size_t>{32, 32}, {64, 96}, {96, 160}})
                        for (const auto version : {io::GptqVersion::v1, io::GptqVersion::v2}) {
                            const std::string name =
                                "int" + std::to_string(bits) + granularity + offset + scale;
                            INFO(name << " " << n << " x " << k);
                            const Format format = *parse_format(name);
                            Linear linear = random_linear(format, n, k, random);
                            if (version == io::GptqVersion::v1) raise_zeros(linear.weights);
                            auto packed = io::pack_gptq(linear, version);
                            REQUIRE(message(packed) == "");
                            const QuantizedMatrix& w = linear.weights;
                            REQUIRE(packed->qweight.shape() == Tensor::Shape{k * bits / 32, n});
                            CHECK(words_in(packed->qweight) ==
                                  pack_by_bits(codes_in(w), bits, k * bits / 32, true, gptq_place));
                            auto zeros = zeros_by_group(w);
                            for (auto& row : zeros)
                                for (auto& zero : row) zero -= version == io::GptqVersion::v1 ? 1 : 0;
                            REQUIRE(packed->qzeros.shape() == Tensor::Shape{zeros.size(), n * bits / 32});
                            CHECK(words_in(packed->qzeros) ==
                                  pack_by_bits(zeros, bits, n * bits / 32, false, gptq_place));
                            REQUIRE(packed->scales.shape() == Tensor::Shape{zeros.size(), n});
                            bool scales_fit = true;
                            for (std::size_t g = 0; g < zeros.size(); ++g)
                                for (std::size_t r = 0; r < n; ++r)
                                    scales_fit = scales_fit && half_at(packed->scales, g * n + r) ==
                                                                   half_at(w.scales, r * zeros.size() + g);
                            CHECK(scales_fit);
                            const auto groups = words_in(*packed->g_idx);
                            for (std::size_t i = 0; i < k; ++i)
                                REQUIRE(groups[i] == i / format.group_elements(k));

                            const auto back = io::unpack_gptq(*packed, config_of(format, version));
                            REQUIRE(message(back) == "");
                            CHECK(packed->wrapped_zeros == 0);
                            Format full = format;
                            full.narrow = false;
                            CHECK(back->weights.format() == full);
                            CHECK(same(back->weights.codes.bytes(), w.codes.bytes()));
                            CHECK(same(back->weights.scales, w.scales));
                            CHECK(same(back->weights.zeros.bytes(), w.zeros.bytes()));
                            CHECK(back->transform.empty());
                        }
}

TEST_CASE("gptq: a zero point of 0 needs v2, and -1 in v1 is read as 0", "[io]") {
    std::mt19937 random(13);
    Linear linear = random_linear(*parse_format("int4-g8-asym"), 8, 8, random);
    for (std::size_t r = 0; r < 8; ++r)
        linear.weights.zeros.pack_row(r,
                                      std::vector<std::uint8_t>{static_cast<std::uint8_t>(r == 3 ? 0 : 5)});
    CHECK(io::has_zero_point_of_0(linear.weights));
    CHECK(contains(message(io::pack_gptq(linear, io::GptqVersion::v1)), "gptq_v2"));
    auto v2 = io::pack_gptq(linear, io::GptqVersion::v2);
    REQUIRE(v2);
    CHECK(words_in(v2->qzeros) == std::vector<std::uint32_t>{0x55550555});
    // The same zero points as v1 stores them; adding 1 to whole words would carry into the field behind.
    v2->qzeros = words_tensor({1, 1}, {0x4444F444});
    const auto back = io::unpack_gptq(*v2, {4, 8, false, io::GptqVersion::v1});
    REQUIRE(back);
    CHECK(same(back->weights, linear.weights));
    CHECK(v2->wrapped_zeros == 1);
}

TEST_CASE("gptq: `sym` decides what zero points in the middle become", "[io]") {
    auto tensors = good_tensors();
    for (const auto& [symmetric, offset] : {std::pair<std::optional<bool>, Offset>{true, Offset::none},
                                            {std::nullopt, Offset::none},
                                            {false, Offset::integer}})
        CHECK(io::unpack_gptq(tensors, {4, 8, symmetric, io::GptqVersion::v1})->weights.format().offset ==
              offset);
    tensors.qzeros = words_tensor({2, 1}, {0x77777777, 0x77777776});
    const auto back = io::unpack_gptq(tensors, good_config);
    REQUIRE(back);
    CHECK(back->weights.format().offset == Offset::integer);
    CHECK(back->weights.zero(0, 1) == 7);
    CHECK(back->weights.zero(1, 1) == 8);
}

TEST_CASE("gptq: inputs in another order become a permutation, and the value of every weight stays", "[io]") {
    std::mt19937 random(17);
    for (const char* name : {"int4-g8-asym", "int3-g9", "int8-g16", "int2-g128"}) {
        const Format format = *parse_format(name);
        const std::size_t n = 32, k = 64;
        Linear linear = random_linear(format, n, k, random);
        raise_zeros(linear.weights);
        auto& order = linear.transform.permutation;
        order.resize(k);
        std::iota(order.begin(), order.end(), 0u);
        std::ranges::shuffle(order, random);
        const std::size_t group = format.group_elements(k);
        if (group < k)
            CHECK(contains(message(io::pack_gptq(linear, io::GptqVersion::v1)), "does not ascend"));
        for (std::size_t j = 0; j < k; j += group)
            std::sort(order.begin() + static_cast<std::ptrdiff_t>(j),
                      order.begin() + static_cast<std::ptrdiff_t>(std::min(k, j + group)));
        auto packed = io::pack_gptq(linear, io::GptqVersion::v1);
        REQUIRE(message(packed) == "");
        // The definition: input order[j] has the code of column j and belongs to its group.
        const auto groups = words_in(*packed->g_idx);
        std::vector<std::vector<unsigned>> codes(n, std::vector<unsigned>(k));
        for (std::size_t j = 0; j < k; ++j) {
            CHECK(groups[order[j]] == j / group);
            for (std::size_t r = 0; r < n; ++r) codes[r][order[j]] = linear.weights.codes.code(r, j);
        }
        const auto bits = static_cast<unsigned>(format.bits);
        CHECK(words_in(packed->qweight) == pack_by_bits(codes, bits, k * bits / 32, true, gptq_place));
        const auto back = io::unpack_gptq(*packed, config_of(format, io::GptqVersion::v1));
        REQUIRE(message(back) == "");
        if (group < k)
            CHECK(same(*back, linear));
        else
            CHECK(back->transform.empty());  // one group: sorted, so no other order at all
    }
}

TEST_CASE("gptq: what it cannot hold is refused with what can", "[io]") {
    std::mt19937 random(19);
    const auto refusal = [&](const char* format, std::size_t n = 32, std::size_t k = 32) {
        const auto done = io::check_gptq(*parse_format(format), n, k);
        return done ? std::string() : done.error().message;
    };
    CHECK(contains(refusal("int5-g32"), "compressed-tensors"));
    CHECK(contains(refusal("int4-channel"), "int4-channel-sf16 fits"));
    CHECK(contains(refusal("int8-g32-asym-sf32"), "int8-g32-asym fits"));
    CHECK(contains(refusal("int4-tensor"), "int4-channel-sf16 fits"));
    CHECK(contains(refusal("int4-g32-fzero"), "int4-g32-asym fits"));
    CHECK(contains(refusal("q4_k"), ".gguf"));
    CHECK(contains(refusal("int4-g32", 31), "N = 31"));
    CHECK(contains(refusal("int4-g32", 32, 36), "K = 36 is no multiple of 8"));
    CHECK(contains(refusal("int3-g32", 16), "N = 16 is no multiple of 32"));
    CHECK(contains(refusal("int8-g32", 32, 34), "multiple of 4"));
    CHECK(contains(refusal("int4-g32", 0), "N = 0"));
    CHECK(refusal("int4-g12", 8, 8) == "");

    Linear linear = random_linear(*parse_format("int4-g8"), 8, 8, random);
    linear.transform.channel_scales.assign(8, 2.0f);
    CHECK(contains(message(io::pack_gptq(linear, io::GptqVersion::v1)), "channel scales"));
    linear = random_linear(*parse_format("int4-g8"), 8, 8, random, true);
    CHECK(contains(message(io::pack_gptq(linear, io::GptqVersion::v1)), "float columns"));
    linear = random_linear(*parse_format("int4-g8"), 8, 8, random);
    linear.transform.permutation.assign(8, 3);
    CHECK(contains(message(io::pack_gptq(linear, io::GptqVersion::v1)), "there twice"));
}

TEST_CASE("gptq: hostile tensors", "[io][hostile]") {
    const auto unpacked = [](io::GptqTensors tensors, const io::GptqConfig& config = good_config) {
        return message(io::unpack_gptq(tensors, config));
    };
    const auto good = good_tensors();
    REQUIRE(unpacked(good) == "");
    const auto with = [&](auto&& change) {
        auto tensors = good;
        change(tensors);
        return unpacked(std::move(tensors));
    };
    const auto zeros = [](Scalar type, Tensor::Shape shape) {
        auto out = *Tensor::allocate(type, std::move(shape));
        std::ranges::fill(out.mutable_bytes(), std::byte{0});
        return out;
    };
    CHECK(contains(with([&](auto& t) { t.qweight = zeros(Scalar::f32, {2, 8}); }), "qweight is f32"));
    CHECK(contains(with([&](auto& t) { t.qweight = zeros(Scalar::i32, {16}); }), "two extents"));
    CHECK(contains(with([&](auto& t) { t.qweight = zeros(Scalar::i32, {0, 8}); }), "two extents"));
    CHECK(contains(with([&](auto& t) { t.qweight = zeros(Scalar::i32, {2, 0}); }), "two extents"));
    CHECK(contains(with([&](auto& t) { t.qweight = {}; }), "qweight"));
    CHECK(contains(with([&](auto& t) { t.qweight = zeros(Scalar::i32, {2, 9}); }), "multiple of 8"));
    CHECK(contains(with([&](auto& t) { t.qweight = zeros(Scalar::i32, {3, 8}); }), "qzeros is i32 (2, 1)"));
    CHECK(contains(with([&](auto& t) { t.qzeros = zeros(Scalar::i32, {1, 2}); }), "not i32 (2, 1)"));
    CHECK(contains(with([&](auto& t) { t.qzeros = zeros(Scalar::u8, {2, 1}); }), "qzeros is u8"));
    CHECK(contains(with([&](auto& t) { t.scales = zeros(Scalar::f16, {8, 2}); }), "not f16 (2, 8)"));
    CHECK(contains(with([&](auto& t) { t.scales = zeros(Scalar::i8, {2, 8}); }), "scales of type i8"));
    CHECK(contains(with([&](auto& t) { t.g_idx = zeros(Scalar::i32, {15}); }), "group index"));
    CHECK(contains(with([&](auto& t) { t.g_idx = zeros(Scalar::i64, {16}); }), "group index"));
    CHECK(contains(with([&](auto& t) { t.g_idx = zeros(Scalar::i32, {16}); }), "more than 8"));
    for (const std::uint32_t wrong : {2u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu}) {
        std::vector<std::uint32_t> groups{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, wrong};
        CHECK(contains(with([&](auto& t) { t.g_idx = words_tensor({16}, groups); }), "there are 2"));
    }
    CHECK(with([&](auto& t) { t.g_idx.reset(); }) == "");

    const auto config = [&](int bits, std::optional<std::size_t> group) {
        return unpacked(good, {bits, group, true, io::GptqVersion::v1});
    };
    for (const int bits : {-4, 0, 1, 5, 16, 32}) CHECK(contains(config(bits, 8), "bits are not read"));
    CHECK(contains(config(4, 0), "group size is 0"));
    CHECK(contains(config(4, std::numeric_limits<std::size_t>::max()), "qzeros"));
    CHECK(contains(config(4, 4), "qzeros"));
    CHECK(contains(config(3, 8), "multiple of 3"));
    CHECK(contains(config(4, std::nullopt), "qzeros"));
    auto tiny = good;  // groups of 4: right in the file, too small for the formats
    tiny.qzeros = zeros(Scalar::i32, {4, 1});
    tiny.scales = zeros(Scalar::f16, {4, 8});
    CHECK(contains(unpacked(tiny, {4, 4, true, io::GptqVersion::v1}), "a group of 4"));

    auto odd = good;  // NaN stays NaN
    for (std::byte& byte : odd.scales.mutable_bytes()) byte = std::byte{0xFF};
    const auto back = io::unpack_gptq(odd, good_config);
    REQUIRE(back);
    CHECK(half_at(back->weights.scales, 3) == 0xFFFF);
}
