// Laws of ggml's blocks that need no vectors: codes go in and come out, weights on the grid are kept, errors
// stay within a step, and nothing is undefined for any finite input.
#include "fewbit/formats/ggml/blocks.hpp"

#include <cfloat>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/formats/ggml/encode_one_pass.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::ggml;
using testing::Random;

namespace {

std::vector<float> round_trip(BlockType type, std::span<const float> x,
                              std::span<const float> importance = {}) {
    const BlockTraits& t = traits(type);
    std::vector<std::uint8_t> bytes(row_bytes(type, x.size()), 0xAA);  // encoders overwrite every byte
    encode_row(type, x, importance, bytes);
    std::vector<float> values(x.size());
    for (std::size_t b = 0; b < x.size() / t.elements; ++b)
        dequantize_block(type, bytes.data() + b * t.bytes, values.data() + b * t.elements);
    return values;
}

double sqnr_db(std::span<const float> x, std::span<const float> y) {
    double signal = 0, noise = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double a = static_cast<double>(x[i]), b = static_cast<double>(y[i]);
        signal += a * a;
        noise += (a - b) * (a - b);
    }
    return 10 * std::log10(signal / noise);
}

}  // namespace

TEST_CASE("ggml types: names and ids lead back, blocks hold their codes") {
    std::set<std::uint32_t> ids;
    for (std::size_t i = 0; i < block_types.size(); ++i) {
        const BlockTraits& t = block_types[i];
        INFO(t.name);
        CHECK(static_cast<std::size_t>(t.type) == i);
        CHECK(parse_block_type(t.name) == t.type);
        CHECK(block_type_of_id(t.id) == t.type);
        CHECK(ids.insert(t.id).second);
        CHECK(t.elements % t.group == 0);
        CHECK(t.elements <= max_block_elements);
        // tq1_0 has 5 trits in 8 bits; all others have at least the bits of their codes.
        CHECK(t.bytes * 8 >= t.elements * static_cast<std::size_t>(t.bits) - (t.name == "tq1_0" ? 96u : 0u));
        CHECK(codebook(t.type).size() == (t.grid == Grid::codebook ? std::size_t{1} << t.bits : 0u));
    }
    CHECK_FALSE(parse_block_type("Q4_K"));
    CHECK_FALSE(parse_block_type("q4_2"));
    CHECK_FALSE(block_type_of_id(4));
    CHECK(row_bytes(BlockType::q4_k, 4096) == 2304);
}

TEST_CASE("ggml blocks: codes that go in come out, whatever the block held, and parameters stay") {
    Random random(1);
    for (const BlockTraits& t : block_types) {
        INFO(t.name);
        for (int round = 0; round < 50; ++round) {
            std::vector<std::uint8_t> codes(t.elements), block(t.bytes), back(t.elements);
            for (std::uint8_t& byte : block) byte = static_cast<std::uint8_t>(random.bits());
            // Parameters whose bytes are no number compare unequal: keep them small.
            std::vector<GroupParameters> before;
            for (std::size_t g = 0; g < t.elements / t.group; ++g)
                before.push_back(group_parameters(t.type, block.data(), g));
            const unsigned most = t.name == "tq1_0" ? 2 : (1u << t.bits) - 1;
            for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.below(most + 1));
            pack_codes(t.type, codes.data(), block.data());
            unpack_codes(t.type, block.data(), back.data());
            CHECK(back == codes);
            for (std::size_t g = 0; g < before.size(); ++g) {
                const GroupParameters after = group_parameters(t.type, block.data(), g);
                CHECK(std::bit_cast<std::uint32_t>(after.scale) ==
                      std::bit_cast<std::uint32_t>(before[g].scale));
                CHECK(std::bit_cast<std::uint32_t>(after.offset) ==
                      std::bit_cast<std::uint32_t>(before[g].offset));
            }
            // Packing what a block holds changes nothing.
            std::vector<std::uint8_t> again = block;
            pack_codes(t.type, back.data(), again.data());
            CHECK(again == block);
        }
    }
}

TEST_CASE("mxfp4: the exponent is that of a logarithm rounded to f32") {
    // Just below 2^n the rounded logarithm is n already; double precision tells where.
    std::size_t early = 0;
    for (int n = -125; n <= 127; ++n)
        for (int below = 0; below <= 100; ++below) {
            const auto v = static_cast<float>(std::ldexp(1.0 - below * 0x1p-24, n));
            const auto logarithm = static_cast<float>(std::log2(static_cast<double>(v)));
            INFO("2^" << n << " less " << below << " units");
            CHECK(ggml::detail::floor_of_rounded_log2(v) == static_cast<int>(std::floor(logarithm)));
            early += below > 0 && ggml::detail::floor_of_rounded_log2(v) == n;
        }
    CHECK(early > 1000);
    // Subnormal: exact.
    CHECK(ggml::detail::floor_of_rounded_log2(0x1p-149f) == -149);
    CHECK(ggml::detail::floor_of_rounded_log2(0x1.8p-127f) == -127);
}

TEST_CASE("ggml encoders: weights on the grid are kept") {
    Random random(2);
    for (const BlockType type : {BlockType::q4_0, BlockType::q5_0, BlockType::q8_0, BlockType::q4_1,
                                 BlockType::q5_1, BlockType::mxfp4, BlockType::nvfp4, BlockType::tq1_0,
                                 BlockType::tq2_0, BlockType::q2_0, BlockType::q1_0}) {
        const BlockTraits& t = traits(type);
        INFO(t.name);
        const int most = t.grid == Grid::integer && t.bits == 2 ? 2 : (1 << t.bits) - 1;
        std::vector<float> x(2 * t.elements);
        for (std::size_t i = 0; i < x.size(); ++i) {
            // Both ends of the grid are in every group, so that the scale is found.
            int code = i % t.group == 0 ? 0
                       : i % t.group == 1
                           ? most
                           : static_cast<int>(random.below(static_cast<std::size_t>(most) + 1));
            if (type == BlockType::q8_0 && code == 0) code = 1;  // -128 is never used
            const int zero = t.grid == Grid::real ? 3 : t.zero;
            x[i] = 0.25f * (t.grid == Grid::codebook ? codebook(type)[static_cast<std::size_t>(code)]
                                                     : static_cast<float>(code - zero));
        }
        CHECK(round_trip(type, x) == x);
        const std::vector<float> zeros(t.elements);
        for (const float value : round_trip(type, zeros)) CHECK(value == 0.0f);
    }
}

TEST_CASE("ggml encoders: on Gaussian weights more bits are better, and never worse than min-max rounding") {
    Random random(3);
    std::vector<float> x(256 * 64), ones(x.size(), 1.0f);
    for (float& each : x) each = static_cast<float>(0.02 * random.gaussian());
    for (const BlockTraits& t : block_types) {
        INFO(t.name);
        // A uniform grid of b bits over +-c sigma has noise (2 c / 2^b)^2 / 12 and 10.8 + 6.02 b - 20 log10(2
        // c) dB. Largest of n normals: about 2.1 sigma for 16, 2.4 for 32, 3 for 256; 1 dB for f16 scales,
        // 6-bit scales and unused ends. The bound of rate-distortion theory lies above everything.
        const double c = t.group <= 16 ? 2.1 : t.group <= 32 ? 2.4 : 3.2;
        double least = 10.8 + 6.02 * t.bits - 20 * std::log10(2 * c) - 1;
        if (t.bits <= 2) least = t.bits == 1 ? 4.0 : t.group >= 64 ? 0.5 : least - 1.5;  // mostly: zeros
        if (t.grid == Grid::codebook && t.bits == 4) least -= 2;
        const double db = sqnr_db(x, round_trip(t.type, x));
        CHECK(db > least);
        CHECK(db < 6.02 * (8.0 * static_cast<double>(t.bytes) / static_cast<double>(t.elements)));
        if (uses_importance(t.type)) {
            const double weighted = sqnr_db(x, round_trip(t.type, x, ones));
            CHECK(weighted > least);
        }
    }
}

TEST_CASE("ggml encoders: any finite input gives codes, and small inputs finite values") {
    Random random(4);
    const std::vector<float> importance(256, 1.0f), nothing(256, 0.0f);
    for (const float size :
         {0x1p-149f, 0x1p-130f, 0x1p-126f, 1e-20f, 1e-8f, 1.0f, 60000.0f, 1e6f, 1e30f, FLT_MAX})
        for (const int shape : {0, 1, 2, 3}) {
            std::vector<float> x(256);
            for (std::size_t i = 0; i < x.size(); ++i) {
                const auto value = static_cast<float>(random.uniform(-1, 1));
                x[i] = size * (shape == 0   ? value
                               : shape == 1 ? 1.0f                      // constant
                               : shape == 2 ? (i == 77 ? -1.0f : 0.0f)  // one of 256
                                            : std::fabs(value));        // no negative ones
            }
            for (const BlockTraits& t : block_types)
                for (const std::span<const float> w :
                     {std::span<const float>{}, std::span<const float>(importance),
                      std::span<const float>(nothing)}) {
                    const auto y = round_trip(t.type, x, w);
                    if (size > 60000.0f) continue;  // scales of f16 overflow: callers refuse such weights
                    bool finite = true;
                    for (const float value : y) finite = finite && std::isfinite(value);
                    INFO(t.name << ", size " << size << ", shape " << shape << ", importance " << w.size());
                    CHECK(finite);
                }
        }
}
