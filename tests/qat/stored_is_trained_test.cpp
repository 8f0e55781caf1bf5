// The grid in training is the stored grid: values and codes, bit for bit, over all formats and odd shapes.
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "fewbit/qat/learned_grids.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "qat_support.hpp"
#include "support/all_formats.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::qat;
using fewbit::testing::Mask;

namespace {

struct Case {
    const char* name;
    Matrix w;
};

std::vector<Case> cases() {
    std::vector<Case> out;
    const auto add = [&](const char* name, std::size_t n, std::size_t k,
                         const std::function<double(testing::Random&, std::size_t)>& draw) {
        Matrix w(n, k);
        testing::Random random(7, out.size());
        for (std::size_t i = 0; i < n * k; ++i) w.values()[i] = static_cast<float>(draw(random, i));
        out.push_back({name, std::move(w)});
    };
    using R = testing::Random;
    add("gaussian, short last group", 3, 75, [](R& r, std::size_t) { return r.gaussian() * 0.02; });
    add("a group and one", 2, 65, [](R& r, std::size_t) { return r.student_t(3); });
    add("one value", 1, 1, [](R& r, std::size_t) { return r.gaussian(); });
    add("one column", 4, 1, [](R& r, std::size_t) { return r.gaussian(); });
    add("far from zero", 2, 41, [](R& r, std::size_t) { return 100 + r.uniform(); });
    add("subnormal f16 scales", 2, 41, [](R& r, std::size_t) { return r.gaussian() * 3e-7; });
    add("subnormal f32", 2, 41, [](R& r, std::size_t) { return r.gaussian() * 1e-41; });
    add("few values", 2, 40, [](R& r, std::size_t) { return static_cast<double>(r.below(3)) - 1.0; });
    add("zeros", 2, 19, [](R&, std::size_t) { return 0.0; });
    add("constant", 2, 19, [](R&, std::size_t) { return -0.3; });
    add("empty", 0, 16, [](R&, std::size_t) { return 0.0; });
    add("no columns", 3, 0, [](R&, std::size_t) { return 0.0; });
    return out;
}

}  // namespace

TEST_CASE("fake_quantize: fitted grids are rtn's, and values and codes those of the stored matrix",
          "[qat][stored]") {
    for (const Case& c : cases())
        for (const Format& format : testing::all_formats({8, 37, 64})) {
            INFO(c.name << " " << name(format));
            std::vector<GroupGrid> grids(format.scales(c.w.rows(), c.w.cols()));
            REQUIRE(fit_grids(c.w, format, grids));
            const auto rtn = quantize_rtn(c.w, format);
            const auto stored = to_quantized(c.w, format, grids);
            REQUIRE(rtn);
            REQUIRE(stored);
            CHECK(testing::same_bytes(*stored, rtn->linear.weights));
            for (const Border border : {Border::code, Border::value}) {
                Matrix values(c.w.rows(), c.w.cols());
                Mask mask(c.w.rows(), c.w.cols());
                REQUIRE(fake_quantize(c.w, format, grids, values, mask, border));
                CHECK(testing::different_values(values, *stored) == 0);
                Matrix in_place = c.w;  // out may be w, and the mask may be left out
                REQUIRE(fake_quantize(in_place, format, grids, in_place, {}, border));
                CHECK(testing::same_bits(in_place.values(), values.values()));
            }
        }
}

TEST_CASE("LearnedGrids: what a forward shows is what is stored, wherever training took the parameters",
          "[qat][stored]") {
    for (const Case& c : cases())
        for (const Format& format : testing::all_formats({8, 37})) {
            if (format.is_float()) continue;
            for (const InitialScale from :
                 {InitialScale::lsq, InitialScale::lsq_plus, InitialScale::fitted}) {
                INFO(c.name << " " << name(format) << " initial " << static_cast<int>(from));
                auto grids = LearnedGrids::make(c.w, format, from);
                REQUIRE(grids);
                // A step of training: numbers that no stored type holds exactly.
                testing::Random random(3);
                for (float& s : grids->scales()) s *= static_cast<float>(random.uniform(0.3, 1.3));
                for (std::size_t i = 0; i < grids->offsets().size(); ++i)
                    grids->offsets()[i] += grids->scales()[i] * static_cast<float>(random.uniform(-5, 5));
                Matrix values(c.w.rows(), c.w.cols());
                Mask mask(c.w.rows(), c.w.cols());
                REQUIRE(grids->forward(c.w, values, mask));
                const auto stored = grids->to_quantized(c.w);
                REQUIRE(stored);
                CHECK(testing::different_values(values, *stored) == 0);
                // The stored parameters are the grids', read back from their bytes.
                std::size_t wrong = 0;
                for (std::size_t i = 0; i < grids->grids().size(); ++i) {
                    const std::size_t r = i / stored->scale_cols(), g = i % stored->scale_cols();
                    const GroupGrid& grid = grids->grids()[i];
                    wrong += stored->scale(r, g) != grid.scale || stored->zero(r, g) != grid.zero ||
                             stored->offset(r, g) != grid.offset;
                }
                CHECK(wrong == 0);
            }
        }
}

TEST_CASE("LearnedGrids: stored are the parameters of now, not of the last forward", "[qat][stored]") {
    const Matrix w = testing::gaussian_matrix(4, 40, 5);
    auto grids = LearnedGrids::make(w, *parse_format("int4-g16-asym"));
    REQUIRE(grids);
    Matrix values(4, 40);
    REQUIRE(grids->forward(w, values, {}));
    for (float& s : grids->scales()) s *= 1.5f;
    const auto stored = grids->to_quantized(w);
    REQUIRE(stored);
    CHECK(testing::different_values(values, *stored) > 0);
    REQUIRE(grids->forward(w, values, {}));
    CHECK(testing::different_values(values, *stored) == 0);
}

TEST_CASE("round_grids: scales are rounded to their type before codes are chosen", "[qat][stored]") {
    // 0.1 in f16 is 0x2E66 = 0.0999755859375. 0.14998 / 0.1 = 1.4998 rounds to 1, 0.14998 / 0.09997558
    // = 1.50017 to 2: with the f32 scale the code would be another.
    const Format format = *parse_format("int4-channel-sf16");
    const float scale = 0.1f, w[] = {0.14998f};
    GroupGrid grid;
    REQUIRE(round_grids(format, {&scale, 1}, {}, {&grid, 1}));
    CHECK(grid.scale == 0.0999755859375f);
    float value = 0;
    REQUIRE(fake_quantize({w, 1, 1}, format, {&grid, 1}, {&value, 1, 1}, {}));
    CHECK(value == 2 * 0.0999755859375f);
    // The zero point too: 0.6499 / 0.1 = 6.499, but 0.6499 / 0.09997559 = 6.5006.
    const float beta = -0.6499f;
    REQUIRE(round_grids(*parse_format("int4-channel-asym-sf16"), {&scale, 1}, {&beta, 1}, {&grid, 1}));
    CHECK(grid.zero == 7);
}

TEST_CASE("round_grids: parameters_of goes back and forth", "[qat][stored]") {
    const Matrix w = testing::heavy_tailed_matrix(5, 75, 11);
    for (const Format& format : testing::all_formats({8, 37})) {
        if (format.is_float()) continue;
        INFO(name(format));
        std::vector<GroupGrid> grids(format.scales(5, 75)), again(grids.size());
        REQUIRE(fit_grids(w, format, grids));
        std::vector<float> scales(grids.size()), offsets(format.offset == Offset::none ? 0 : grids.size());
        parameters_of(format, grids, scales, offsets);
        REQUIRE(round_grids(format, scales, offsets, again));
        // The last group of 1 in groups of 37 with an offset is that offset: scale 0, which could not be
        // trained.
        for (GroupGrid& grid : grids)
            if (grid.scale == 0) grid.scale = format.scale == Scalar::f16 ? 0x1p-14f : 0x1p-126f;
        CHECK(grids == again);
    }
}

TEST_CASE("round_grids: subnormal scales round up as fit_grid's do", "[qat][stored]") {
    // A narrow 2-bit grid over [-s, s] has the scale s: the library's own rounding of s.
    testing::Random random(2);
    for (const Scalar type : {Scalar::f32, Scalar::f16, Scalar::bf16}) {
        Format format = *parse_format("int2-channel-narrow");
        format.scale = type;
        std::size_t wrong = 0;
        for (int i = 0; i < 4000; ++i) {
            const double lowest = type == Scalar::f16 ? -30 : -148;
            const auto s = static_cast<float>(std::exp2(random.uniform(lowest, 15)));
            GroupGrid grid;
            REQUIRE(round_grids(format, {&s, 1}, {}, {&grid, 1}));
            const GroupGrid wanted = *fit_grid(format, -s, s);
            wrong += !(grid == wanted);
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("qat: what cannot be quantized is named", "[qat][errors]") {
    Matrix w = testing::gaussian_matrix(3, 20, 1), out(3, 20);
    const Format format = *parse_format("int4-g8");
    std::vector<GroupGrid> grids(9);
    REQUIRE(fit_grids(w, format, grids));
    const auto says = [](const auto& result, const std::string& part) {
        REQUIRE(!result);
        INFO(result.error().message);
        CHECK(result.error().message.find(part) != std::string::npos);
    };
    CHECK(!fake_quantize(w, format, std::span(grids).first(8), out, {}));
    CHECK(!fake_quantize(w, format, grids, Matrix(3, 19), {}));
    CHECK(!fake_quantize(w, format, grids, out, Mask(2, 20)));
    w(1, 17) = std::numeric_limits<float>::quiet_NaN();
    says(fake_quantize(w, format, grids, out, {}), "weight [1, 17] is NaN");
    says(fit_grids(w, format, grids), "weight [1, 17] is NaN");
    says(to_quantized(w, format, grids), "weight [1, 17] is NaN");
    says(LearnedGrids::make(w, format), "weight [1, 17] is NaN");
    w(1, 17) = -std::numeric_limits<float>::infinity();
    says(fake_quantize(w, float_format(Scalar::f16), {}, out, {}), "weight [1, 17] is -infinity");
    w(1, 17) = 7e5f;
    says(fake_quantize(w, float_format(Scalar::f16), {}, out, {}), "weight [1, 17] is 7e+05");
    w(1, 17) = 7e6f;
    says(fit_grids(w, format, grids), "row 1, group 2: ");

    const auto round_one = [](const char* format_name, float scale, float offset) {
        const Format f = *parse_format(format_name);
        GroupGrid grid;
        return round_grids(f, {&scale, 1}, {&offset, f.offset == Offset::none ? 0u : 1u}, {&grid, 1});
    };
    says(round_one("int4-g8", 0.0f, 0), "scale 0 of 1 is 0; a trained scale must stay positive");
    says(round_one("int4-g8", -0.5f, 0), "is -0.5");
    says(round_one("int4-g8", std::nanf(""), 0), "is nan");
    says(round_one("int4-g8", 70000.0f, 0), "f16 cannot hold");
    says(round_one("int4-g8-fzero", 1.0f, -70000.0f), "f16 cannot hold");
    says(round_one("int4-g8-asym", 1.0f, std::nanf("")), "offset 0 of 1 is nan");
    CHECK(round_one("int4-g8-asym", 6000.0f, -70000.0f));  // a zero point of 12: beta is not stored
    says(round_one("int8-g8-sf32", 3e38f, 0), "f32 cannot hold");
    CHECK(round_one("int4-g8", 1e-30f, 0));  // the smallest f16, not 0
    // A far zero point is clamped, not refused: the type of the scale does not hold betas of integer zeros.
    CHECK(round_one("int4-g8-asym-sf32", 1e-30f, -1e30f));
}

TEST_CASE("project: a step too far leaves scales positive and zero points on the grid", "[qat][stored]") {
    const Matrix w = testing::gaussian_matrix(1, 16, 9);
    auto grids = LearnedGrids::make(w, *parse_format("int4-g8-asym-sf32"));
    REQUIRE(grids);
    const float before = grids->grids()[0].scale;
    grids->scales()[0] = -3.0f;
    grids->offsets()[0] = 0.25f;
    grids->scales()[1] = 2.0f;
    grids->offsets()[1] = -31.0f;
    grids->project();
    CHECK(grids->scales()[0] == before / 16);
    CHECK(grids->offsets()[0] == 0);
    CHECK(grids->scales()[1] == 2.0f);
    CHECK(grids->offsets()[1] == -30.0f);
    Matrix out(1, 16);
    CHECK(grids->forward(w, out, {}));
}
