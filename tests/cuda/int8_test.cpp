// W8A8 of CUDA, run on the host lane by lane: rows become int8 as the CPU makes them, bit for bit, and products are the exact sums
// of integers, scaled.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/host_warp.hpp"
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

constexpr float untouched = -12345.5f;

/// A block of threads of this file's kernels.
struct Int8HostBlock {
    unsigned number;
    [[nodiscard]] unsigned index() const { return number; }
    template <class F>
    void each_warp(F&& f) const {
        for (unsigned w = 0; w < decoding::warps_per_block; ++w) f(HostWarp(), w);
    }
    void store(void* to, Number type, std::uint64_t index, float value) const {
        REQUIRE(type == Number::f32);
        static_cast<float*>(to)[index] = value;
    }
};

struct Rows {
    std::vector<std::byte> given;  ///< as `type`
    Number type;
    std::size_t m, k, padded;
    std::vector<std::int8_t> codes;
    std::vector<float> scales;
    std::vector<std::int32_t> sums;

    Rows(const Matrix& x, Number number, std::size_t padded_k)
        : type(number), m(x.rows()), k(x.cols()), padded(padded_k) {
        const Scalar scalar = scalar_of(type);
        given.resize(m * (k + 3) * size_bytes(scalar), std::byte{0x7F});
        for (std::size_t r = 0; r < m; ++r)
            for (std::size_t c = 0; c < k; ++c)
                store_float(scalar, x(r, c), given.data() + (r * (k + 3) + c) * size_bytes(scalar));
        codes.assign(m * padded, 99);
        scales.assign(m, -1);
        sums.assign(m, -1);
        const decoding::QuantizeCall call{given.data(),
                                          codes.data(),
                                          scales.data(),
                                          sums.data(),
                                          k + 3,
                                          static_cast<std::uint32_t>(m),
                                          static_cast<std::uint32_t>(k),
                                          static_cast<std::uint32_t>(padded),
                                          type};
        for (unsigned b = 0; b * decoding::warps_per_block < m; ++b) quantize_rows(call, Int8HostBlock{b});
    }
    [[nodiscard]] float at(std::size_t r, std::size_t c) const {
        const Scalar scalar = scalar_of(type);
        return load_float(scalar, given.data() + (r * (k + 3) + c) * size_bytes(scalar));
    }
};

void check(const Format& format, Number type, std::size_t m, std::size_t n, std::size_t k,
           std::uint64_t seed) {
    INFO(name(format) << ", " << m << " x " << n << " x " << k << ", seed " << seed);
    const Matrix values = gaussian_matrix(n, k, seed), given = gaussian_matrix(m, k, seed + 1000, 3.0);
    const auto quantized = quantize_rtn(values.view(), format);
    REQUIRE(quantized);
    const QuantizedMatrix& w = quantized->linear.weights;
    const auto packed = pack_mma16(w);
    REQUIRE(packed);
    REQUIRE(packed->groups == 1);
    const Rows x(given, type, packed->padded_k());
    const Matrix bias = gaussian_matrix(1, n, seed + 2);
    std::vector<float> y(m * (n + 5), untouched);
    const Zero zero = format.offset == Offset::none      ? Zero::middle
                      : format.offset == Offset::integer ? Zero::integer
                                                         : Zero::real;
    const auto number = [](Scalar scalar) {
        return scalar == Scalar::f32 ? Number::f32 : scalar == Scalar::f16 ? Number::f16 : Number::bf16;
    };
    const decoding::Int8Call call{packed->codes.bytes().data(),
                                  packed->scales.bytes().data(),
                                  packed->offsets.elements() == 0 ? nullptr : packed->offsets.bytes().data(),
                                  x.codes.data(),
                                  x.scales.data(),
                                  x.sums.data(),
                                  seed % 2 == 0 ? bias.values().data() : nullptr,
                                  y.data(),
                                  packed->padded_k(),
                                  n + 5,
                                  static_cast<std::uint32_t>(m),
                                  static_cast<std::uint32_t>(n),
                                  static_cast<std::uint32_t>(packed->chunks),
                                  number(packed->scales.type()),
                                  Number::f32,
                                  zero};
    for (unsigned b = call.blocks(); b-- > 0;) int8_product(call, Int8HostBlock{b});

    std::vector<std::uint8_t> codes(k);
    std::size_t wrong = 0;
    for (std::size_t r = 0; r < n; ++r) {
        w.unpack(r, 0, codes);
        for (std::size_t t = 0; t < m; ++t) {
            std::int64_t sum = 0, of_x = 0;
            for (std::size_t i = 0; i < k; ++i) {
                sum += (codes[i] - w.zero(r, 0)) * x.codes[t * x.padded + i];
                of_x += x.codes[t * x.padded + i];
            }
            const auto scale = static_cast<double>(w.scale(r, 0)),
                       offset = static_cast<double>(w.offset(r, 0)),
                       scale_x = static_cast<double>(x.scales[t]),
                       b = call.bias == nullptr ? 0 : static_cast<double>(call.bias[r]);
            const double exact =
                scale_x * (scale * static_cast<double>(sum) + offset * static_cast<double>(of_x)) + b;
            const double size = scale_x * (scale * std::fabs(static_cast<double>(sum)) +
                                           std::fabs(offset * static_cast<double>(of_x))) +
                                std::fabs(b);
            // The conversion of the sum, three roundings of the value, one of its sum with the bias.
            wrong += !(std::fabs(static_cast<double>(y[t * (n + 5) + r]) - exact) <= 5 * 0x1p-24 * size);
        }
    }
    CHECK(wrong == 0);
    for (std::size_t t = 0; t < m; ++t)
        for (std::size_t i = n; i < n + 5; ++i) CHECK(y[t * (n + 5) + i] == untouched);
}

}  // namespace

TEST_CASE("cuda int8: bytes of fragments cover the operands once, by the PTX manual's formulas", "[cuda]") {
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

TEST_CASE("cuda int8: rows become what the CPU makes of them, bit for bit", "[cuda]") {
    for (const Number type : {Number::f32, Number::f16, Number::bf16})
        for (const std::size_t k : {0, 1, 31, 32, 100, 257})
            for (const double sigma : {1.0, 1e-30, 1e-4}) {
                INFO("K " << k << ", sigma " << sigma);
                Matrix x = gaussian_matrix(11, k, k + 3, sigma);
                if (k > 8) {
                    for (std::size_t c = 0; c < k; ++c) x(2, c) = 0;  // a row of zeros
                    x(3, 5) = std::numeric_limits<float>::quiet_NaN();
                    x(4, 6) = -std::numeric_limits<float>::infinity();
                    x(5, 7) = 1e4f;
                    for (std::size_t c = 0; c < k; ++c) x(6, c) = static_cast<float>(c % 7) * 63.5f;  // ties
                    x(6, 0) = 127 * 127.0f;
                }
                const Rows rows(x, type, k + 32 - k % 32);
                Matrix rounded(11, k);
                for (std::size_t r = 0; r < 11; ++r)
                    for (std::size_t c = 0; c < k; ++c) rounded(r, c) = rows.at(r, c);
                for (std::size_t r = 0; r < 11; ++r) {
                    bool finite = true;
                    float low = 0, high = 0;
                    for (const float value : rounded.row(r)) {
                        finite = finite && std::isfinite(value);
                        low = std::min(low, value), high = std::max(high, value);
                    }
                    if (!finite) {
                        CHECK(std::isnan(rows.scales[r]));
                        continue;
                    }
                    const ActivationGrid grid = activation_grid(low, high, int8_row_activations());
                    CHECK(rows.scales[r] == grid.scale);
                    std::int32_t sum = 0;
                    for (std::size_t c = 0; c < rows.padded; ++c) {
                        const int code =
                            c < k && grid.scale > 0
                                ? std::clamp(static_cast<int>(std::nearbyint(rounded(r, c) / grid.scale)),
                                             -127, 127)
                                : 0;
                        CHECK(rows.codes[r * rows.padded + c] == code);
                        sum += code;
                    }
                    CHECK(rows.sums[r] == sum);
                }
            }
}

TEST_CASE("cuda int8: products are exact sums, for every format and odd shape", "[cuda]") {
    std::uint64_t seed = 1;
    for (const char* format :
         {"int8-channel", "int8-channel-narrow", "int8-channel-asym", "int8-channel-fzero", "int8-tensor",
          "int8-tensor-asym", "int8-channel-sf16", "int8-channel-fzero-sbf16"})
        for (const Number type : {Number::f32, Number::f16, Number::bf16})
            for (const auto& [m, n, k] : {std::tuple<std::size_t, std::size_t, std::size_t>{1, 1, 1},
                                          {1, 17, 100},
                                          {65, 300, 33},
                                          {130, 20, 64},
                                          {9, 530, 32},
                                          {257, 16, 160}})
                check(*parse_format(format), type, m, n, k, ++seed);
}

TEST_CASE("cuda int8: the largest sums fit 32 bits", "[cuda]") {
    // 255 * 127 * K, what codes less their zero point may sum to, for the longest rows that cuda::Int8Product takes.
    static_assert(std::int64_t{255} * 127 * 65536 <= std::numeric_limits<std::int32_t>::max());
    // Both terms of it, codes less 128 and (128 - zero) times the sum of x.
    static_assert(std::int64_t{128} * 127 * 65536 * 2 <= std::numeric_limits<std::int32_t>::max());
}
