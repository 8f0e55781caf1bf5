// Fake quantization of activations: equal to what pack_activations stores, static grids, PACT and the
// observer against sequences computed by hand.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fewbit/pack/packed_activations.hpp"
#include "fewbit/qat/pact.hpp"
#include "fewbit/qat/range_observer.hpp"
#include "qat_support.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::qat;
using fewbit::testing::Mask;
using enum fewbit::qat::Place;

namespace {

Matrix of(std::size_t rows, std::size_t cols, std::vector<float> values) {
    Matrix m(rows, cols);
    std::copy(values.begin(), values.end(), m.values().begin());
    return m;
}

std::vector<float> list(const Matrix& m) { return {m.values().begin(), m.values().end()}; }

}  // namespace

TEST_CASE("fake_quantize_dynamic: what pack_activations' codes and scales stand for", "[qat][activations]") {
    for (const ActivationFormat& format :
         {int8_row_activations(), int8_group_activations(8), int8_group_activations(32), exact_activations()})
        for (const auto& [m, k] : std::vector<std::pair<std::size_t, std::size_t>>{
                 {1, 1}, {3, 75}, {2, 64}, {4, 33}, {5, 130}, {0, 8}, {8, 0}})
            // Ordinary, far below the normal range (coarse scales: the quotient passes 127), huge, zero.
            for (const double sigma : {1.0, 1e-42, 3e-44, 1e37, 0.0}) {
                INFO(name(format) << " " << m << " x " << k << " sigma " << sigma);
                const Matrix x = testing::heavy_tailed_matrix(m, k, m + k, sigma);
                Matrix y(m, k);
                Mask mask(m, k);
                REQUIRE(fake_quantize_dynamic(x, format, y, mask));
                if (format.element == ActivationElement::f32) {
                    CHECK(testing::same_bits(y.values(), x.values()));
                    continue;
                }
                const auto packed = pack_activations(x, format, 8);
                REQUIRE(packed);
                const ActivationsView& view = packed->view();
                std::size_t wrong = 0, wrong_mask = 0;
                for (std::size_t r = 0; r < m; ++r)
                    for (std::size_t c = 0; c < k; ++c) {
                        const float scale = view.scales[r * view.groups + c / view.group_elements];
                        const int code =
                            static_cast<const std::int8_t*>(view.values)[r * view.stride_elements + c];
                        const float value = scale * static_cast<float>(code);
                        wrong += !testing::same_bits({&value, 1}, y.row(r).subspan(c, 1));
                        const float q = scale == 0 ? 0.0f : std::nearbyint(x(r, c) / scale);
                        wrong_mask += mask(r, c) != (q > 127 ? above : q < -127 ? below : inside);
                    }
                CHECK(wrong == 0);
                CHECK(wrong_mask == 0);
            }
}

ActivationFormat format(const char* name) { return *parse_activation_format(name); }

TEST_CASE("fake_quantize_dynamic: other bits by the same rule", "[qat][activations]") {
    // 4 bits: scale = 7 / 7 = 1, ties to even: 0.5 -> 0, 1.5 -> 2, -2.5 -> -2.
    Matrix y(1, 6);
    Mask mask(1, 6);
    REQUIRE(fake_quantize_dynamic(of(1, 6, {0.5f, 1.5f, -2.5f, 7, -7, 3.4f}), format("int4-row"), y, mask));
    CHECK(list(y) == std::vector<float>{0, 2, -2, 7, -7, 3});
    CHECK(mask.places == std::vector<Place>(6, inside));
    // 2 bits: codes -1, 0, 1. Groups of 8: each its own scale, the last one short.
    Matrix x(1, 10), z(1, 10);
    for (std::size_t i = 0; i < 10; ++i)
        x(0, i) = i < 8 ? 0.25f * static_cast<float>(i) : -100.0f + static_cast<float>(i);
    REQUIRE(fake_quantize_dynamic(x, format("int2-g8"), z, {}));
    CHECK(list(z) == std::vector<float>{0, 0, 0, 0, 1.75f, 1.75f, 1.75f, 1.75f, -92, -92});
    REQUIRE(fake_quantize_dynamic(x, format("int2-g8"), x, {}));  // in place
    CHECK(list(x) == list(z));
    ActivationFormat invalid = int8_row_activations();
    invalid.bits = 9;
    CHECK(!fake_quantize_dynamic(x, invalid, x, {}));
    for (const char* name : {"int8-row-asym", "int4-tensor", "int8-tensor-static"})
        CHECK(!fake_quantize_dynamic(x, format(name), x, {}));
    x(0, 9) = std::numeric_limits<float>::quiet_NaN();
    const auto bad = fake_quantize_dynamic(x, int8_group_activations(8), z, {});
    REQUIRE(!bad);
    CHECK(bad.error().message == "activation [0, 9] is NaN");
}

TEST_CASE("fake_quantize_static: symmetric and with a zero point", "[qat][activations]") {
    // asymmetric 2 bits over [-1, 2]: scale 1, zero 1, codes 0..3: -1, 0, 1, 2. 2.5 is a tie that goes to 2:
    // inside.
    const Matrix x = of(1, 8, {-3, -1.5f, -1, 0.4f, 1.6f, 2.5f, 2.6f, -1.6f});
    Matrix y(1, 8);
    Mask mask(1, 8);
    REQUIRE(fake_quantize_static(x, *parameters_for({-1, 2}, 2, false), y, mask));
    CHECK(list(y) == std::vector<float>{-1, -1, -1, 0, 2, 2, 2, -1});
    CHECK(mask.places == std::vector<Place>{below, below, inside, inside, inside, inside, above, below});
    // symmetric 3 bits over [-6, 3]: scale 2, codes -3..3.
    REQUIRE(fake_quantize_static(of(1, 8, {-9, -7, -6.9f, 3, 7, 6.9f, 1, 0}),
                                 *parameters_for({-6, 3}, 3, true), y, mask));
    CHECK(list(y) == std::vector<float>{-6, -6, -6, 4, 6, 6, 0, 0});
    CHECK(mask.places == std::vector<Place>{below, below, inside, inside, above, inside, inside, inside});
    REQUIRE(fake_quantize_static(x, *parameters_for({0, 0}, 8, false), y, mask));
    CHECK(list(y) == std::vector<float>(8, 0.0f));
    CHECK(!fake_quantize_static(x, {-1, 0, 0, 255}, y, mask));
    CHECK(!fake_quantize_static(of(1, 8, {0, HUGE_VALF}), {1, 0, 0, 255}, y, mask));
}

TEST_CASE("PACT by hand", "[qat][pact]") {
    // alpha = 1.5, 2 bits: scale 0.5, codes 0..3. x = alpha counts as clipped (eq. 3), just below does not.
    const float alpha = 1.5f;
    const Matrix x = of(2, 4, {-0.1f, 0, 0.2f, 0.3f, 1.4f, 1.5f, std::nextafter(1.5f, 0.0f), 9});
    Matrix y(2, 4), d_x(2, 4);
    Mask mask(2, 4);
    REQUIRE(pact(x, alpha, 2, y, mask));
    CHECK(list(y) == std::vector<float>{0, 0, 0, 0.5f, 1.5f, 1.5f, 1.5f, 1.5f});
    CHECK(mask.places == std::vector<Place>{below, inside, inside, inside, inside, above, inside, above});
    const Matrix d_y = of(2, 4, {1, 2, 3, 4, 5, 6, 7, 8});
    const auto d_alpha = pact_backward(d_y, mask, d_x);
    REQUIRE(d_alpha);
    CHECK(*d_alpha == 6 + 8);
    CHECK(list(d_x) == std::vector<float>{0, 2, 3, 4, 5, 0, 7, 0});
    for (const float bad : {0.0f, -1.0f, HUGE_VALF, std::nanf("")}) CHECK(!pact(x, bad, 2, y, mask));
    CHECK(!pact(x, alpha, 1, y, mask));
    CHECK(!pact(x, alpha, 2, Matrix(2, 3), mask));
}

TEST_CASE("PACT: values are those of the static grid over [0, alpha]", "[qat][pact]") {
    const Matrix x = testing::gaussian_matrix(4, 70, 2);
    Matrix y(4, 70), z(4, 70);
    for (const float alpha : {0.3f, 1.7f, 6.0f, 1e-41f})
        for (int bits = 2; bits <= 8; ++bits) {
            INFO(alpha << " " << bits);
            REQUIRE(pact(x, alpha, bits, y, {}));
            REQUIRE(fake_quantize_static(x, *parameters_for({0, alpha}, bits, false), z, {}));
            CHECK(testing::same_bits(y.values(), z.values()));
        }
}

TEST_CASE("RangeObserver: average, delay, grid, by hand", "[qat][observer]") {
    // momentum 0.5, delay 2. Batches' (min, max): (-1, 3), (-3, 1), (-2, 6).
    //   step 1: (-1, 3)          x passes
    //   step 2: (-2, 2)          x passes
    //   step 3: (-2, 4)          quantized with 2 bits: scale 6 / 3 = 2, zero 1: -2, 0, 2, 4
    RangeObserver observer("x", {.bits = 2, .momentum = 0.5, .delay_steps = 2});
    Matrix y(1, 3);
    Mask mask(1, 3);
    CHECK(!observer.range());
    CHECK(!observer.grid());
    REQUIRE(observer.forward(of(1, 3, {-1, 3, 0.3f}), y, mask));
    CHECK(list(y) == std::vector<float>{-1, 3, 0.3f});
    CHECK(*observer.range() == Range{-1, 3});
    CHECK(!observer.active());
    REQUIRE(observer.forward(of(1, 3, {-3, 1, 0.3f}), y, mask));
    CHECK(list(y) == std::vector<float>{-3, 1, 0.3f});
    CHECK(mask.places == std::vector<Place>(3, inside));
    CHECK(*observer.range() == Range{-2, 2});
    REQUIRE(observer.forward(of(1, 3, {-2, 6, 0.3f}), y, mask));
    CHECK(observer.active());
    CHECK(observer.steps() == 3);
    CHECK(*observer.range() == Range{-2, 4});
    CHECK(*observer.grid() == ScaleZero{2, 1, 0, 3});
    CHECK(list(y) == std::vector<float>{-2, 4, 0});
    CHECK(mask.places == std::vector<Place>{inside, above, inside});
    // evaluate() does not observe; a refused batch changes nothing; an empty one does not count.
    REQUIRE(observer.evaluate(of(1, 3, {-50, 50, 1.1f}), y, mask));
    CHECK(list(y) == std::vector<float>{-2, 4, 2});
    const auto bad = observer.forward(of(1, 3, {0, std::nanf(""), 0}), y, mask);
    REQUIRE(!bad);
    CHECK(bad.error().message.find("[0, 1], NaN") != std::string::npos);
    REQUIRE(observer.forward(Matrix(0, 3), Matrix(0, 3), {}));
    CHECK(observer.steps() == 3);
    CHECK(*observer.range() == Range{-2, 4});
    CHECK(!RangeObserver("x", {.momentum = 1.0}).forward(of(1, 1, {1}), Matrix(1, 1), {}));
}

TEST_CASE("RangeObserver: without a delay the first batch is quantized on its own range", "[qat][observer]") {
    RangeObserver observer("x", {.bits = 3, .symmetric = true});
    Matrix y(1, 3);
    REQUIRE(observer.forward(of(1, 3, {-3, 1.4f, 0.6f}), y, {}));
    CHECK(list(y) == std::vector<float>{-3, 1, 1});
}
