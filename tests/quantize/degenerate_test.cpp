// Every kind of degenerate weights that is known to break quantizers, over all formats where it means
// something.
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "support/all_formats.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

Matrix filled(std::size_t n, std::size_t k, float value) {
    Matrix w(n, k);
    for (float& x : w.values()) x = value;
    return w;
}

std::vector<float> decoded(const Quantized& q) {
    std::vector<float> all(q.linear.n() * q.linear.k());
    for (std::size_t r = 0; r < q.linear.n(); ++r)
        q.linear.weights.dequantize(r, 0, std::span(all).subspan(r * q.linear.k(), q.linear.k()));
    return all;
}

/// Both methods on w in every format; `check` gets the result.
void for_all(const Matrix& w, const std::function<void(const Format&, const Quantized&)>& check) {
    for (const Format& format : testing::all_formats({8, 32}))
        for (const Method& method : {Method(RtnOptions{}), Method(MseOptions{})}) {
            INFO(name(method) << " " << name(format));
            const auto q = quantize(w, {}, format, method);
            REQUIRE(q);
            for (const float value : decoded(*q)) REQUIRE(std::isfinite(value));
            check(format, *q);
        }
}

std::string error_of(const Matrix& w, const char* format, const char* tensor = "") {
    const auto q = quantize_rtn(w, *parse_format(format), {tensor});
    return q ? "no error" : q.error().message;
}

}  // namespace

TEST_CASE("degenerate: NaN and infinity are errors that name tensor and index", "[quantize][degenerate]") {
    ThreadPool pool(7);
    for (const Format& format : testing::all_formats({32}))
        for (const float bad : {NAN, HUGE_VALF, -HUGE_VALF}) {
            auto w = testing::gaussian_matrix(20, 40, 1);
            w(12, 7) = bad;
            w(12, 9) = NAN;
            w(19, 0) = NAN;  // the first in row order is named, whichever thread finds its own first
            for (const Method& method : {Method(RtnOptions{}), Method(MseOptions{})}) {
                const auto q = quantize(w, {}, format, for_tensor(method, "layers.3.wq"), pool);
                REQUIRE(!q);
                CHECK(q.error().kind == ErrorKind::bad_input);
                CHECK(q.error().message ==
                      text("tensor 'layers.3.wq': weight [12, 7] is ", std::isnan(bad) ? "NaN"
                                                                       : bad > 0       ? "infinity"
                                                                                       : "-infinity"));
            }
        }
    auto large = Matrix(500, 1000);  // many tasks
    large(499, 999) = NAN;
    large(250, 3) = HUGE_VALF;
    CHECK(quantize_rtn(large, Format{}, {}, pool).error().message == "weight [250, 3] is infinity");
}

TEST_CASE("degenerate: an all-zero group has scale 0 and exact zeros", "[quantize][degenerate]") {
    for (const float zero : {0.0f, -0.0f})
        for_all(filled(3, 40, zero), [](const Format& format, const Quantized& q) {
            for (const float value : decoded(q)) CHECK(value == 0.0f);
            if (format.is_float()) return;
            for (std::size_t g = 0; g < q.linear.weights.groups_per_row(); ++g)
                CHECK(q.linear.weights.scale(0, g) == 0.0f);
            CHECK(q.report.zero_groups == q.report.groups);
            CHECK(q.report.flushed_groups == 0);
            CHECK(q.report.relative_error == 0.0);
        });
    // The zero group leaves its neighbours alone.
    auto w = testing::gaussian_matrix(2, 64, 3);
    for (std::size_t c = 32; c < 64; ++c) w(1, c) = 0.0f;
    const auto q = quantize_rtn(w, *parse_format("int4-g32"));
    CHECK(q->report.zero_groups == 1);
    CHECK(q->linear.weights.scale(1, 1) == 0.0f);
    CHECK(q->linear.weights.scale(1, 0) > 0.0f);
}

TEST_CASE("degenerate: the sign of a zero does not reach the bytes", "[quantize][degenerate]") {
    Matrix plus = filled(2, 40, 0.0f), mixed = plus;
    for (std::size_t c = 0; c < 40; c += 3) mixed(1, c) = -0.0f;
    plus(0, 5) = mixed(0, 5) = 1.0f;
    for (const Format& format : testing::all_formats({8})) {
        if (format.is_float()) continue;
        INFO(name(format));
        const auto a = quantize_rtn(plus, format), b = quantize_rtn(mixed, format);
        const auto same = [](std::span<const std::byte> x, std::span<const std::byte> y) {
            return std::equal(x.begin(), x.end(), y.begin(), y.end());
        };
        CHECK(same(a->linear.weights.codes.bytes().bytes(), b->linear.weights.codes.bytes().bytes()));
        CHECK(same(a->linear.weights.scales.bytes(), b->linear.weights.scales.bytes()));
        CHECK(same(a->linear.weights.offsets.bytes(), b->linear.weights.offsets.bytes()));
    }
}

TEST_CASE("degenerate: a constant group is exact up to the rounding of its scale", "[quantize][degenerate]") {
    for (const float c : {1.0f, -1.0f, 0.375f, -24.0f, 60000.0f, 3.14159f, -0.001f, 1e-6f, -3e-8f}) {
        INFO("constant " << c);
        for_all(filled(3, 40, c), [c](const Format& format, const Quantized& q) {
            const double u = format.scale == Scalar::f32 ? 0 : format.scale == Scalar::f16 ? 0x1p-11 : 0x1p-8;
            // Below f16's normal range: half of its smallest number.
            const double floor = format.is_float() || format.scale == Scalar::f16 ? 0x1p-25 : 0;
            const double relative = format.element == Element::bf16  ? 0x1p-8
                                    : format.element == Element::f16 ? 0x1p-11
                                    : format.is_float()              ? 0
                                                                     : u;
            for (const float value : decoded(q))
                CHECK(std::abs(static_cast<double>(value) - static_cast<double>(c)) <=
                      relative * std::abs(static_cast<double>(c)) + floor);
            if (!format.is_float()) CHECK(q.report.constant_groups == q.report.groups);
        });
    }
    // Numbers that every scale type holds come back exactly.
    for (const float c : {1.0f, -1.5f, 0x1p-10f})
        for_all(filled(2, 16, c), [c](const Format&, const Quantized& q) {
            for (const float value : decoded(q)) CHECK(value == c);
        });
}

TEST_CASE("degenerate: all-positive and all-negative groups", "[quantize][degenerate]") {
    testing::Random random(11);
    for (const float sign : {1.0f, -1.0f}) {
        Matrix w(3, 64);
        for (float& x : w.values()) x = sign * static_cast<float>(random.uniform(10, 11));
        // An integer zero point cannot leave the codes, so 0 is in the range; a real offset makes use of the
        // gap.
        const auto integer = quantize_rtn(w, *parse_format("int4-g32-asym")),
                   real = quantize_rtn(w, *parse_format("int4-g32-fzero"));
        REQUIRE(integer);
        REQUIRE(real);
        CHECK(integer->report.max_abs_error <= 11.0 / 15 / 2 * 1.01);
        CHECK(real->report.max_abs_error <= 1.0 / 15 / 2 * 1.05);
        for (std::size_t g = 0; g < 2; ++g) CHECK(integer->linear.weights.zero(0, g) == (sign > 0 ? 0 : 15));
    }
}

TEST_CASE("degenerate: narrow range far from zero with a coarse offset does not clip",
          "[quantize][degenerate]") {
    // bf16 has steps of 0.5 at 100: min rounds to 100 or 100.5, and the range must follow.
    testing::Random random(12);
    for (const double low : {100.2, 100.4, -100.3, -100.45}) {
        Matrix w(1, 32);
        for (float& x : w.values()) x = static_cast<float>(low + 0.1 * random.uniform());
        const auto q = quantize_rtn(w, *parse_format("int4-g32-fzero-sbf16"));
        REQUIRE(q);
        CHECK(q->report.max_abs_error <= 0.6 / 15 / 2 * 1.2 + 0.6 * 0x1p-8);
    }
}

TEST_CASE("degenerate: groups whose f16 scale would be subnormal or zero", "[quantize][degenerate]") {
    const int step = fewbit_test::sampled() ? 5 : 1;  // sanitizers and emulators
    for (int exponent = -4; exponent >= -60; exponent -= step) {
        INFO("weights around 2^" << exponent);
        const auto w = testing::gaussian_matrix(4, 64, 13, std::ldexp(1.0, exponent));
        for_all(w, [&](const Format& format, const Quantized& q) {
            if (format.is_float() || format.scale != Scalar::f16) return;
            // Never a hard clip: the largest error is half a step, the smallest step is 2^-24. (mse clips by
            // choice.)
            if (q.report.method != "rtn") return;
            double coarsest = 0;
            for (std::size_t r = 0; r < 4; ++r)
                for (std::size_t g = 0; g < q.linear.weights.groups_per_row(); ++g)
                    coarsest = std::max<double>(coarsest, q.linear.weights.scale(r, g));
            CHECK(coarsest >= 0x1p-24);
            CHECK(q.report.max_abs_error <= coarsest * (0.5 + 256 * 0x1p-11));
            if (coarsest < 0x1p-14) CHECK(q.report.max_abs_error <= coarsest * (0.5 + 1e-6));
            if (coarsest < 0x1p-14) CHECK(q.report.subnormal_scales == q.report.groups);
        });
    }
    // The flush rule: weights under half of the smallest scale, 2^-25, become zero; the report says so.
    const auto q = quantize_rtn(filled(2, 64, 1e-9f), *parse_format("int4-g32"), {"tiny"});
    REQUIRE(q);
    for (const float value : decoded(*q)) CHECK(value == 0.0f);
    CHECK(q->report.flushed_groups == 4);
    REQUIRE(q->report.notes.size() == 2);
    CHECK(q->report.notes[1] ==
          "tensor 'tiny': 4 of 4 groups became zero: their weights are under half of the smallest f16 scale");
}

TEST_CASE("degenerate: f32 subnormal weights with f32 scales", "[quantize][degenerate]") {
    for (const double sigma : {1e-39, 1e-41, 1e-43, 3e-45}) {
        const auto w = testing::gaussian_matrix(4, 64, 14, sigma);
        for (const char* name :
             {"int8-g32-sf32", "int8-g32-asym-sf32", "int8-channel-fzero", "int4-tensor"}) {
            INFO(name << " " << sigma);
            const auto q = quantize_rtn(w, *parse_format(name));
            REQUIRE(q);
            double scale = 0;
            for (std::size_t r = 0; r < 4; ++r)
                scale = std::max<double>(scale, q->linear.weights.scale(r, 0));
            for (std::size_t r = 0; r < 4; ++r)
                for (std::size_t g = 0; g < q->linear.weights.groups_per_row(); ++g)
                    scale = std::max<double>(scale, q->linear.weights.scale(r, g));
            CHECK(q->report.max_abs_error <= scale / 2);
        }
    }
    // One step of f32's subnormals per code is exact.
    Matrix w(1, 16);
    for (std::size_t c = 0; c < 16; ++c)
        w(0, c) = static_cast<float>(c) * std::numeric_limits<float>::denorm_min();
    CHECK(quantize_rtn(w, *parse_format("int4-g16-asym-sf32"))->report.max_abs_error == 0.0);
}

TEST_CASE("degenerate: a scale beyond f16 is an error that says what to do", "[quantize][degenerate]") {
    auto w = testing::gaussian_matrix(5, 96, 15);
    w(3, 70) = -1e6f;
    CHECK(error_of(w, "int4-g32", "layers.0.w2")
              .starts_with("tensor 'layers.0.w2': row 3, group 2: weights from -1e+06 to "));
    CHECK(error_of(w, "int4-g32")
              .find("need a scale of 133333.33333333334 in int4-g32, which f16 cannot hold (its largest "
                    "number is "
                    "65504); use scales of another type: '-sf32' or '-sbf16'") != std::string::npos);
    CHECK(error_of(w, "int4-g32-fzero").find("need an offset of -1e+06") != std::string::npos);
    CHECK(error_of(w, "int4-g32-sf32") == "no error");
    CHECK(error_of(w, "int4-g32-sbf16") == "no error");
    CHECK(error_of(w, "int4-tensor-sf16", "w").starts_with("tensor 'w': weights from -1e+06 to"));
    CHECK(error_of(w, "f16", "w") ==
          "tensor 'w': weight [3, 70] is -1e+06, which f16 cannot hold; use 'bf16' or 'f32'");
    CHECK(error_of(w, "bf16") == "no error");
    // A constant beyond f16 has an ordinary scale within.
    CHECK(error_of(filled(1, 32, 70000.0f), "int4-g32") == "no error");

    // The end of f32: a code that would decode to infinity is refused, not stored.
    const float largest = std::numeric_limits<float>::max();
    auto end = testing::gaussian_matrix(1, 32, 16);
    end(0, 3) = -0.9f * largest;  // code -2 of two bits stands for 4/3 of it
    CHECK(error_of(end, "int2-g32-sf32").find("scale the weights down") != std::string::npos);
    CHECK(error_of(end, "int8-g32-narrow-sf32") == "no error");
    end(0, 3) = -largest;
    end(0, 4) = largest;
    for (const Format& format : testing::all_formats({8, 32})) {
        INFO(name(format));
        if (const auto q = quantize_rtn(end, format))
            for (const float value : decoded(*q)) CHECK(std::isfinite(value));
    }
}

TEST_CASE("degenerate: random bit patterns never give a number that is not finite",
          "[quantize][degenerate]") {
    testing::Random random(17);
    for (int round = 0; round < 30; ++round) {
        Matrix w(2, 24);
        for (float& x : w.values()) do
                x = std::bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
            while (!std::isfinite(x));
        for (const Format& format : testing::all_formats({8})) {
            INFO(name(format));
            for (const Method& method : {Method(RtnOptions{}), Method(MseOptions{})})
                if (const auto q = quantize(w, {}, format, method))
                    for (const float value : decoded(*q)) CHECK(std::isfinite(value));
        }
    }
}
