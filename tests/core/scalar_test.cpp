// Scalar conversions against an oracle that shares nothing with them: the table of all values of a type,
// decoded by ldexp in double, and a search for the nearest. Exhaustive over all patterns and over all ties
// and their neighbours.
#include "fewbit/core/scalar.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

/// What a type is, said once more and differently from scalar.hpp.
struct SmallType {
    const char* name;
    int exponent_bits, mantissa_bits;
    bool infinity;   // has one (else all patterns but one NaN per sign are finite)
    bool saturates;  // conversions clamp instead of overflowing
    float (*decode)(std::uint32_t);
    std::uint32_t (*encode)(float);

    int bits() const { return 1 + exponent_bits + mantissa_bits; }
    std::uint32_t sign() const { return 1u << (bits() - 1); }
    bool is_nan(std::uint32_t p) const {
        const std::uint32_t m = p & ((1u << mantissa_bits) - 1),
                            e = p >> mantissa_bits & ((1u << exponent_bits) - 1);
        const std::uint32_t ones = (1u << exponent_bits) - 1;
        return e == ones && (infinity ? m != 0 : m == (1u << mantissa_bits) - 1);
    }
    bool is_infinite(std::uint32_t p) const {
        return infinity && (p & (sign() - 1)) == ((1u << exponent_bits) - 1) << mantissa_bits;
    }
    double value(std::uint32_t p) const {
        const int bias = (1 << (exponent_bits - 1)) - 1;
        const int e = static_cast<int>(p >> mantissa_bits & ((1u << exponent_bits) - 1));
        const int m = static_cast<int>(p & ((1u << mantissa_bits) - 1));
        const double magnitude = e == 0 ? std::ldexp(m, 1 - bias - mantissa_bits)
                                        : std::ldexp(m + (1 << mantissa_bits), e - bias - mantissa_bits);
        return (p & sign()) != 0 ? -magnitude : magnitude;
    }
};

const SmallType types[] = {
    {"f16", 5, 10, true, false, [](std::uint32_t p) { return float_from_f16(static_cast<std::uint16_t>(p)); },
     [](float x) -> std::uint32_t { return f16_from_float(x); }},
    {"bf16", 8, 7, true, false,
     [](std::uint32_t p) { return float_from_bf16(static_cast<std::uint16_t>(p)); },
     [](float x) -> std::uint32_t { return bf16_from_float(x); }},
    {"fp8_e4m3", 4, 3, false, true,
     [](std::uint32_t p) { return float_from_fp8_e4m3(static_cast<std::uint8_t>(p)); },
     [](float x) -> std::uint32_t { return fp8_e4m3_from_float(x); }},
    {"fp8_e5m2", 5, 2, true, true,
     [](std::uint32_t p) { return float_from_fp8_e5m2(static_cast<std::uint8_t>(p)); },
     [](float x) -> std::uint32_t { return fp8_e5m2_from_float(x); }},
};

/// The oracle: nonnegative finite values, ascending (their patterns are 0, 1, 2, ...), and nearest by search.
struct Oracle {
    const SmallType& type;
    std::vector<double> values;

    explicit Oracle(const SmallType& t) : type(t) {
        for (std::uint32_t p = 0; p < t.sign() && !t.is_nan(p) && !t.is_infinite(p); ++p)
            values.push_back(t.value(p));
    }
    std::uint32_t nearest(float x) const {
        const std::uint32_t sign = std::signbit(x) ? type.sign() : 0;
        const double magnitude = std::abs(static_cast<double>(x));
        const double largest = values.back(), before = values[values.size() - 2];
        const auto last = static_cast<std::uint32_t>(values.size() - 1);
        if (magnitude > largest) {
            // IEEE: rounds as if the exponent range went on; halfway goes to infinity, whose pattern would be
            // even.
            const bool over = magnitude >= largest + (largest - before) / 2;
            return sign | (over && !type.saturates ? last + 1 : last);
        }
        const auto above = std::lower_bound(values.begin(), values.end(), magnitude);
        const auto high = static_cast<std::uint32_t>(above - values.begin());
        if (*above == magnitude) return sign | high;
        const double to_high = *above - magnitude, to_low = magnitude - values[high - 1];
        if (to_high == to_low) return sign | (high % 2 == 0 ? high : high - 1);
        return sign | (to_high < to_low ? high : high - 1);
    }
};

float ulp_step(float x, int direction) { return std::nextafter(x, direction > 0 ? HUGE_VALF : -HUGE_VALF); }

}  // namespace

TEST_CASE("scalar: every pattern decodes to its value and encodes back to itself", "[core][scalar]") {
    for (const SmallType& type : types) {
        INFO(type.name);
        std::size_t wrong = 0;
        for (std::uint32_t p = 0; p < (1u << type.bits()); ++p) {
            const float decoded = type.decode(p);
            if (type.is_nan(p)) {
                wrong += !std::isnan(decoded);
                wrong += !type.is_nan(type.encode(decoded));
                wrong += (type.encode(decoded) & type.sign()) != (p & type.sign());
            } else if (type.is_infinite(p)) {
                wrong += !std::isinf(decoded) || std::signbit(decoded) != ((p & type.sign()) != 0);
                wrong += type.encode(decoded) != (type.saturates ? p - 1 : p);
            } else {
                wrong += static_cast<double>(decoded) != type.value(p);
                wrong += std::signbit(decoded) != ((p & type.sign()) != 0);
                wrong += type.encode(decoded) != p;
            }
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("scalar: every tie and both its f32 neighbours round as the table of values says",
          "[core][scalar]") {
    for (const SmallType& type : types) {
        INFO(type.name);
        const Oracle oracle(type);
        std::size_t wrong = 0, ties = 0;
        const auto check = [&](float x) {
            for (const float v : {ulp_step(x, -1), x, ulp_step(x, 1)})
                for (const float signed_v : {v, -v})
                    wrong += type.encode(signed_v) != oracle.nearest(signed_v);
        };
        for (std::size_t i = 0; i + 1 < oracle.values.size(); ++i) {
            const double middle = 0.5 * (oracle.values[i] + oracle.values[i + 1]);
            REQUIRE(static_cast<double>(static_cast<float>(middle)) == middle);
            check(static_cast<float>(middle));
            check(static_cast<float>(oracle.values[i]));
            ++ties;
        }
        const double largest = oracle.values.back();
        const double half_step = (largest - oracle.values[oracle.values.size() - 2]) / 2;
        check(static_cast<float>(largest));
        if (std::isfinite(static_cast<float>(largest + half_step)))
            check(static_cast<float>(largest + half_step));
        check(std::numeric_limits<float>::denorm_min());
        check(std::numeric_limits<float>::min());
        CHECK(wrong == 0);
        CHECK(ties == oracle.values.size() - 1);
        // Beyond everything.
        const auto top = static_cast<std::uint32_t>(oracle.values.size() - 1);
        CHECK(type.encode(std::numeric_limits<float>::max()) == (type.saturates ? top : top + 1));
        CHECK(type.encode(-HUGE_VALF) == (type.sign() | (type.saturates ? top : top + 1)));
        CHECK(type.is_nan(type.encode(std::numeric_limits<float>::quiet_NaN())));
        CHECK(type.is_nan(
            type.encode(std::bit_cast<float>(0x7F800001u))));  // signalling, payload in the lowest bit
    }
}

TEST_CASE("scalar: random f32 patterns round as the table says", "[core][scalar]") {
    testing::Random random(7);
    for (const SmallType& type : types) {
        INFO(type.name);
        const Oracle oracle(type);
        std::size_t wrong = 0;
        for (int i = 0; i < 200000; ++i) {
            const float x = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
            if (std::isnan(x))
                wrong += !type.is_nan(type.encode(x));
            else if (std::isfinite(x))
                wrong += type.encode(x) != oracle.nearest(x);
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("scalar: f16 of well-known numbers", "[core][scalar]") {
    CHECK(f16_from_float(1.0f) == 0x3C00);
    CHECK(f16_from_float(-2.0f) == 0xC000);
    CHECK(f16_from_float(65504.0f) == 0x7BFF);
    CHECK(f16_from_float(65519.996f) == 0x7BFF);
    CHECK(f16_from_float(65520.0f) == 0x7C00);
    CHECK(f16_from_float(0x1p-24f) == 0x0001);
    CHECK(f16_from_float(0x1p-25f) == 0x0000);         // a tie, to even
    CHECK(f16_from_float(0x1.000002p-25f) == 0x0001);  // just above it
    CHECK(f16_from_float(-0.0f) == 0x8000);
    CHECK(fp8_e4m3_from_float(464.0f) == 0x7E);  // saturates
    CHECK(fp8_e5m2_from_float(1e9f) == 0x7B);
}

TEST_CASE("scalar: e8m0 is a power of two, rounded down", "[core][scalar]") {
    std::size_t wrong = 0;
    for (int p = 0; p < 255; ++p) {
        const float value = float_from_e8m0(static_cast<std::uint8_t>(p));
        wrong += static_cast<double>(value) != std::ldexp(1.0, p - 127);
        wrong += e8m0_from_float(value) != p;
        wrong += e8m0_from_float(-value) != p;
        if (p < 254) wrong += e8m0_from_float(std::nextafter(std::ldexp(1.0f, p - 126), 0.0f)) != p;
    }
    CHECK(wrong == 0);
    CHECK(std::isnan(float_from_e8m0(255)));
    CHECK(e8m0_from_float(std::numeric_limits<float>::quiet_NaN()) == 255);
    CHECK(e8m0_from_float(0.0f) == 0);
    CHECK(e8m0_from_float(1e-45f) == 0);
    CHECK(e8m0_from_float(HUGE_VALF) == 254);
    CHECK(e8m0_from_float(std::numeric_limits<float>::max()) == 254);
}

TEST_CASE("scalar: load and store are little-endian, unaligned, and inverse to each other",
          "[core][scalar]") {
    for (const Scalar type : {Scalar::f32, Scalar::f64, Scalar::f16, Scalar::bf16, Scalar::fp8_e4m3,
                              Scalar::fp8_e5m2, Scalar::e8m0}) {
        INFO(name(type));
        std::vector<std::byte> memory(size_bytes(type) +
                                      1);  // ends with the element: address sanitizer sees more
        for (const float value : {1.0f, 2.0f, 0.5f}) {
            store_float(type, value, memory.data() + 1);
            CHECK(load_float(type, memory.data() + 1) == value);
        }
    }
    std::byte bytes[4] = {};
    store_float(Scalar::f32, 1.0f, bytes);
    CHECK((bytes[0] == std::byte{0} && bytes[2] == std::byte{0x80} && bytes[3] == std::byte{0x3F}));
    store_float(Scalar::i8, 5.0f, bytes);  // integers are codes: untouched, and read as 0
    CHECK(bytes[2] == std::byte{0x80});
    CHECK(load_float(Scalar::i8, bytes) == 0.0f);
    CHECK(size_bytes(Scalar::f64) == 8);
    CHECK(size_bytes(Scalar::e8m0) == 1);
}

TEST_CASE("scalar: runs are what their elements are, of every length and alignment", "[core][scalar]") {
    testing::Random random(5);
    for (const Scalar type : {Scalar::f32, Scalar::f64, Scalar::f16, Scalar::bf16, Scalar::fp8_e4m3,
                              Scalar::fp8_e5m2, Scalar::e8m0}) {
        INFO(name(type));
        for (std::size_t count = 0; count <= 67; ++count) {
            std::vector<std::byte> memory(1 + count * size_bytes(type));
            for (std::byte& byte : memory) byte = static_cast<std::byte>(random.below(256));
            std::vector<float> run(count + 1, 7.0f);
            load_floats(type, memory.data() + 1, count, run.data());
            for (std::size_t i = 0; i < count; ++i)
                CHECK(
                    std::bit_cast<std::uint32_t>(run[i]) ==
                    std::bit_cast<std::uint32_t>(load_float(type, memory.data() + 1 + i * size_bytes(type))));
            CHECK(run[count] == 7.0f);
        }
    }
}
