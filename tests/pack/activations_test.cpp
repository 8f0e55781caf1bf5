// Laws of quantized activations beyond int8-row: fewer bits, zero points, tensors, static ranges.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "contract/cases.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/pack/packed_activations.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using fewbit::testing::Draw;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

ActivationFormat format_of(const char* name) { return *parse_activation_format(name); }

Matrix row_of(std::vector<float> values) {
    Matrix x(1, values.size());
    std::copy(values.begin(), values.end(), x.values().begin());
    return x;
}

std::vector<int> codes_of(const PackedActivations& packed, std::size_t m = 0) {
    const auto* codes =
        static_cast<const std::int8_t*>(packed.view().values) + m * packed.view().stride_elements;
    return {codes, codes + packed.k()};
}

PackedActivations packed(const Matrix& x, const char* format, const std::optional<StaticRange>& range = {}) {
    auto result = pack_activations(x.view(), format_of(format), 32, {}, range);
    REQUIRE(result);
    return *std::move(result);
}

/// What the codes stand for.
float value_of(const PackedActivations& x, std::size_t m, std::size_t k) {
    const ActivationsView& view = x.view();
    const int zero = x.zeros().empty() ? 0 : x.zeros()[m];
    return view.scales[m * view.groups + k / view.group_elements] *
           static_cast<float>(codes_of(x, m)[k] - zero);
}

/// The rule of int8-row as it stood before there were other formats.
float old_rule(const float* x, std::size_t count, std::int8_t* codes) {
    std::int32_t largest = 0;
    for (std::size_t i = 0; i < count; ++i)
        largest =
            std::max(largest, static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFu));
    const float scale = std::bit_cast<float>(largest) / 127.0f;
    if (largest >= 0x7F800000 || scale == 0.0f) {
        std::memset(codes, 0, count);
        return scale == 0.0f ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t code = std::bit_cast<std::int32_t>(x[i] / scale + 12582912.0f) - 0x4B400000;
        codes[i] = static_cast<std::int8_t>(std::clamp(code, -127, 127));
    }
    return scale;
}

}  // namespace

TEST_CASE("8 symmetric bits are the old codes, bit for bit") {
    Draw draw(17);
    for (const double sigma : {1.0, 1e-38, 1e-42, 3e-44, 1e37, 0.0})
        for (const std::size_t k : {1, 7, 64, 257})
            for (const char* format : {"int8-row", "int8-g32", "int8-tensor"}) {
                Matrix x = testing::heavy_tailed_matrix(3, k, k, sigma);
                if (k == 7) x(1, 3) = std::numeric_limits<float>::quiet_NaN();
                if (k == 64 && sigma == 1.0) x(2, 3) = -infinity;
                if (format == std::string("int8-tensor")) x = row_of({x.row(2).begin(), x.row(2).end()});
                const PackedActivations now = packed(x, format);
                const std::size_t group = std::min(now.view().group_elements, k);
                bool same = true;
                for (std::size_t m = 0; m < x.rows(); ++m)
                    for (std::size_t g = 0; g < now.view().groups; ++g) {
                        std::vector<std::int8_t> codes(std::min(group, k - g * group));
                        const float scale = old_rule(&x(m, g * group), codes.size(), codes.data());
                        const float here = now.view().scales[m * now.view().groups + g];
                        same = same && (std::isnan(scale) ? std::isnan(here) : scale == here);
                        for (std::size_t i = 0; i < codes.size(); ++i)
                            same = same && codes[i] == codes_of(now, m)[g * group + i];
                    }
                INFO(format << " k " << k << " sigma " << sigma);
                CHECK(same);
            }
}

TEST_CASE("by hand: fewer bits, zero points, edges of the range") {
    CHECK(codes_of(packed(row_of({7, -7, 0.5f, 1.5f, -2.5f}), "int4-row")) ==
          std::vector<int>{7, -7, 0, 2, -2});
    CHECK(codes_of(packed(row_of({1, -1, 0.4f, -0.6f}), "int2-row")) == std::vector<int>{1, -1, 0, -1});
    // 16 codes over [0, 15]: zero is the first code, scale 1.
    const PackedActivations positive = packed(row_of({0, 15, 7, 1}), "int4-row-asym");
    CHECK(positive.zeros()[0] == -8);
    CHECK(positive.view().scales[0] == 1.0f);
    CHECK(codes_of(positive) == std::vector<int>{-8, 7, -1, -7});
    // The same, all negative: zero is the last code.
    const PackedActivations negative = packed(row_of({0, -15, -7, -1}), "int4-row-asym");
    CHECK(negative.zeros()[0] == 7);
    CHECK(codes_of(negative) == std::vector<int>{7, -8, 0, 6});
    // 255 codes over [-4, 250]: zero -127 + 4.
    const PackedActivations wide = packed(row_of({-4, 250, 0, 100}), "int8-row-asym");
    CHECK(wide.zeros()[0] == -123);
    CHECK(codes_of(wide) == std::vector<int>{-127, 127, -123, -23});
    CHECK(wide.view().sums[0] == -127 + 127 - 123 - 23);
}

TEST_CASE("0.0 is exact, every value is within half a step, the ends of the range are codes") {
    Draw draw(5);
    for (int i = 0; i < 400; ++i) {
        ActivationFormat format = testing::draw_activation_format(draw);
        format.is_static = false;
        Matrix x(3, 1 + draw.below(70));
        testing::draw_activations(x.view(), draw);
        const float shift = draw.below(2) == 0 ? 0.0f : 8.0f * draw.uniform();
        for (float& value : x.values()) value += shift;
        for (std::size_t m = 0; m < 3; ++m) x(m, draw.below(x.cols())) = 0.0f;
        const auto p = pack_activations(x.view(), format, 8);
        REQUIRE(p);
        bool exact = true, near = true, in_range = true;
        for (std::size_t m = 0; m < 3; ++m) {
            const std::vector<int> codes = codes_of(*p, m);
            for (std::size_t k = 0; k < x.cols(); ++k) {
                const float scale = p->view().scales[m * p->view().groups + k / p->view().group_elements];
                const float value = value_of(*p, m, k);
                exact = exact && (x(m, k) != 0.0f || value == 0.0f);
                // Half a step, and the roundings of quotient and product: 2^9 steps * 2^-24 twice.
                near = near && std::fabs(value - x(m, k)) <= scale * (0.5f + 0x1p-14f);
                in_range = in_range && codes[k] >= format.min_code() && codes[k] <= format.max_code();
            }
        }
        INFO(name(format) << ", K " << x.cols() << ", shift " << shift);
        CHECK(exact);
        CHECK(near);
        CHECK(in_range);
    }
}

TEST_CASE("a row of positive values uses all asymmetric codes, and only half of the symmetric ones") {
    Matrix x(1, 2001);
    for (std::size_t k = 0; k < x.cols(); ++k) x(0, k) = static_cast<float>(k) / 2000.0f;
    for (int bits = 2; bits <= 8; ++bits)
        for (const char* rest : {"-row-asym", "-row"}) {
            const std::string word = text("int", bits, rest);
            const ActivationFormat format = format_of(word.c_str());
            std::vector<int> codes = codes_of(packed(x, word.c_str()));
            std::ranges::sort(codes);
            codes.erase(std::unique(codes.begin(), codes.end()), codes.end());
            INFO(word);
            CHECK(codes.front() == (format.asymmetric ? format.min_code() : 0));
            CHECK(codes.back() == format.max_code());
            CHECK(codes.size() == static_cast<std::size_t>(codes.back() - codes.front() + 1));
        }
}

TEST_CASE("constant rows are exact or within half a step") {
    for (const char* word : {"int8-row", "int8-row-asym", "int2-row-asym", "int3-tensor-asym"})
        for (const float value : {1.0f, -3.0f, 1e30f, 0.0f}) {
            const PackedActivations p = packed(row_of(std::vector<float>(40, value)), word);
            INFO(word << " " << value);
            for (std::size_t k = 0; k < 40; ++k)
                CHECK(std::fabs(value_of(p, 0, k) - value) <= 0x1p-22f * std::fabs(value));
        }
}

TEST_CASE("a dynamic tensor is a row when M is 1, and joins rows otherwise") {
    Draw draw(8);
    for (const char* pair : {"int8", "int5", "int2"})
        for (const char* asym : {"", "-asym"}) {
            Matrix x(1, 100);
            testing::draw_activations(x.view(), draw);
            const PackedActivations row = packed(x, text(pair, "-row", asym).c_str()),
                                    tensor = packed(x, text(pair, "-tensor", asym).c_str());
            CHECK(codes_of(row) == codes_of(tensor));
            CHECK(row.view().scales[0] == tensor.view().scales[0]);
            CHECK(std::ranges::equal(row.zeros(), tensor.zeros()));
        }
    Matrix x(2, 2);
    x(0, 0) = 1, x(0, 1) = -254, x(1, 0) = 127, x(1, 1) = 254;
    const PackedActivations p = packed(x, "int8-tensor");
    CHECK(p.view().scales[0] == 2.0f);
    CHECK(p.view().scales[1] == 2.0f);
    CHECK(codes_of(p, 1) == std::vector<int>{64, 127});  // 63.5 to even
}

TEST_CASE("static: the range decides, values outside are clipped") {
    const StaticRange range{-1, 3};
    const Matrix x = row_of({-1, 3, 0, -2, 100, 3e38f, -3e38f, 1});
    const PackedActivations p = packed(x, "int4-tensor-asym-static", range);
    const float scale = 4.0f / 15.0f;
    CHECK(p.view().scales[0] == scale);
    CHECK(p.zeros()[0] == -8 + 4);  // 3.75 to 4
    CHECK(codes_of(p) == std::vector<int>{-8, 7, -4, -8, 7, 7, -8, 0});
    const PackedActivations q = packed(x, "int8-tensor-static", range);
    CHECK(q.view().scales[0] == 3.0f / 127.0f);
    CHECK(codes_of(q) == std::vector<int>{-42, 127, 0, -85, 127, 127, -127, 42});
    CHECK(q.zeros().empty());
    // Where adding 1.5 * 2^23 would change the sign, and beyond.
    for (const float far : {1e4f, 1e6f, 4e6f, 1.3e7f, 1.5e7f, 2e7f, 3e7f, 1e9f, 3e38f}) {
        const PackedActivations p_far =
            packed(row_of({far * scale, -far * scale}), "int4-tensor-asym-static", range);
        INFO(far);
        CHECK(codes_of(p_far) == std::vector<int>{7, -8});
    }
    // The same grid, whatever else is in the batch.
    CHECK(codes_of(packed(row_of({1}), "int8-tensor-static", range)) == std::vector<int>{42});
    // A range of nothing reads everything as 0.
    const PackedActivations none = packed(x, "int8-tensor-asym-static", StaticRange{0, 0});
    for (std::size_t k = 0; k < 8; ++k) CHECK(value_of(none, 0, k) == 0.0f);
    // A dynamic tensor of the same extent has the same grid.
    const Matrix y = row_of({-1, 3, 0.3f});
    CHECK(codes_of(packed(y, "int8-tensor-asym")) == codes_of(packed(y, "int8-tensor-asym-static", range)));
}

TEST_CASE("ranges are given to static formats and to no others") {
    const Matrix x = row_of({1, 2});
    const auto missing = pack_activations(x.view(), format_of("int8-tensor-static"), 8);
    REQUIRE(!missing);
    CHECK(missing.error().message.find("int8-tensor-static activations need a range") != std::string::npos);
    const auto unwanted = pack_activations(x.view(), format_of("int8-row"), 8, {}, StaticRange{0, 1});
    REQUIRE(!unwanted);
    CHECK(unwanted.error().message.find("none can be given") != std::string::npos);
    CHECK(!pack_activations(x.view(), format_of("int8-tensor-static"), 8, {}, StaticRange{1, 0}));
}

TEST_CASE("NaN and infinity: what shares the grid is NaN, and nothing else") {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
                            infinity, -infinity})
        for (const char* word : {"int8-row", "int4-row-asym", "int8-tensor", "int8-tensor-asym",
                                 "int8-tensor-static", "int8-tensor-asym-static", "int6-g8"}) {
            const ActivationFormat format = format_of(word);
            Matrix x = testing::gaussian_matrix(3, 20, 4);
            x(1, 13) = bad;
            std::optional<StaticRange> range;
            if (format.is_static) range = StaticRange{-2, 1};
            const PackedActivations p = packed(x, word, range);
            const bool all = format.granularity == Granularity::tensor && !format.is_static;
            INFO(word << " " << bad);
            for (std::size_t m = 0; m < 3; ++m)
                for (std::size_t k = 0; k < 20; ++k) {
                    const bool shares =
                        all || (m == 1 && (format.granularity != Granularity::group || k / 8 == 1));
                    CHECK(std::isnan(value_of(p, m, k)) == shares);
                }
        }
}

TEST_CASE("subnormals: grids stay within their codes, what underflows is zero") {
    for (const char* word : {"int8-row-asym", "int4-row-asym", "int2-row", "int8-tensor-asym"}) {
        const ActivationFormat format = format_of(word);
        for (const float size : {1e-45f, 1e-44f, 1e-43f, 2e-43f, 5e-43f, 1e-40f, 1e-38f})
            for (const Matrix& x : {row_of({size, 0, -size}), row_of({size, 0}), row_of({-size, 0})}) {
                const PackedActivations p = packed(x, word);
                INFO(word << " " << size);
                for (std::size_t k = 0; k < x.cols(); ++k) {
                    CHECK(codes_of(p)[k] >= format.min_code());
                    CHECK(codes_of(p)[k] <= format.max_code());
                    if (x(0, k) == 0.0f) CHECK(value_of(p, 0, k) == 0.0f);
                    // A coarse scale is off by half of the smallest subnormal, at each of up to 127 codes.
                    CHECK(std::fabs(value_of(p, 0, k) - x(0, k)) <=
                          0.5f * p.view().scales[0] + 128 * 0x1p-149f);
                }
            }
    }
}

TEST_CASE("the bytes do not depend on the number of threads, and empty x is packed") {
    ThreadPool pool(3);
    Matrix x = testing::heavy_tailed_matrix(33, 130, 3, 1.0);
    for (const char* word : {"int8-row", "int8-tensor", "int8-tensor-asym", "int3-row-asym"}) {
        const auto one = pack_activations(x.view(), format_of(word), 32),
                   three = pack_activations(x.view(), format_of(word), 32, pool);
        REQUIRE(one);
        REQUIRE(three);
        CHECK(std::ranges::equal(one->zeros(), three->zeros()));
        for (std::size_t m = 0; m < 33; ++m) {
            CHECK(codes_of(*one, m) == codes_of(*three, m));
            CHECK(one->view().scales[m] == three->view().scales[m]);
        }
        CHECK(pack_activations(Matrix(0, 5).view(), format_of(word), 8));
        const auto no_columns = pack_activations(Matrix(2, 0).view(), format_of(word), 8);
        REQUIRE(no_columns);
        for (const int zero : no_columns->zeros()) CHECK(zero == 0);
    }
}
