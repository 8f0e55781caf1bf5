// Gradients of fake quantization: hand-computed cases, borders, finite differences, the gradient scale's law,
// and a codebook that joins through the concept.
#include <algorithm>
#include <cmath>
#include <vector>

#include "fewbit/qat/learned_grids.hpp"
#include "qat_support.hpp"
#include "support/all_formats.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::qat;
using fewbit::testing::Mask;

namespace {

Format format_of(const char* format_name) { return *parse_format(format_name); }

/// The index of the scale of w(r, c), computed apart from the library.
std::size_t grid_of(const Format& f, std::size_t k, std::size_t r, std::size_t c) {
    if (f.granularity == Granularity::tensor) return 0;
    if (f.granularity == Granularity::channel) return r;
    return r * ((k + f.group - 1) / f.group) + c / f.group;
}

/// L = sum d * v^(w, s, beta) with every rounding and every place frozen at the point where forward was: the
/// function whose exact derivatives the straight-through gradients are.
///     inside    v^ = s ((w - o) / s + r) + o        r = round(q) - q at that point, o the real offset or 0
///     clipped   v^ = s (Q - z) + o                  z = -beta / s + r' with an integer zero point
/// Stored s = trained s + rounding, and so with o; those roundings are frozen too.
struct Surrogate {
    Surrogate(const Format& f, const Matrix& w, const Mask& mask, std::span<const GroupGrid> grids,
              std::span<const float> scales, std::span<const float> offsets)
        : f_(f), w_(w), mask_(mask), grids_(grids), scales_(scales), offsets_(offsets) {}

    double value(std::size_t r, std::size_t c, double w, double s_trained, double beta) const {
        const std::size_t i = grid_of(f_, w_.cols(), r, c);
        const GroupGrid& g = grids_[i];
        const double stored_s = g.scale, s = s_trained + (stored_s - static_cast<double>(scales_[i]));
        const bool real = f_.offset == Offset::real;
        const double o = real ? beta + (static_cast<double>(g.offset) - static_cast<double>(offsets_[i])) : 0;
        if (mask_(r, c) == Place::inside) {
            const double q = (static_cast<double>(w_(r, c)) - static_cast<double>(g.offset)) / stored_s;
            return s * ((w - o) / s + (std::nearbyint(q) - q)) + o;
        }
        const double end = mask_(r, c) == Place::below ? f_.min_code() : f_.max_code();
        double zero = g.zero;
        if (f_.offset == Offset::integer) {
            const double wanted = -static_cast<double>(offsets_[i]) / stored_s;
            if (std::nearbyint(wanted) == zero) zero = -beta / s + (zero - wanted);  // else it was clamped
        }
        return s * (end - zero) + o;
    }

    const Format& f_;
    const Matrix& w_;
    const Mask& mask_;
    std::span<const GroupGrid> grids_;
    std::span<const float> scales_, offsets_;
};

}  // namespace

TEST_CASE("LSQ: a group by hand", "[qat][lsq]") {
    // int3: steps -4..3. s = 0.5, dL/dv^ in g. With q = v / s:
    //   v      q     place    v^     dv^/ds                 g     g * dv^/ds
    //   0.30   0.6   inside   0.5    round(.6) - .6 = 0.4   1      0.4
    //  -0.85  -1.7   inside  -1.0    -2 + 1.7 = -0.3        2     -0.6
    //   1.60   3.2   above    1.5    3                      1      3
    //  -2.30  -4.6   below   -2.0    -4                     0.5   -2
    //   1.50   3.0   above    1.5    3 (v/s >= Qp: eq. 3)   1      3
    //  -2.00  -4.0   below   -2.0    -4                     1     -4
    //   0.00   0     inside   0      0                      7      0
    //   1.45   2.9   inside   1.5    0.1                    10     1
    // Sum 0.8; g = 1 / sqrt(8 * 3).
    const float v[] = {0.30f, -0.85f, 1.60f, -2.30f, 1.50f, -2.00f, 0.00f, 1.45f};
    const float incoming[] = {1, 2, 1, 0.5f, 1, 1, 7, 10};
    const Format format = format_of("int3-channel");
    const float scale = 0.5f;
    GroupGrid grid;
    REQUIRE(round_grids(format, {&scale, 1}, {}, {&grid, 1}));
    float values[8], d_v[8], d_scale = 0;
    Mask mask(1, 8);
    REQUIRE(fake_quantize({v, 1, 8}, format, {&grid, 1}, {values, 1, 8}, mask, Border::value));
    CHECK(std::vector<float>(values, values + 8) ==
          std::vector<float>{0.5f, -1.0f, 1.5f, -2.0f, 1.5f, -2.0f, 0.0f, 1.5f});
    using enum Place;
    CHECK(mask.places == std::vector<Place>{inside, inside, above, below, above, below, inside, inside});
    REQUIRE(learned_backward({incoming, 1, 8}, {v, 1, 8}, mask, format, {&grid, 1}, {}, {d_v, 1, 8},
                             {&d_scale, 1}, {}, {.scaled = false}));
    CHECK(d_scale == Catch::Approx(0.8).margin(1e-5));  // the decimals of v are floats
    CHECK(std::vector<float>(d_v, d_v + 8) == std::vector<float>{1, 2, 0, 0, 0, 0, 7, 10});
    float scaled = 0;
    REQUIRE(learned_backward({incoming, 1, 8}, {v, 1, 8}, mask, format, {&grid, 1}, {}, {d_v, 1, 8},
                             {&scaled, 1}, {}));
    CHECK(scaled == Catch::Approx(0.8 / std::sqrt(24.0)).margin(1e-5));
}

TEST_CASE("LSQ+: clipped values move with beta, others do not", "[qat][lsq]") {
    // int2-fzero, codes 0..3, s = 1, beta = -1: the grid -1, 0, 1, 2.
    //   v     q = v + 1   place    v^   dv^/ds                dv^/dbeta
    //  -1.7   -0.7        below    -1   0 (the lowest step)   1
    //   0.3    1.3        inside    0   -0.3                  0
    //   3.5    4.5        above     2   3                     1
    const float v[] = {-1.7f, 0.3f, 3.5f}, incoming[] = {2, 1, 4}, scale = 1, beta = -1;
    for (const bool integer : {false, true}) {
        // With an integer zero point: zero = round(1 / 1) = 1, the same grid and, its residual being 0, the
        // same derivatives: q counts from zero, and the steps are -1..2, but s (Q - zero) = s Q + beta.
        const Format format = format_of(integer ? "int2-channel-asym" : "int2-channel-fzero");
        GroupGrid grid;
        REQUIRE(round_grids(format, {&scale, 1}, {&beta, 1}, {&grid, 1}));
        CHECK(grid.zero == (integer ? 1 : 0));
        float values[3], d_v[3], d_scale = 0, d_beta = 0;
        Mask mask(1, 3);
        REQUIRE(fake_quantize({v, 1, 3}, format, {&grid, 1}, {values, 1, 3}, mask, Border::value));
        CHECK(std::vector<float>(values, values + 3) == std::vector<float>{-1, 0, 2});
        REQUIRE(learned_backward({incoming, 1, 3}, {v, 1, 3}, mask, format, {&grid, 1}, {&beta, 1},
                                 {d_v, 1, 3}, {&d_scale, 1}, {&d_beta, 1}, {.scaled = false}));
        CHECK(d_scale == Catch::Approx(2 * 0 - 0.3 + 4 * 3).margin(1e-6));
        CHECK(d_beta == 2 + 4);
        CHECK(std::vector<float>(d_v, d_v + 3) == std::vector<float>{0, 1, 0});
    }
}

TEST_CASE("masks are exact at the borders", "[qat][mask]") {
    // int3, s = 0.25 (all numbers exact): steps -4..3, so q = 3.5 is a tie that goes to 4: outside; q = -4.5
    // goes to -4: inside. One float below or above decides. LSQ's border is 3 and -4, both outside.
    const float s = 0.25f, up = 3.5f * s, down = -4.5f * s, top = 3 * s, bottom = -4 * s;
    const float inf = HUGE_VALF;
    const float v[] = {up,   std::nextafter(up, 0.0f),     down,   std::nextafter(down, -inf),
                       top,  std::nextafter(top, 0.0f),    bottom, std::nextafter(bottom, 0.0f),
                       0.0f, std::nextafter(bottom, -inf), 100.0f, -100.0f};
    const Format format = format_of("int3-channel");
    const GroupGrid grid{s, 4, 0, false};
    Mask mask(1, 12);
    float out[12];
    using enum Place;
    REQUIRE(fake_quantize({v, 1, 12}, format, {&grid, 1}, {out, 1, 12}, mask, Border::code));
    CHECK(mask.places == std::vector<Place>{above, inside, inside, below, inside, inside, inside, inside,
                                            inside, inside, above, below});
    REQUIRE(fake_quantize({v, 1, 12}, format, {&grid, 1}, {out, 1, 12}, mask, Border::value));
    CHECK(mask.places == std::vector<Place>{above, above, below, below, above, inside, below, inside, inside,
                                            below, above, below});
    // Narrow: the lowest step is -3, and -3.5 goes to -4.
    const float narrow_v[] = {-3.5f * s, std::nextafter(-3.5f * s, 0.0f), -3 * s};
    REQUIRE(fake_quantize({narrow_v, 1, 3}, format_of("int3-channel-narrow"), {&grid, 1}, {out, 1, 3},
                          {mask.places.data(), 1, 3}));
    CHECK(std::vector<Place>(mask.places.begin(), mask.places.begin() + 3) ==
          std::vector<Place>{below, inside, inside});
    CHECK(out[0] == -3 * s);
    // A zero point: zero 2, steps -2..5. 5.5 goes to 6, -2.5 to -2.
    const GroupGrid shifted{s, 2, 0, false};
    const float shifted_v[] = {5.5f * s, 5.25f * s, -2.5f * s, -2.75f * s};
    REQUIRE(fake_quantize({shifted_v, 1, 4}, format_of("int3-channel-asym"), {&shifted, 1}, {out, 1, 4},
                          {mask.places.data(), 1, 4}));
    CHECK(std::vector<Place>(mask.places.begin(), mask.places.begin() + 4) ==
          std::vector<Place>{above, inside, inside, below});
}

TEST_CASE("straight_through: the mask, element by element", "[qat][mask]") {
    const Matrix w = testing::heavy_tailed_matrix(4, 45, 3), d = testing::gaussian_matrix(4, 45, 4);
    const Format format = format_of("int3-g16");
    std::vector<GroupGrid> grids(12);
    REQUIRE(fit_grids(w, format, grids));
    for (GroupGrid& grid : grids) grid.scale *= 0.5f;  // clip something
    Mask mask(4, 45);
    Matrix out(4, 45), d_w(4, 45);
    REQUIRE(fake_quantize(w, format, grids, out, mask));
    REQUIRE(straight_through(d, mask, d_w));
    std::size_t clipped = 0, wrong = 0;
    for (std::size_t r = 0; r < 4; ++r)
        for (std::size_t c = 0; c < 45; ++c) {
            const double q =
                std::nearbyint(static_cast<double>(w(r, c)) / grids[grid_of(format, 45, r, c)].scale);
            const bool inside = q >= -4 && q <= 3;
            clipped += !inside;
            wrong += d_w(r, c) != (inside ? d(r, c) : 0.0f);
        }
    CHECK(wrong == 0);
    CHECK(clipped > 5);
}

TEST_CASE("gradients are those of the frozen function, in every format", "[qat][lsq][difference]") {
    testing::Random random(17);
    for (const auto& [n, k] : std::vector<std::pair<std::size_t, std::size_t>>{{3, 21}, {1, 1}, {2, 70}}) {
        const Matrix w = testing::heavy_tailed_matrix(n, k, 5 + k), d = testing::gaussian_matrix(n, k, 6);
        for (const Format& format : testing::all_formats({8})) {
            if (format.is_float()) continue;
            INFO(name(format) << " " << n << " x " << k);
            auto grids = LearnedGrids::make(w, format);
            REQUIRE(grids);
            for (float& s : grids->scales()) s *= static_cast<float>(random.uniform(0.4, 0.9));
            for (std::size_t i = 0; i < grids->offsets().size(); ++i)  // some leave the codes
                grids->offsets()[i] *= static_cast<float>(random.uniform(-0.2, 2.0));
            Matrix out(n, k), d_w(n, k);
            Mask mask(n, k);
            REQUIRE(grids->forward(w, out, mask));
            std::vector<float> d_s(grids->scales().size()), d_o(grids->offsets().size());
            REQUIRE(grids->backward(d, w, mask, d_w, d_s, d_o, {.scaled = false}));

            const Surrogate at(format, w, mask, grids->grids(), grids->scales(), grids->offsets());
            std::vector<double> by_scale(d_s.size()), by_offset(d_s.size()), size(d_s.size());
            std::size_t wrong_value = 0, wrong_weight = 0;
            for (std::size_t r = 0; r < n; ++r)
                for (std::size_t c = 0; c < k; ++c) {
                    const std::size_t i = grid_of(format, k, r, c);
                    const double x = w(r, c), s = grids->scales()[i];
                    const double o = d_o.empty() ? 0 : static_cast<double>(grids->offsets()[i]);
                    const double incoming = d(r, c);
                    // At the point itself the frozen function is the quantized value, up to its roundings.
                    wrong_value += std::abs(at.value(r, c, x, s, o) - static_cast<double>(out(r, c))) >
                                   1e-6 * (std::abs(static_cast<double>(out(r, c))) + std::abs(o));
                    const double h = 1e-4 * s;  // central differences; all functions here are nearly linear
                    by_scale[i] +=
                        incoming * (at.value(r, c, x, s + h, o) - at.value(r, c, x, s - h, o)) / (2 * h);
                    by_offset[i] +=
                        incoming * (at.value(r, c, x, s, o + h) - at.value(r, c, x, s, o - h)) / (2 * h);
                    const double by_w =
                        incoming * (at.value(r, c, x + h, s, o) - at.value(r, c, x - h, s, o)) / (2 * h);
                    wrong_weight +=
                        std::abs(by_w - static_cast<double>(d_w(r, c))) > 1e-7 * std::abs(incoming);
                    size[i] += std::abs(incoming) * (1 << format.bits);
                }
            CHECK(wrong_value == 0);
            CHECK(wrong_weight == 0);
            std::size_t wrong = 0;
            // 1e-6: the second-order term h^2 / s^2 is 1e-8, the rest is the rounding of differences, 1e-16 /
            // 1e-4, and of the result to a float.
            for (std::size_t i = 0; i < d_s.size(); ++i)
                wrong += std::abs(by_scale[i] - static_cast<double>(d_s[i])) > 1e-6 * size[i];
            for (std::size_t i = 0; i < d_o.size(); ++i)
                wrong += std::abs(by_offset[i] - static_cast<double>(d_o[i])) > 1e-6 * size[i];
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("the loops in double: derivatives to the last digits", "[qat][difference]") {
    // The run functions with T = double need no stored type: finite differences to 1e-9.
    testing::Random random(8);
    constexpr std::size_t count = 133;  // two pieces and a piece of a lane
    std::vector<double> v(count), incoming(count), out(count), d_v(count);
    std::vector<Place> places(count);
    for (double& x : v) x = random.gaussian();
    for (double& x : incoming) x = random.gaussian();
    const double s = 0.31, o = -0.77;
    const UniformGrid<double, Border::value> grid(s, 0, o, 0, 7);
    forward_run(grid, v.data(), count, out.data(), places.data());
    const ParameterGradient got =
        backward_run(grid, v.data(), places.data(), incoming.data(), count, d_v.data());
    const auto loss = [&](double scale, double offset) {
        double sum = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const double q = (v[i] - o) / s, frozen = std::nearbyint(q) - q;
            sum += incoming[i] * (places[i] == Place::inside
                                      ? scale * ((v[i] - offset) / scale + frozen) + offset
                                  : places[i] == Place::below ? offset
                                                              : 7 * scale + offset);
        }
        return sum;
    };
    const double h = 1e-4;
    CHECK(got.scale == Catch::Approx((loss(s + h, o) - loss(s - h, o)) / (2 * h)).epsilon(1e-9));
    CHECK(got.offset == Catch::Approx((loss(s, o + h) - loss(s, o - h)) / (2 * h)).epsilon(1e-9));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const double steps = std::clamp(std::nearbyint((v[i] - o) / s), 0.0, 7.0);
        wrong += std::abs(out[i] - (s * steps + o)) > 1e-15;
        wrong += grid.decode(grid.nearest(v[i])) != out[i] || grid.place(v[i]) != places[i];
        wrong += d_v[i] != (places[i] == Place::inside ? incoming[i] : 0);
    }
    CHECK(wrong == 0);
    std::vector<double> in_place = incoming;  // d_v may be d_out
    backward_run(grid, v.data(), places.data(), in_place.data(), count, in_place.data());
    CHECK(in_place == d_v);
}

TEST_CASE("LSQ: the gradient scale counts the elements of the group", "[qat][lsq]") {
    // dL/dv^ = 1 where every weight is clipped above: the sum is N Qp, and with g = 1 / sqrt(N Qp) the
    // gradient sqrt(N Qp), N the group's own elements: 8, 8 and a short last of 5; a row's 21; a tensor's 63.
    const struct {
        const char* name;
        double qp;
        std::vector<double> elements;
    } laws[] = {{"int4-g8", 7, {8, 8, 5}},        {"int4-g8-narrow", 7, {8, 8, 5}}, {"int4-channel", 7, {21}},
                {"int4-tensor", 7, {63}},         {"int3-g16", 3, {16, 5}},         {"int2-g8", 1, {8, 8, 5}},
                {"int4-g8-fzero", 15, {8, 8, 5}}, {"int4-tensor-fzero", 15, {63}}};
    Matrix w(3, 21), ones(3, 21), out(3, 21), d_w(3, 21);
    std::fill(w.values().begin(), w.values().end(), 100.0f);
    std::fill(ones.values().begin(), ones.values().end(), 1.0f);
    for (const auto& law : laws) {
        INFO(law.name);
        const Format format = format_of(law.name);
        const std::size_t count = format.scales(3, 21);
        const std::vector<float> scales(count, 1.0f), betas(format.offset == Offset::none ? 0 : count, 0.0f);
        std::vector<GroupGrid> grids(count);
        REQUIRE(round_grids(format, scales, betas, grids));
        Mask mask(3, 21);
        REQUIRE(fake_quantize(w, format, grids, out, mask, Border::value));
        std::vector<float> d_s(count), d_o(betas.size());
        REQUIRE(learned_backward(ones, w, mask, format, grids, betas, d_w, d_s, d_o));
        for (std::size_t i = 0; i < count; ++i) {
            const double n = law.elements[i % law.elements.size()];
            CHECK(d_s[i] == Catch::Approx(std::sqrt(n * law.qp)));
            if (!d_o.empty()) CHECK(d_o[i] == Catch::Approx(std::sqrt(n / law.qp)));
        }
        REQUIRE(learned_backward(ones, w, mask, format, grids, betas, d_w, d_s, d_o, {.elements = 21}));
        CHECK(d_s[0] == Catch::Approx(law.elements[0] * law.qp / std::sqrt(21 * law.qp)));
    }
}

TEST_CASE("initial scales by hand", "[qat][lsq]") {
    // mean|v| = (1 + 2 + 3 + 6) / 4 = 3; LSQ: 2 * 3 / sqrt(Qp).
    const float v[] = {1, -2, 3, -6};
    const auto initial = [&](const char* name, InitialScale from) {
        const Format f = format_of(name);
        float scale = 0, offset = 0;
        REQUIRE(initial_parameters({v, 1, 4}, f, from, {&scale, 1},
                                   {&offset, f.offset == Offset::none ? 0u : 1u}));
        return std::pair<double, double>(scale, offset);
    };
    CHECK(initial("int4-channel", InitialScale::lsq).first == Catch::Approx(6 / std::sqrt(7.0)));
    CHECK(initial("int2-channel", InitialScale::lsq).first == Catch::Approx(6));
    // mean -1, variance (4 + 1 + 16 + 25) / 4 = 11.5: |mean - 3 sigma| = 1 + 3 sqrt(11.5) = 11.17; / 2^(b-1).
    const double reach = 1 + 3 * std::sqrt(11.5);
    CHECK(initial("int4-channel", InitialScale::lsq_plus).first == Catch::Approx(reach / 8));
    const auto [scale, beta] = initial("int3-channel-asym", InitialScale::lsq_plus);
    CHECK(scale == Catch::Approx(reach / 4));
    CHECK(beta == -4 * scale);
    // A zero group: positive, and all its values stay 0.
    const Matrix zeros(1, 16);
    for (const InitialScale from :
         {InitialScale::lsq, InitialScale::lsq_plus, InitialScale::fitted, InitialScale::mse}) {
        auto grids = LearnedGrids::make(zeros, format_of("int4-g8"), from);
        REQUIRE(grids);
        CHECK(grids->scales()[1] == 0x1p-14f);
    }
    // mse: no worse than the grid of the whole range, and than twenty of a scan.
    const Matrix x = testing::heavy_tailed_matrix(8, 64, 2);
    const Format format = format_of("int4-tensor-fzero-sf32");
    const auto error = [&](std::span<const GroupGrid> grids) {
        Matrix out(8, 64);
        REQUIRE(fake_quantize(x, format, grids, out, {}));
        double sum = 0;
        for (std::size_t i = 0; i < 512; ++i)
            sum += std::pow(static_cast<double>(x.values()[i]) - static_cast<double>(out.values()[i]), 2);
        return sum;
    };
    const auto best = LearnedGrids::make(x, format, InitialScale::mse);
    REQUIRE(best);
    const auto [low, high] = std::minmax_element(x.values().begin(), x.values().end());
    for (int i = 0; i < 20; ++i) {
        const GroupGrid other = *fit_grid(format, *low, *high, 1 - i * 0.04);
        CHECK(error(best->grids()) <= error({&other, 1}) * (1 + 1e-12));
    }
}

TEST_CASE("training reaches the scale that scanning finds", "[qat][lsq]") {
    // One group, fixed weights, L = |v - v^|^2 / 2, dL/ds by the frozen-residual gradient: descent from both
    // sides ends where the error is within 2% of the best over a fine scan.
    const Matrix w = testing::gaussian_matrix(1, 512, 12);
    const Format format = format_of("int3-channel");
    const auto error_at = [&](float s) {
        GroupGrid grid;
        Matrix out(1, 512);
        REQUIRE(round_grids(format, {&s, 1}, {}, {&grid, 1}));
        REQUIRE(fake_quantize(w, format, {&grid, 1}, out, {}));
        double sum = 0;
        for (std::size_t i = 0; i < 512; ++i)
            sum += std::pow(static_cast<double>(w.values()[i]) - static_cast<double>(out.values()[i]), 2);
        return sum;
    };
    double least = HUGE_VAL;
    for (float s = 0.2f; s < 2; s += 0.002f) least = std::min(least, error_at(s));
    for (const float start : {0.15f, 1.8f}) {
        auto grids = LearnedGrids::make(w, format);
        REQUIRE(grids);
        grids->scales()[0] = start;
        Matrix out(1, 512), d(1, 512), d_w(1, 512);
        Mask mask(1, 512);
        float d_s = 0;
        for (int step = 0; step < 400; ++step) {
            REQUIRE(grids->forward(w, out, mask));
            for (std::size_t i = 0; i < 512; ++i) d.values()[i] = out.values()[i] - w.values()[i];
            REQUIRE(grids->backward(d, w, mask, d_w, {&d_s, 1}, {}));
            grids->scales()[0] -= 0.01f * d_s;
            grids->project();
        }
        CHECK(error_at(grids->scales()[0]) <= least * 1.02);
    }
}

namespace {

/// Four levels times a scale: what a codebook must offer to be trained through the same loops.
struct Codebook {
    using value_type = double;

    int nearest(double v) const {
        int best = 0;
        for (int i = 1; i < 4; ++i)
            if (std::abs(v - decode(i)) < std::abs(v - decode(best))) best = i;
        return best;
    }
    double decode(int code) const { return scale * levels[code]; }
    Place place(double v) const {
        return v < scale * levels[0] ? Place::below : v > scale * levels[3] ? Place::above : Place::inside;
    }
    /// v^ = v + (v^ - v) inside; that residual grows with the scale as in LSQ: level - v / s.
    Partials partials(double v, Place where) const {
        if (where != Place::inside) return {0, levels[where == Place::below ? 0 : 3], 1};
        return {1, levels[nearest(v)] - v / scale, 0};
    }

    double scale = 1;
    double levels[4] = {-1, -0.3, 0.2, 1};
};
static_assert(Grid<Codebook>);

}  // namespace

TEST_CASE("a codebook is a Grid", "[qat]") {
    const Codebook book{.scale = 2};
    const double v[] = {-2.5, -0.5, 0.1, 3};
    double out[4], d_v[4];
    const double incoming[] = {1, 1, 10, 1};
    Place places[4];
    forward_run(book, v, 4, out, places);
    CHECK(std::vector<double>(out, out + 4) == std::vector<double>{-2, -0.6, 0.4, 2});
    const auto sums = backward_run(book, v, places, incoming, 4, d_v);
    CHECK(std::vector<double>(d_v, d_v + 4) == std::vector<double>{0, 1, 10, 0});
    // -1 + (-0.3 + 0.25) + 10 (0.2 - 0.05) + 1
    CHECK(sums.scale == Catch::Approx(-1 - 0.05 + 1.5 + 1));
    CHECK(sums.offset == 2);
}
