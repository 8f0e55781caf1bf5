// Errors that are put into weights: their size is the one that was asked for, their shape is the family's, and one layer's
// damage is that of a model in which exactly this layer was changed.
#include "fewbit/evaluate/perturbation.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/evaluate/metrics.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/toy_model.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;

namespace {

std::vector<double> errors_of(const Matrix& w, const Matrix& noisy) {
    std::vector<double> errors;
    for (std::size_t i = 0; i < w.values().size(); ++i)
        errors.push_back(static_cast<double>(noisy.values()[i]) - static_cast<double>(w.values()[i]));
    return errors;
}

double mean_power(const std::vector<double>& values, int power) {
    double sum = 0;
    for (const double value : values) sum += std::pow(value, power);
    return sum / static_cast<double>(values.size());
}

/// Correlation of |a| and |b|.
double correlation(const std::vector<double>& a, std::span<const float> b) {
    const auto n = static_cast<double>(a.size());
    double sa = 0, sb = 0, aa = 0, bb = 0, ab = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double x = std::fabs(a[i]), y = std::fabs(static_cast<double>(b[i]));
        sa += x, sb += y, aa += x * x, bb += y * y, ab += x * y;
    }
    return (n * ab - sa * sb) / std::sqrt((n * aa - sa * sa) * (n * bb - sb * sb));
}

}  // namespace

TEST_CASE("perturbation: the SQNR is the one that was asked for") {
    for (const auto& [rows, cols] : {std::pair{1, 1}, {1, 7}, {64, 100}, {130, 33}}) {
        const Matrix w =
            testing::gaussian_matrix(static_cast<std::size_t>(rows), static_cast<std::size_t>(cols), 7);
        for (const NoiseFamily family : noise_families())
            for (const double db : {0.5, 10.0, 20.0, 45.0}) {
                const auto noisy = perturbed(w.view(), family, db, 11);
                REQUIRE(noisy);
                const auto found = compare(w.view(), noisy->view());
                REQUIRE(found);
                INFO(name(family) << " at " << db << " dB, " << rows << " x " << cols);
                // w + d is rounded once, by at most 2^-24 |w + d|, so that the norm of the error moves by at most a share
                // of 2^-24 ||w + d|| / ||d|| <= 2^-24 (1 + 10^(db / 20)).
                const double share = 0x1p-24 * (1 + std::pow(10, db / 20));
                CHECK(std::fabs(found->sqnr_db - db) <= -20 * std::log10(1 - share) + 1e-9);
            }
    }
}

TEST_CASE("perturbation: every family has its shape") {
    const Matrix w = testing::gaussian_matrix(128, 512, 3);
    const auto n = static_cast<double>(w.values().size());
    const auto drawn = [&](NoiseFamily family) {
        const auto noisy = perturbed(w.view(), family, 10, 5);
        REQUIRE(noisy);
        return errors_of(w, *noisy);
    };
    const auto kurtosis = [&](const std::vector<double>& errors) {
        return mean_power(errors, 4) / std::pow(mean_power(errors, 2), 2);
    };
    // Kurtosis: 3 of normal, 9/5 of uniform, 1 of signs; five standard errors, sqrt(24 / n) of the first.
    const double five = 5 * std::sqrt(24 / n);
    CHECK(std::fabs(kurtosis(drawn(NoiseFamily::gaussian)) - 3) < five);
    CHECK(std::fabs(kurtosis(drawn(NoiseFamily::uniform)) - 1.8) < five);
    CHECK(std::fabs(kurtosis(drawn(NoiseFamily::rademacher)) - 1) < 1e-4);
    // Means of errors that are independent of each other: five standard errors of 1 / sqrt(n) standard deviations.
    for (const NoiseFamily family : {NoiseFamily::gaussian, NoiseFamily::uniform, NoiseFamily::rademacher,
                                     NoiseFamily::large_weights, NoiseFamily::small_weights}) {
        const auto errors = drawn(family);
        CHECK(std::fabs(mean_power(errors, 1)) < 5 * std::sqrt(mean_power(errors, 2) / n));
    }
    CHECK(std::fabs(correlation(drawn(NoiseFamily::gaussian), w.values())) < 5 / std::sqrt(n));
    // |w| and |d| are both half-normal and in the same order: nearly 1. In the opposite order: far below 0.
    CHECK(correlation(drawn(NoiseFamily::large_weights), w.values()) > 0.99);
    CHECK(correlation(drawn(NoiseFamily::small_weights), w.values()) < -0.5);
    // The errors themselves are those of `gaussian`, but for their seed.
    CHECK(std::fabs(kurtosis(drawn(NoiseFamily::large_weights)) - 3) < five);

    const auto outliers = drawn(NoiseFamily::outliers);
    CHECK(std::ranges::count_if(outliers, [](double e) { return e != 0; }) == 128 * 512 / 1024);
    const auto clipped = perturbed(w.view(), NoiseFamily::clipping, 10, 5);
    float largest = 0;
    for (const float value : clipped->values()) largest = std::max(largest, std::fabs(value));
    for (std::size_t i = 0; i < w.values().size(); ++i)
        CHECK(clipped->values()[i] == std::clamp(w.values()[i], -largest, largest));
}

TEST_CASE("perturbation: seeds differ by layer, family and draw, and give the same errors again") {
    std::set<std::uint64_t> seeds;
    for (const char* layer : {"a", "b", "ab"})
        for (const NoiseFamily family : noise_families())
            for (std::size_t draw = 0; draw < 3; ++draw) seeds.insert(perturbation_seed(layer, family, draw));
    CHECK(seeds.size() == 3 * noise_families().size() * 3);
    for (const NoiseFamily family : noise_families()) {
        CHECK(parse_noise_family(name(family)).value_or(NoiseFamily::clipping) == family);
        const Matrix w = testing::gaussian_matrix(9, 40, 1);
        const auto a = perturbed(w.view(), family, 20, 4), b = perturbed(w.view(), family, 20, 4),
                   c = perturbed(w.view(), family, 20, 5);
        CHECK(std::ranges::equal(a->values(), b->values()));
        CHECK(std::ranges::equal(a->values(), c->values()) == (family == NoiseFamily::clipping));
    }
    const auto unknown = parse_noise_family("pink");
    REQUIRE_FALSE(unknown);
    CHECK(unknown.error().message.find("'pink'") != std::string::npos);
    CHECK(unknown.error().message.find("small-weights") != std::string::npos);
}

TEST_CASE("perturbation: degenerate weights") {
    const Matrix zeros(3, 5), nothing(0, 4);
    for (const NoiseFamily family : noise_families()) {
        CHECK(std::ranges::equal(perturbed(zeros.view(), family, 20, 1)->values(), zeros.values()));
        CHECK(perturbed(nothing.view(), family, 20, 1)->rows() == 0);
    }
    Matrix bad(2, 2);
    bad(1, 0) = std::numeric_limits<float>::quiet_NaN();
    CHECK_FALSE(perturbed(std::as_const(bad).view(), NoiseFamily::gaussian, 20, 1));
    const Matrix w = testing::gaussian_matrix(4, 4, 1);
    CHECK_FALSE(perturbed(w.view(), NoiseFamily::gaussian, std::numeric_limits<double>::infinity(), 1));
    CHECK_FALSE(perturbed(w.view(), NoiseFamily::clipping, -1, 1));
}

TEST_CASE("damage: that of a model in which one layer was changed") {
    const io::ModelFile file = testing::toy_model(testing::toy_shape(4, 2, 8, 40, 2, 50, 64, false), 5);
    testing::Random random(3);
    std::vector<Window> windows(6);
    for (Window& window : windows)
        for (std::size_t i = 0; i < 20; ++i) window.tokens.push_back(static_cast<int>(random.uniform(0, 50)));
    const std::string layer = "model.layers.1.mlp.up_proj";
    const PerturbationPlan plan{
        {layer, "lm_head"}, {NoiseFamily::uniform, NoiseFamily::clipping}, {10, 30}, 2};
    ThreadPool pool(3);
    const auto damages = measure_damage(file, plan, windows, {pool});
    REQUIRE(damages);
    REQUIRE(damages->size() == 8);

    model::ModelOptions options;
    options.fallback = Fallback::allow;
    const auto exact = model::Transformer::create(file, options);
    const TransformerSource source(*exact);
    const auto reference = Reference::create(source, windows);
    // Of both layers: what was done to the first is undone before the second.
    const auto expected = [&](const std::string& changed_layer) {
        double kld = 0;
        for (std::size_t draw = 0; draw < 2; ++draw) {
            const QuantizedMatrix& given = file.linears.at(changed_layer).weights;
            Matrix w(given.n(), given.k());
            for (std::size_t r = 0; r < w.rows(); ++r) given.dequantize(r, 0, w.row(r));
            const auto noisy = perturbed(std::as_const(w).view(), NoiseFamily::uniform, 10,
                                         perturbation_seed(changed_layer, NoiseFamily::uniform, draw));
            io::ModelFile changed = file;
            changed.linears.at(changed_layer).weights = *float_matrix(noisy->view());
            const auto transformer = model::Transformer::create(changed, options);
            const auto found = reference->measure(TransformerSource(*transformer));
            REQUIRE(found);
            kld += found->kld.mean / 2;
        }
        return kld;
    };
    const LayerDamage& first = damages->front();
    CHECK(first.layer == layer);
    CHECK(first.family == NoiseFamily::uniform);
    CHECK(first.asked_db == 10);
    CHECK(first.kld == Approx(expected(layer)).epsilon(1e-12));
    CHECK((*damages)[4].kld == Approx(expected("lm_head")).epsilon(1e-12));
    // Twenty decibels less error is a hundredth of its squares, and KL divergence is quadratic for small errors.
    CHECK((*damages)[1].kld < first.kld / 30);
    CHECK((*damages)[4].layer == "lm_head");

    const auto again = measure_damage(file, plan, windows);
    REQUIRE(again);
    for (std::size_t i = 0; i < 8; ++i) CHECK((*again)[i].kld == (*damages)[i].kld);
    const auto missing = measure_damage(file, {{"layer 9"}, {NoiseFamily::uniform}, {10}, 1}, windows);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().message == "the toy model has no matrix 'layer 9'");
    CHECK_FALSE(measure_damage(file, {{layer}, {NoiseFamily::uniform}, {10}, 0}, windows));
}
