// Format: the grammar of names both ways, what it refuses, bits per weight by hand.
#include "fewbit/formats/format.hpp"

#include <cmath>
#include <vector>

#include "support/all_formats.hpp"
#include "support/catch.hpp"

using namespace fewbit;

TEST_CASE("format: a name reads back to the same format", "[formats][name]") {
    auto formats = testing::all_formats({8, 32, 37, 128});
    CHECK(formats.size() == 3 + 7 * 6 * 4 * 3);
    const auto others = testing::codebook_and_dq_formats({8, 32, 37, 128});
    CHECK(others.size() == 5 * (6 * 3 + 4) + 4 * 6 + 7 * 3 * 4);  // e8m0: not iq4; doubly quantized: groups
    formats.insert(formats.end(), others.begin(), others.end());
    for (const Format& format : formats) {
        INFO(name(format));
        const auto parsed = parse_format(name(format));
        REQUIRE(parsed);
        CHECK(*parsed == format);
        CHECK(name(*parsed) == name(format));
    }
}

TEST_CASE("format: names as people write them", "[formats][name]") {
    const auto same = [](const char* a, const char* b) {
        INFO(a << " and " << b);
        REQUIRE(parse_format(a));
        CHECK(name(*parse_format(a)) == b);
    };
    same("int4", "int4-channel");
    same("int4-sf32", "int4-channel");
    same("int4-g128-sf16", "int4-g128");
    same("int4-sbf16-asym-g64", "int4-g64-asym-sbf16");  // options in any order
    same("int8-tensor-narrow", "int8-tensor-narrow");
    same("int2-g8-fzero", "int2-g8-fzero");
    same("f16", "f16");
    same("nf4", "nf4-channel");
    same("nf4-dq-g64", "nf4-g64-dq");
    same("fp4-g16", "e2m1-g16");
    same("fp8-e4m3", "fp8-e4m3-channel");
    same("fp8-e5m2-tensor", "fp8-e5m2-tensor");
    same("fp8-e4m3-g32-se8m0", "mxfp8");
    same("int4-g32-asym-dq", "int4-g32-asym-dq");
    same("mxfp4", "mxfp4");
    same("e2m1-g32-se8m0", "e2m1-g32-se8m0");
    CHECK(parse_format("int4-g32")->scale == Scalar::f16);
    CHECK(parse_format("int4")->scale == Scalar::f32);
    CHECK(*parse_format("int4-g32") != *parse_format("int4-g64"));
    CHECK(*parse_format("int4-g32") != *parse_format("int4-g32-asym"));
}

TEST_CASE("format: bad names get a sentence that quotes the word", "[formats][name]") {
    struct Bad {
        const char* name;
        const char* because;  // part of the sentence
    };
    for (const Bad& bad : std::initializer_list<Bad>{
             {"", "'' is not an element"},
             {"int", "'int' is not an element"},
             {"int1", "1 bits"},
             {"int9", "9 bits"},
             {"int16", "'int16' is not an element"},
             {"int04", "'int04' is not an element"},
             {"Int4", "'Int4' is not an element"},
             {"float", "'float' is not an element"},
             {"f32-g32", "f32 takes no options"},
             {"f16-", "f16 takes no options"},
             {"int4-", "ends in '-'"},
             {"int4--asym", "'' is not an option"},
             {"int4-g", "'g' is not an option"},
             {"int4-g7", "a group of 7 weights is too small"},
             {"int4-g0", "a group of 0"},
             {"int4-g99999999999999999999", "'g99999999999999999999' is not a group size"},
             {"int4-g32x", "'g32x' is not a group size"},
             {"int4-g-32", "'g' is not an option"},
             {"int4-g32-g64", "'g64' says a second time"},
             {"int4-channel-tensor", "'tensor' says a second time"},
             {"int4-asym-fzero", "'fzero' says a second time"},
             {"int4-narrow-narrow", "'narrow' says a second time"},
             {"int4-sf32-sf16", "'sf16' says a second time"},
             {"int4-asym-narrow", "a narrow grid is symmetric"},
             {"int4-sf64", "'sf64' is not an option"},
             {"int4 -g32", "'int4 ' is not an element"},
             {"nf4-", "ends in '-'"},
             {"nf44", "'nf44' is not an element"},
             {"fp8", "'fp8' is not an element"},
             {"fp8-e4m3x", "'fp8' is not an element"},
             {"mxfp8-g32", "'mxfp8' is not an element"},
             {"nf4-asym", "a codebook has its own bits"},
             {"e2m1-narrow", "a codebook has its own bits"},
             {"int4-g32-se8m0", "scales of type e8m0 are of nf4"},
             {"iq4-g32-se8m0", "scales of type e8m0 are of nf4"},
             {"nf4-dq", "double quantization is of scales of groups"},
             {"int4-tensor-dq", "double quantization is of scales of groups"},
             {"int4-g32-fzero-dq", "double quantization is of scales of groups"},
             {"nf4-g64-sf16-dq", "'dq' says a second time"},
             {"nf4-g64-su8", "'su8' is not an option"},
             {"int4-g32 ", "'g32 ' is not a group size"},
         }) {
        INFO("name '" << bad.name << "'");
        const auto parsed = parse_format(bad.name);
        REQUIRE(!parsed);
        INFO(parsed.error().message);
        CHECK(parsed.error().message.starts_with(text("format '", bad.name, "': ")));
        CHECK(parsed.error().message.find(bad.because) != std::string::npos);
    }
}

TEST_CASE("format: validate refuses hand-made nonsense", "[formats]") {
    Format format;
    format.bits = 1;
    CHECK(!validate(format));
    format.bits = 4;
    format.group = 3;
    CHECK(!validate(format));
    format.granularity = Granularity::channel;  // then the group is not read
    CHECK(validate(format));
    format.scale = Scalar::i8;
    CHECK(!validate(format));
    CHECK(validate(float_format(Scalar::bf16)));
}

TEST_CASE("format: bits per weight by hand", "[formats][bpw]") {
    struct Case {
        const char* name;
        std::size_t n, k;
        double bits;
    };
    for (const Case& c : std::initializer_list<Case>{
             {"int4-g32", 64, 256, 4.5},                 // 16/32
             {"int4-g128", 64, 256, 4.125},              // 16/128
             {"int4-g128-asym", 64, 256, 4.15625},       // (16 + 4)/128
             {"int4-g128-fzero", 64, 256, 4.25},         // (16 + 16)/128
             {"int3-g64-asym-sf32", 64, 256, 3.546875},  // (32 + 3)/64
             {"int2-g16-sbf16", 64, 256, 3.0},           // 16/16
             {"int8-channel", 64, 256, 8.125},           // 32/256
             {"int8-channel-asym", 64, 256, 8.15625},    // (32 + 8)/256
             {"int8-tensor", 64, 256, 8.0 + 32.0 / (64 * 256)},
             {"int4-g32", 3, 40, 4.0 + 2 * 16.0 / 40},  // a short group has a whole scale
             {"nf4-g64-dq", 64, 4096, 4 + 8.0 / 64 + 8.0 / 4096},
             {"int4-g32-asym-dq", 64, 256, 4 + 12.0 / 32 + 8.0 / 256},
             {"mxfp8", 64, 256, 8.25},
             {"fp8-e4m3", 64, 256, 8.125},
             {"f32", 3, 40, 32.0},
             {"bf16", 3, 40, 16.0},
             {"int4-g32", 0, 40, 0.0},
             {"int4-g32", 3, 0, 0.0},
         }) {
        INFO(c.name << " " << c.n << " x " << c.k);
        CHECK(std::abs(bits_per_weight(*parse_format(c.name), c.n, c.k) - c.bits) <= 1e-12);
    }
}
