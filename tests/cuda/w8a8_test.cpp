// W8A8 of CUDA, run on the host lane by lane: rows become bytes as the CPU makes them, bit for bit, and products are the exact sums
// of integers, scaled, or those of fp8 within what tensor cores lose.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/host_launch.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/pack/mma16.hpp"
#include "fewbit/pack/packed_activations.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

using decoding::Number;
using decoding::Zero;
using ByteKind = mma16::Codes;

constexpr float untouched = -12345.5f;

/// Where byte (row, input) of rounded x stands, by the drawing in w8a8.hpp.
std::size_t place_of_byte(std::size_t row, std::size_t input, std::size_t padded_k) {
    const std::size_t chunk = input / 32, within = input % 32, unit = within / 4 % 2;
    const std::size_t byte = within / 8 * 4 + within % 4;
    return (((row / 128 * (padded_k / 32) + chunk) * 2 + unit) * 128 + row % 128) * 16 + byte;
}

template <ByteKind Kind>
struct Rows {
    std::vector<std::byte> given;  ///< as `type`
    Number type;
    std::size_t m, k, padded;
    std::vector<std::uint8_t> rounded;
    std::vector<float> scales;
    std::vector<std::int32_t> sums;

    Rows(const Matrix& x, Number number, std::size_t padded_k)
        : type(number), m(x.rows()), k(x.cols()), padded(padded_k) {
        const Scalar scalar = scalar_of(type);
        given.resize(m * (k + 3) * size_bytes(scalar), std::byte{0x7F});
        for (std::size_t r = 0; r < m; ++r)
            for (std::size_t c = 0; c < k; ++c)
                store_float(scalar, x(r, c), given.data() + (r * (k + 3) + c) * size_bytes(scalar));
        rounded.assign(decoding::rounded_bytes(m, padded), 0x7F);  // NaN of e4m3
        scales.assign(m, -1);
        sums.assign(m, -1);
        const decoding::RoundCall call{given.data(),
                                       rounded.data(),
                                       scales.data(),
                                       Kind == ByteKind::int8 ? sums.data() : nullptr,
                                       k + 3,
                                       static_cast<std::uint32_t>(m),
                                       static_cast<std::uint32_t>(k),
                                       static_cast<std::uint32_t>(padded),
                                       type};
        for (unsigned b = 0; b * decoding::warps_per_block < m; ++b)
            decoding::round_rows<Kind>(call, HostBlock(b, 1));
    }
    [[nodiscard]] float at(std::size_t r, std::size_t c) const {
        const Scalar scalar = scalar_of(type);
        return load_float(scalar, given.data() + (r * (k + 3) + c) * size_bytes(scalar));
    }
    [[nodiscard]] std::uint8_t byte(std::size_t r, std::size_t c) const {
        return rounded[place_of_byte(r, c, padded)];
    }
    /// What a byte stands for, unscaled.
    [[nodiscard]] double number(std::size_t r, std::size_t c) const {
        return Kind == ByteKind::int8 ? static_cast<double>(static_cast<std::int8_t>(byte(r, c)))
                                      : static_cast<double>(float_from_fp8_e4m3(byte(r, c)));
    }
};

struct W8A8Shape {
    std::size_t m, n, k;
    unsigned blocks;  ///< that the device holds at once
};

/// One product by both ways of multiplying, blocks in several orders. Returns the squared error and the squared answer.
template <ByteKind Kind>
std::pair<double, double> check_w8a8(const Format& format, Number type, const W8A8Shape& shape,
                                     std::uint64_t seed) {
    const auto [m, n, k, blocks] = shape;
    INFO(name(format) << ", " << m << " x " << n << " x " << k << ", " << blocks << " blocks, seed " << seed);
    const Matrix values = gaussian_matrix(n, k, seed), given = gaussian_matrix(m, k, seed + 1000, 3.0);
    const auto quantized = quantize_rtn(values.view(), format);
    REQUIRE(quantized);
    const QuantizedMatrix& w = quantized->linear.weights;
    const auto packed = pack_mma16(w);
    REQUIRE(packed);
    REQUIRE(packed->groups <= 1);
    REQUIRE(packed->kind() == Kind);
    const Rows<Kind> x(given, type, packed->padded_k());
    const Matrix bias = gaussian_matrix(1, n, seed + 2);
    std::vector<float> y(m * (n + 5), untouched);
    const auto number = [](Scalar scalar) {
        return scalar == Scalar::f32 ? Number::f32 : scalar == Scalar::f16 ? Number::f16 : Number::bf16;
    };
    const cuda::Plan plan = cuda::plan_as(cuda::Way::prompt, packed->tiles, packed->chunks, m, blocks);
    std::vector<float> parts(plan.part_floats);
    std::vector<std::uint32_t> counters(plan.counters(), 0);
    decoding::Call call{};
    call.codes = packed->codes.bytes().data();
    call.scales = packed->scales.bytes().data();
    call.offsets = packed->offsets.elements() == 0 ? nullptr : packed->offsets.bytes().data();
    call.x = x.rounded.data();
    call.x_scales = x.scales.data();
    call.x_sums = Kind == ByteKind::int8 ? x.sums.data() : nullptr;
    call.bias = seed % 2 == 0 ? bias.values().data() : nullptr;
    call.y = y.data();
    call.parts = parts.data();
    call.counters = counters.data();
    call.y_stride = n + 5;
    call.m = static_cast<std::uint32_t>(m), call.n = static_cast<std::uint32_t>(n);
    call.chunks = static_cast<std::uint32_t>(packed->chunks);
    call.groups = 1;
    call.partition = plan.partition;
    call.scale_type = number(packed->scales.type()), call.y_type = Number::f32;
    call.zero = packed->format.offset == Offset::none      ? Zero::middle
                : packed->format.offset == Offset::integer ? Zero::integer
                                                           : Zero::real;
    double lost = 0, all = 0;
    std::vector<std::uint8_t> codes(k);
    for (const bool wgmma : {false, true}) {
        INFO((wgmma ? "by wgmma" : "by mma"));
        std::vector<unsigned> order(plan.partition.blocks);
        std::iota(order.begin(), order.end(), 0u);
        std::mt19937 shuffled(static_cast<unsigned>(seed));
        std::vector<float> first;
        for (int round = 0; round < 2; ++round) {
            std::fill(y.begin(), y.end(), untouched);
            std::fill(parts.begin(), parts.end(), std::numeric_limits<float>::quiet_NaN());
            unsigned hazards = 0;
            for (const unsigned b : order) hazards += run_w8a8_block<Kind>(call, wgmma, b);
            CHECK(hazards == 0);
            CHECK(std::ranges::all_of(counters, [](std::uint32_t count) { return count == 0; }));
            if (round == 0) first = y;
            CHECK(std::memcmp(first.data(), y.data(), y.size() * sizeof(float)) == 0);
            std::shuffle(order.begin(), order.end(), shuffled);
        }
        std::size_t wrong = 0;
        for (std::size_t r = 0; r < n; ++r) {
            w.unpack(r, 0, codes);
            const auto scale = k == 0 ? 0 : static_cast<double>(w.scale(r, 0)),
                       offset = k == 0 ? 0 : static_cast<double>(w.offset(r, 0)),
                       b = call.bias == nullptr ? 0 : static_cast<double>(call.bias[r]);
            for (std::size_t t = 0; t < m; ++t) {
                double sum = 0, of_x = 0, magnitudes = 0, largest = 0;
                for (std::size_t i = 0; i < k; ++i) {
                    const double product = static_cast<double>(w.level(r, 0, codes[i])) * x.number(t, i);
                    sum += product, magnitudes += std::fabs(product), of_x += x.number(t, i);
                    largest = std::max(largest, std::fabs(product));
                }
                const auto scale_x = static_cast<double>(x.scales[t]);
                const double exact = scale_x * (scale * sum + offset * of_x) + b;
                const double size =
                    scale_x * (scale * std::fabs(sum) + std::fabs(offset * of_x)) + std::fabs(b);
                // The conversion of the sum, three roundings of the value, one of its sum with the bias.
                double allowed = 5 * 0x1p-24 * size;
                if constexpr (Kind == ByteKind::fp8) {
                    // Each of 33 terms of a step loses 2^-13 of the largest of them, products or a sum of up to 128; sums of those
                    // are rounded to f32, as are those of blocks that share a tile.
                    const double steps = static_cast<double>(packed->chunks);
                    allowed += scale_x * scale *
                               (steps * 33 * 0x1p-13 * std::min(128 * largest, magnitudes) +
                                (steps + blocks) * 0x1p-24 * magnitudes);
                }
                const double error = static_cast<double>(y[t * (n + 5) + r]) - exact;
                wrong += !(std::fabs(error) <= allowed);
                lost += error * error, all += exact * exact;
            }
        }
        CHECK(wrong == 0);
        for (std::size_t t = 0; t < m; ++t)
            for (std::size_t i = n; i < n + 5; ++i) CHECK(y[t * (n + 5) + i] == untouched);
    }
    return {lost, all};
}

const std::vector<W8A8Shape> w8a8_shapes{{1, 1, 1, 1},    {1, 17, 100, 3}, {65, 300, 33, 2}, {130, 20, 64, 4},
                                         {9, 270, 32, 1}, {70, 40, 0, 5},  {40, 70, 700, 5}};

/// How many lanes of a warp meet in one bank at worst, where lane l reads the word at(l).
template <class F>
unsigned bank_conflicts(F&& at) {
    unsigned most = 0;
    for (unsigned bank = 0; bank < 32; ++bank) {
        std::set<unsigned> words;
        for (unsigned lane = 0; lane < 32; ++lane)
            if (at(lane) % 32 == bank) words.insert(at(lane));
        most = std::max(most, static_cast<unsigned>(words.size()));
    }
    return most;
}

}  // namespace

TEST_CASE("cuda w8a8: bytes of fragments cover the operands once, by the PTX manual's formulas", "[cuda]") {
    std::set<std::pair<unsigned, unsigned>> a, b;
    for (unsigned lane = 0; lane < 32; ++lane)
        for (unsigned e = 0; e < 4; ++e) {
            for (unsigned r = 0; r < 4; ++r) {
                const mma16::Element at = mma16::byte_of_a(lane, r, e);
                const unsigned i =
                    4 * r + e;  // a_i: row groupID for i < 4 and 8 <= i < 12, column behind 16 from i = 8 on
                CHECK(at.row == lane / 4 + (i < 4 || (i >= 8 && i < 12) ? 0 : 8));
                CHECK(at.column == lane % 4 * 4 + (i & 3) + (i < 8 ? 0 : 16));
                a.insert({at.row, at.column});
            }
            for (unsigned r = 0; r < 2; ++r) {
                const mma16::Element at = mma16::byte_of_b(lane, r, e);
                CHECK(at.row == lane % 4 * 4 + e + (r == 0 ? 0 : 16));
                CHECK(at.column == lane / 4);
                b.insert({at.row, at.column});
            }
        }
    CHECK(a.size() == 16 * 32);
    CHECK(b.size() == 32 * 8);
}

TEST_CASE("cuda w8a8: a byte of x meets the codes of the same input", "[cuda]") {
    // Column c of B, 16 bytes of unit c / 16 (K-major, PTX ISA "Strides"), against the columns of the registers of A that hold an input.
    for (const ByteKind kind : {ByteKind::int8, ByteKind::fp8})
        for (unsigned lane = 0; lane < mma16::lanes; ++lane)
            for (unsigned channel = lane / 4; channel < 16; channel += 8)
                for (unsigned input = 0; input < 32; ++input) {
                    const unsigned bit = mma16::bit_at(kind, channel, input);
                    if (bit / 128 != lane) continue;
                    mma16::Words words{};
                    words.w[bit % 128 / 32] = 0x55u << bit % 32;
                    const auto a = decoding::byte_fragment<ByteKind::fp8, HostMath>(words);
                    const std::size_t place = place_of_byte(0, input, 32);
                    for (unsigned r = 0; r < 4; ++r)
                        for (unsigned e = 0; e < 4; ++e) {
                            if ((a.r[r] >> 8 * e & 0xFF) == 0) continue;
                            CHECK(mma16::byte_of_a(lane, r, e).row == channel);
                            CHECK(mma16::byte_of_a(lane, r, e).column ==
                                  place / (128 * 16) * 16 + place % 16);
                        }
                }
}

TEST_CASE("cuda w8a8: lanes that read at once stand in different banks, stages fit", "[cuda]") {
    const auto check_memory = []<ByteKind Kind>() {
        using Mma = typename decoding::W8A8Mma<Kind>::Memory;
        using Wgmma = typename decoding::W8A8Wgmma<Kind>::Memory;
        for (unsigned row = 0; row < 128; row += 8)
            CHECK(bank_conflicts([&](unsigned lane) { return (row + lane / 4) * 4 + lane % 4; }) == 1);
        CHECK(Mma::words * 4 + 1024 + 16 <=
              100 * 1024);  // of sm_86 and sm_89, the smallest; 1 KB is the system's
        CHECK(Wgmma::words * 4 + 1024 + 16 <= 228 * 1024);
        CHECK(Wgmma::words * 4 < 1u << 18);  // what a descriptor can name
        CHECK(Wgmma::chunk_code_words % 4 == 0);
    };
    check_memory.operator()<ByteKind::int8>();
    check_memory.operator()<ByteKind::fp8>();
}

namespace {

/// Rows that are hard to round: zeros, NaN, infinity, one large number, ties.
Matrix hard_rows(std::size_t k, double sigma, float largest_code) {
    Matrix x = gaussian_matrix(11, k, k + 3, sigma);
    if (k <= 8) return x;
    for (std::size_t c = 0; c < k; ++c) x(2, c) = 0;
    x(3, 5) = std::numeric_limits<float>::quiet_NaN();
    x(4, 6) = -std::numeric_limits<float>::infinity();
    x(5, 7) = 1e4f;
    for (std::size_t c = 0; c < k; ++c) x(6, c) = static_cast<float>(c % 7) * largest_code / 2;
    x(6, 0) = largest_code * largest_code;
    return x;
}

template <ByteKind Kind, class Body>
void each_hard_rows(float largest_code, Body&& body) {
    for (const Number type : {Number::f32, Number::f16, Number::bf16})
        for (const std::size_t k : {0, 1, 31, 32, 100, 257})
            for (const double sigma : {1.0, 1e-30, 1e-4}) {
                INFO("K " << k << ", sigma " << sigma);
                const Rows<Kind> rows(hard_rows(k, sigma, largest_code), type, round_up(k, std::size_t{32}));
                for (std::size_t r = 0; r < 11; ++r) {
                    bool finite = true;
                    float largest = 0;
                    for (std::size_t c = 0; c < k; ++c) {
                        finite = finite && std::isfinite(rows.at(r, c));
                        largest = std::max(largest, std::fabs(rows.at(r, c)));
                    }
                    for (std::size_t c = k; c < rows.padded; ++c) CHECK(rows.byte(r, c) == 0);
                    if (!finite)
                        CHECK(std::isnan(rows.scales[r]));
                    else
                        body(rows, r, largest);
                }
            }
}

}  // namespace

TEST_CASE("cuda w8a8: rows become the int8 that the CPU makes of them, bit for bit", "[cuda]") {
    each_hard_rows<ByteKind::int8>(127, [](const Rows<ByteKind::int8>& rows, std::size_t r, float largest) {
        const ActivationGrid grid = activation_grid(-largest, largest, int8_row_activations());
        CHECK(rows.scales[r] == grid.scale);
        std::int32_t sum = 0;
        for (std::size_t c = 0; c < rows.k; ++c) {
            const int code =
                grid.scale > 0
                    ? std::clamp(static_cast<int>(std::nearbyint(rows.at(r, c) / grid.scale)), -127, 127)
                    : 0;
            CHECK(static_cast<std::int8_t>(rows.byte(r, c)) == code);
            sum += code;
        }
        CHECK(rows.sums[r] == sum);
    });
}

TEST_CASE("cuda w8a8: rows become the nearest numbers of e4m3", "[cuda]") {
    each_hard_rows<ByteKind::fp8>(448, [](const Rows<ByteKind::fp8>& rows, std::size_t r, float largest) {
        CHECK(rows.scales[r] == largest / 448.0f);
        CHECK(rows.sums[r] == -1);
        for (std::size_t c = 0; c < rows.k; ++c) {
            if (!(rows.scales[r] > 0)) {
                CHECK(rows.byte(r, c) == 0);
                continue;
            }
            const auto ratio = static_cast<double>(rows.at(r, c) / rows.scales[r]);
            double nearest = std::numeric_limits<double>::infinity();
            bool tie_to_even = true;
            for (unsigned code = 0; code < 256; ++code) {
                if ((code & 0x7F) == 0x7F) continue;
                const double far = std::fabs(
                    static_cast<double>(float_from_fp8_e4m3(static_cast<std::uint8_t>(code))) - ratio);
                if (far < nearest) nearest = far, tie_to_even = true;
                if (far == nearest && (code & 1) == 0 && (rows.byte(r, c) & 1) != 0 &&
                    rows.number(r, c) !=
                        static_cast<double>(float_from_fp8_e4m3(static_cast<std::uint8_t>(code))))
                    tie_to_even = false;
            }
            CHECK(std::fabs(rows.number(r, c) - ratio) == nearest);
            CHECK(tie_to_even);
        }
    });
}

TEST_CASE("cuda w8a8: products of integers are exact sums, for every format and odd shape", "[cuda]") {
    std::uint64_t seed = 1;
    for (const char* format :
         {"int8-channel", "int8-channel-narrow", "int8-channel-asym", "int8-channel-fzero", "int8-tensor",
          "int8-tensor-asym", "int8-channel-sf16", "int8-channel-fzero-sbf16", "int6-channel"})
        for (const Number type : {Number::f32, Number::f16, Number::bf16})
            for (const W8A8Shape& shape : w8a8_shapes) {
                ++seed;
                if (fewbit_test::sampled() && seed % 5 != 0) continue;
                check_w8a8<ByteKind::int8>(*parse_format(format), type, shape, seed);
            }
}

TEST_CASE("cuda w8a8: products of fp8 lose only what tensor cores do", "[cuda]") {
    std::uint64_t seed = 1;
    for (const char* format : {"fp8-e4m3-channel", "fp8-e4m3-tensor-sf16"})
        for (const Number type : {Number::f32, Number::bf16})
            for (const W8A8Shape& shape : w8a8_shapes) {
                ++seed;
                if (fewbit_test::sampled() && seed % 5 != 0) continue;
                check_w8a8<ByteKind::fp8>(*parse_format(format), type, shape, seed);
            }
    // Over long rows the sums of a tensor core alone would lose more than 1e-6 of the square: they go no further than 128 inputs.
    const auto [lost, all] =
        check_w8a8<ByteKind::fp8>(*parse_format("fp8-e4m3-channel"), Number::f16, {8, 16, 4096, 1}, 99);
    CHECK(lost <= 1e-6 * all);
}

TEST_CASE("cuda w8a8: the largest sums fit 32 bits", "[cuda]") {
    // 255 * 127 * K, what codes less their zero point may sum to, for the longest rows that cuda::W8A8Product takes.
    static_assert(std::int64_t{255} * 127 * 65536 <= std::numeric_limits<std::int32_t>::max());
    // Both terms of it, codes less 128 and (128 - zero) times the sum of x.
    static_assert(std::int64_t{128} * 127 * 65536 * 2 <= std::numeric_limits<std::int32_t>::max());
}
