// The builds of ggml's encoders: all give the bytes of the scalar one, whatever the row and its length; q4_0, q4_1 and
// q8_0 those of a few lines here. (ggml_vectors_test.cpp compares every build with the reference.)
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "fewbit/core/scalar.hpp"
#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/formats/ggml/encoders.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using ggml::BlockType;

namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr std::size_t slack = 64;

Bytes encode(const ggml::Encoder& encoder, BlockType type, const std::vector<float>& x,
             const std::vector<float>& importance) {
    const std::size_t size = ggml::row_bytes(type, x.size());
    Bytes bytes(size + slack, 0x5A);
    encoder.encode_row(type, x, importance, std::span(bytes).first(size));
    for (std::size_t i = size; i < bytes.size(); ++i) REQUIRE(bytes[i] == 0x5A);
    bytes.resize(size);
    return bytes;
}

/// Rows that break things, by number.
struct Rows {
    std::mt19937 random{20240607};
    std::normal_distribution<float> normal;

    static constexpr int kinds = 14;
    float weight(int kind, std::size_t i) {
        const float v = normal(random);
        const std::uint32_t bits = static_cast<std::uint32_t>(random());
        switch (kind) {
            case 0: return v;
            case 1: return v * 1e-20f;  // groups that count as nothing
            case 2: return v * 1e37f;   // squares and scales overflow, f16 too
            case 3: return bits % 5 != 0 ? (bits % 2 ? 0.0f : -0.0f) : v;
            case 4: return std::copysign(1.5f, v);           // ties of magnitude
            case 5: return 0.37f;                            // constant, positive
            case 6: return i % 32 == 7 ? 1e10f : v * 1e-8f;  // one outlier
            case 7: return (bits & 0x7F800000u) == 0x7F800000u ? 0.0f : std::bit_cast<float>(bits);
            case 8: return std::round(v * 4) / 4;                      // ties of rounding
            case 9: return -std::fabs(v) - 3;                          // all negative
            case 10: return std::bit_cast<float>(bits & 0x807FFFFFu);  // subnormal
            case 11: return std::fabs(v) * 1e5f;                       // all positive, scales beyond f16
            case 12: return i % 64 < 32 ? 0.0f : v;                    // groups of zeros beside others
            default: return weight(static_cast<int>(i / 16 + bits % 2) % 13, i);
        }
    }
    std::vector<float> row(int kind, std::size_t n) {
        std::vector<float> x(n);
        for (std::size_t i = 0; i < n; ++i) x[i] = weight(kind, i);
        return x;
    }
    std::vector<float> importance(std::size_t n, bool wild) {
        std::vector<float> values(n);
        for (float& value : values) {
            const auto bits = static_cast<std::uint32_t>(random());
            value = bits % 16 == 0 ? 0.0f
                    : wild         ? std::bit_cast<float>(bits & 0x7F7FFFFFu)
                                   : std::exp(2 * normal(random));
        }
        return values;
    }
};

/// d (the block's first two bytes) and the codes of 32 weights, one by one.
std::uint16_t half_at(const std::uint8_t* p) { return static_cast<std::uint16_t>(p[0] | p[1] << 8); }

float usable_inverse(float d) { return d != 0 && std::isfinite(1 / d) ? 1 / d : 0.0f; }

void check_q4_0(const float* x, const std::uint8_t* block) {
    float m = 0;
    for (int i = 0; i < 32; ++i)
        if (std::fabs(x[i]) > std::fabs(m)) m = x[i];
    const float d = m / -8, inverse = usable_inverse(d);
    CHECK(half_at(block) == f16_from_float(d));
    for (int i = 0; i < 32; ++i) {
        const float v = x[i] * inverse + 8.5f;
        const int code = v >= 15 ? 15 : static_cast<int>(v);
        CHECK((i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4) == code);
    }
}
void check_q4_1(const float* x, const std::uint8_t* block) {
    float low = x[0], high = x[0];
    for (int i = 1; i < 32; ++i) {
        if (x[i] < low) low = x[i];
        if (x[i] > high) high = x[i];
    }
    const float d = (high - low) / 15, inverse = usable_inverse(d);
    CHECK(half_at(block) == f16_from_float(d));
    CHECK(half_at(block + 2) == f16_from_float(low));
    for (int i = 0; i < 32; ++i) {
        const float v = (x[i] - low) * inverse + 0.5f;  // NaN where the range overflows
        const int code = !(v > 0) ? 0 : v >= 15 ? 15 : static_cast<int>(v);
        CHECK((i < 16 ? block[4 + i] & 15 : block[4 + i - 16] >> 4) == code);
    }
}
void check_q8_0(const float* x, const std::uint8_t* block) {
    float m = 0;
    for (int i = 0; i < 32; ++i) m = std::fmax(m, std::fabs(x[i]));
    const float d = m / 127, inverse = usable_inverse(d);
    CHECK(half_at(block) == f16_from_float(d));
    for (int i = 0; i < 32; ++i) CHECK(static_cast<std::int8_t>(block[2 + i]) == std::lround(x[i] * inverse));
}

}  // namespace

TEST_CASE("ggml encoders: the last one is what encode_row takes, the first one has one lane") {
    const std::span<const ggml::Encoder> all = ggml::encoders();
    REQUIRE(all.size() >= 2);
    CHECK(all[0].name == "scalar");
    CHECK(all[0].lanes == 1);
    CHECK(all[1].name == "generic");
    Rows rows;
    const auto x = rows.row(0, 512), importance = rows.importance(512, false);
    Bytes bytes(ggml::row_bytes(BlockType::q4_k, 512));
    ggml::encode_row(BlockType::q4_k, x, importance, bytes);
    CHECK(bytes == encode(all.back(), BlockType::q4_k, x, importance));
}

TEST_CASE("ggml encoders: every build gives the bytes of the scalar one") {
    Rows rows;
    const std::span<const ggml::Encoder> all = ggml::encoders();
    for (const ggml::BlockTraits& t : ggml::block_types)
        for (int kind = 0; kind < Rows::kinds; ++kind)
            for (int repetition = 0; repetition < 6; ++repetition) {
                // Below, at and beyond what lanes and chunks hold.
                const std::size_t most = 4400 / t.elements;
                const std::size_t blocks = repetition == 0 ? 1 : 1 + rows.random() % most;
                const auto x = rows.row(kind, blocks * t.elements);
                const auto importance = rows.importance(x.size(), kind == 7 && repetition % 2 == 1);
                for (const bool weighted : {false, true}) {
                    const std::vector<float> weights = weighted ? importance : std::vector<float>();
                    const Bytes expected = encode(all[0], t.type, x, weights);
                    for (const ggml::Encoder& encoder : all.subspan(1)) {
                        const Bytes bytes = encode(encoder, t.type, x, weights);
                        INFO(t.name << ", " << encoder.name << ", row of kind " << kind << ", " << blocks
                                    << " blocks" << (weighted ? ", importance" : ""));
                        const auto [wrong, same] = std::ranges::mismatch(bytes, expected);
                        INFO("first wrong byte "
                             << (wrong - bytes.begin()) << ", of block "
                             << static_cast<std::size_t>(wrong - bytes.begin()) / t.bytes);
                        CHECK(bytes == expected);
                    }
                }
            }
}

TEST_CASE("ggml encoders: q4_0, q4_1 and q8_0 are what they say, ties and overflows included") {
    Rows rows;
    using Check = void (*)(const float*, const std::uint8_t*);
    const std::array<std::pair<BlockType, Check>, 3> checked{
        {{BlockType::q4_0, check_q4_0}, {BlockType::q4_1, check_q4_1}, {BlockType::q8_0, check_q8_0}}};
    for (const ggml::Encoder& encoder : ggml::encoders())
        for (const auto& [type, check] : checked)
            for (int kind = 0; kind < Rows::kinds; ++kind) {
                INFO(ggml::name(type) << ", " << encoder.name << ", row of kind " << kind);
                const auto x = rows.row(kind, 32 * 37);
                const Bytes bytes = encode(encoder, type, x, {});
                const std::size_t size = ggml::traits(type).bytes;
                for (std::size_t b = 0; b < 37; ++b) check(x.data() + 32 * b, bytes.data() + size * b);
            }
}
