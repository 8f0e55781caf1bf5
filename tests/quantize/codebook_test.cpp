// Codebooks and doubly quantized scales: nearest values against brute force, scales by their rules, SQNR against
// an independent Monte-Carlo table, mse never worse than rtn, degenerate groups.
#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/evaluate/theory.hpp"
#include "fewbit/quantize/grid.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "support/all_formats.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

const std::vector<Element> elements{Element::nf4, Element::e2m1, Element::iq4, Element::fp8_e4m3,
                                    Element::fp8_e5m2};

/// Weights of row r in group g.
std::span<const float> group_of(const Matrix& w, const QuantizedMatrix& q, std::size_t r, std::size_t g) {
    return w.row(r).subspan(g * q.group_elements(),
                            std::min(q.group_elements(), q.k() - g * q.group_elements()));
}

double group_error(const Matrix& w, const QuantizedMatrix& q, std::size_t r, std::size_t g) {
    const auto given = group_of(w, q, r, g);
    std::vector<float> stored(given.size());
    q.dequantize(r, g * q.group_elements(), stored);
    double sum = 0;
    for (std::size_t i = 0; i < given.size(); ++i)
        sum += std::pow(static_cast<double>(given[i]) - static_cast<double>(stored[i]), 2);
    return sum;
}

double sqnr(const Matrix& w, const char* format) {
    ThreadPool pool(2);
    return quantize_rtn(w, *parse_format(format), {}, pool)->report.sqnr_db;
}

}  // namespace

TEST_CASE("codebooks: nf4 is made of quantiles of the normal distribution") {
    // QLoRA's rule: eight quantiles up from 0 and seven down, divided by the largest.
    const auto quantile = [](double p) {  // by bisection of erf
        double low = -8, high = 8;
        for (int i = 0; i < 200; ++i) {
            const double middle = 0.5 * (low + high);
            (0.5 * (1 + std::erf(middle / std::sqrt(2.0))) < p ? low : high) = middle;
        }
        return low;
    };
    constexpr double offset = 0.9677083;
    const double largest = quantile(offset);
    std::vector<double> expected{0};
    for (int i = 0; i < 8; ++i) expected.push_back(quantile(offset + (0.5 - offset) * i / 8) / largest);
    for (int i = 0; i < 7; ++i) expected.push_back(-quantile(offset + (0.5 - offset) * i / 7) / largest);
    std::sort(expected.begin(), expected.end());
    for (std::size_t i = 0; i < 16; ++i)
        CHECK(std::abs(static_cast<double>(codebooks::nf4[i]) - expected[i]) < 2e-6);
}

TEST_CASE("codebooks: integer products read e2m1 and iq4 exactly, nf4 within its stated bound") {
    double worst = 0;
    for (const Element element : {Element::nf4, Element::e2m1, Element::iq4}) {
        const Format format = codebook_format(element);
        const auto* integers = format.integer_codebook();
        REQUIRE(integers != nullptr);
        for (std::size_t u = 0; u < 16; ++u) {
            const double error = std::abs(static_cast<double>(integers->unit) * integers->levels[u] -
                                          static_cast<double>(format.codebook()[u]));
            if (element == Element::nf4)
                worst = std::max(worst, error);
            else
                CHECK(error == 0);
        }
    }
    CHECK(worst < 0.0039);
    CHECK(codebook_format(Element::fp8_e4m3).integer_codebook() == nullptr);
}

TEST_CASE("codebooks: every weight takes the nearest value, of two the one with the even code") {
    testing::Random random(5);
    for (const Element element : elements) {
        const Format format = codebook_format(element);
        const auto table = format.codebook();
        for (const float scale : {1.0f, 0.37f, 3.1e-5f}) {
            GroupGrid grid;
            grid.scale = scale;
            std::vector<double> values;
            for (const float value : table)
                if (std::isfinite(value)) values.push_back(static_cast<double>(value));
            std::sort(values.begin(), values.end());
            const float far = 1000 * static_cast<float>(values.back()) * scale;
            std::vector<float> weights{0.0f, -0.0f, far, -far, 1e-40f};
            for (std::size_t i = 0; i + 1 < values.size(); ++i) {  // values, midpoints and their neighbours
                const auto middle =
                    static_cast<float>(0.5 * (values[i] + values[i + 1]) * static_cast<double>(scale));
                weights.insert(weights.end(),
                               {static_cast<float>(values[i]) * scale, middle, std::nextafter(middle, 1e30f),
                                std::nextafter(middle, -1e30f)});
            }
            for (int i = 0; i < 2000; ++i)
                weights.push_back(static_cast<float>(random.gaussian() * values.back()) * scale *
                                  (i % 2 == 0 ? 1.0f : 0.01f));
            std::vector<std::uint8_t> codes(weights.size());
            encode(format, grid, weights, codes);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < weights.size(); ++i) {
                const double x = static_cast<double>(weights[i]) / static_cast<double>(scale);
                double least = HUGE_VAL;
                std::size_t best = 0;
                for (std::size_t u = 0; u < table.size(); ++u) {
                    const double distance = std::abs(x - static_cast<double>(table[u]));
                    if (!(distance <= least)) continue;  // NaN and infinity are far away
                    if (distance == least && !(u % 2 == 0 && best % 2 != 0)) continue;
                    least = distance;
                    best = u;
                }
                wrong += codes[i] != best;
                wrong += decode(format, grid, codes[i]) != scale * table[best];
            }
            INFO(element_name(format) << " scale " << scale);
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("codebooks: fp8 codes are the roundings of core/scalar.hpp") {
    for (const auto& [element, convert] : {std::pair{Element::fp8_e4m3, &fp8_e4m3_from_float},
                                           std::pair{Element::fp8_e5m2, &fp8_e5m2_from_float}}) {
        GroupGrid grid;
        grid.scale = 1.0f;
        std::vector<float> weights;
        for (std::uint32_t bits = 0; bits < 0x7F800000u; bits += 0x1235) {
            weights.push_back(std::bit_cast<float>(bits));
            weights.push_back(-weights.back());
        }
        std::vector<std::uint8_t> codes(weights.size());
        encode(codebook_format(element), grid, weights, codes);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < weights.size(); ++i) {
            const std::uint8_t expected = convert(weights[i]);
            wrong += codes[i] != (expected == 0x80 ? 0 : expected);  // of the zeros the positive one
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("codebooks: SQNR of Gaussian weights is that of an independent Monte-Carlo table") {
    const auto w = testing::gaussian_matrix(1024, 1024, 77);
    for (const auto& [format, expected] : {std::pair{"nf4-g64-sf32", 20.73},
                                           {"nf4-g64", 20.73},
                                           {"nf4-g64-dq", 20.73},
                                           {"e2m1-g32-se8m0", 18.78},
                                           {"fp8-e4m3-tensor", 31.56},
                                           {"mxfp8", 30.65},
                                           {"fp8-e5m2-tensor", 25.57}}) {
        const double found = sqnr(w, format);
        std::printf("%-16s %6.2f dB, table %6.2f\n", format, found, expected);
        CHECK(std::abs(found - expected) <= 0.1);
    }
}

TEST_CASE("codebooks: scales cover the group, or are the power of two that OCP prescribes") {
    const auto w = testing::heavy_tailed_matrix(7, 130, 3);
    for (const Format& format : testing::codebook_and_dq_formats({32, 37})) {
        if (!format.is_codebook() || format.granularity != Granularity::group || format.double_quantized())
            continue;
        INFO(name(format));
        const QuantizedMatrix q = quantize_rtn(w, format)->linear.weights;
        const auto table = format.codebook();
        double low = 0, high = 0;
        for (const float value : table)
            if (std::isfinite(value))
                low = std::min<double>(low, value), high = std::max<double>(high, value);
        const double u = format.scale == Scalar::f32   ? 0x1p-24
                         : format.scale == Scalar::f16 ? 0x1p-11
                                                       : 0x1p-8;
        for (std::size_t r = 0; r < q.n(); ++r)
            for (std::size_t g = 0; g < q.groups_per_row(); ++g) {
                const auto run = group_of(w, q, r, g);
                const auto [min, max] = std::minmax_element(run.begin(), run.end());
                const double scale = q.scale(r, g);
                if (format.scale == Scalar::e8m0) {
                    int exponent = 0, top = 0;
                    std::frexp(std::max(-*min, *max), &exponent);
                    std::frexp(high, &top);
                    const bool power = std::frexp(std::max(-*min, *max), &exponent) == 0.5f;
                    // nf4 ends at a power of two: the smallest that spans the group.
                    const int up = format.element == Element::nf4 && !power ? 1 : 0;
                    CHECK(scale == std::ldexp(1.0, exponent - top + up));
                } else {
                    const double wanted = std::max(*max / high, *min / low);
                    // Below 2^-14 f16 is rounded up, by less than its smallest number.
                    CHECK(scale - wanted <=
                          std::max(u * wanted * 1.0001, format.scale == Scalar::f16 ? 0x1p-24 : 0));
                    CHECK(wanted - scale <= u * wanted * 1.0001);
                }
            }
    }
}

TEST_CASE("double quantization: counts of the smallest power of two that reaches the row") {
    const auto w = testing::heavy_tailed_matrix(9, 260, 4);
    for (const Format& format : testing::codebook_and_dq_formats({8, 32})) {
        if (!format.double_quantized()) continue;
        INFO(name(format));
        Format exact = format;
        exact.scale = Scalar::f32;
        const QuantizedMatrix q = quantize_rtn(w, format)->linear.weights,
                              f = quantize_rtn(w, exact)->linear.weights;
        for (std::size_t r = 0; r < q.n(); ++r) {
            const double power = q.row_scale(r);
            int exponent = 0;
            CHECK(std::frexp(power, &exponent) == 0.5);  // a power of two
            double widest = 0;
            for (std::size_t g = 0; g < q.groups_per_row(); ++g) {
                const double wanted = f.scale(r, g), stored = q.scale(r, g), count = stored / power;
                widest = std::max(widest, wanted);
                CHECK(count == std::floor(count));
                CHECK(count >= (wanted > 0 ? 1 : 0));
                CHECK(count <= 255);
                CHECK(stored - wanted <= power * (count <= 16 ? 1 : 0.5));
                CHECK(wanted - stored <= power * (count < 16 ? 1e-6 : 0.5));
            }
            CHECK(widest <= 255 * power);
            CHECK(widest > 127.5 * power);
        }
    }
}

TEST_CASE("double quantization: 0.127 bits per weight, and next to no error") {
    const Format nf4 = *parse_format("nf4-g64-dq");
    // QLoRA's scales (arXiv 2305.14314, section 3): 8 bits for 64 weights, 32 for 256 such scales. Ours: 8 for 64
    // and 8 for a row.
    constexpr double paper = 8.0 / 64 + 32.0 / (64 * 256);
    CHECK(std::abs(paper - 0.127) < 0.0005);
    const auto overhead = [&](std::size_t n, std::size_t k) {
        const double weights = static_cast<double>(n) * static_cast<double>(k);
        return (total_bits(nf4, n, k) - 4 * weights) / weights;
    };
    CHECK(overhead(4096, 4096) == paper);  // dyadic, every step of it
    for (const std::size_t n : {1u, 7u, 4096u})
        for (std::size_t k = 4096; k <= 16384; k += 64) {
            CHECK(overhead(n, k) <= paper);
            // A short last group has a scale of its own.
            CHECK(overhead(n, k + 1) <= paper + 8.0 / static_cast<double>(k));
        }
    CHECK(std::abs(bits_per_weight(*parse_format("nf4-g64-sf32"), 4096, 4096) - 4.5) < 1e-12);
    const auto w = testing::gaussian_matrix(256, 4096, 8);
    // A count of 128 or more is off by 1/256 at most: so is the step, which is 0.034 dB.
    const double most = 20 * std::log10(1 + 1.0 / 256);
    CHECK(sqnr(w, "nf4-g64-sf32") - sqnr(w, "nf4-g64-dq") < most);
    CHECK(sqnr(w, "int4-g64-sf32") - sqnr(w, "int4-g64-dq") < most);
}

TEST_CASE("codebooks: mse is never worse than rtn, and finds the next power of two") {
    const Matrix cases[] = {testing::gaussian_matrix(4, 100, 5), testing::heavy_tailed_matrix(4, 100, 6)};
    for (const Matrix& w : cases)
        for (const Format& format : testing::codebook_and_dq_formats({8, 37})) {
            INFO(name(format));
            const auto rtn = quantize_rtn(w, format), mse = quantize_mse(w, format);
            REQUIRE(rtn);
            REQUIRE(mse);
            CHECK(mse->report.mean_square_error <= rtn->report.mean_square_error * (1 + 1e-12));
            if (format.granularity == Granularity::tensor) continue;
            std::size_t worse = 0;
            for (std::size_t r = 0; r < w.rows(); ++r)
                for (std::size_t g = 0; g < rtn->linear.weights.groups_per_row(); ++g)
                    worse += group_error(w, mse->linear.weights, r, g) >
                             group_error(w, rtn->linear.weights, r, g) * (1 + 1e-12);
            CHECK(worse == 0);
        }
    // 7.9 is clipped to 6 by OCP's scale of 1; with 2 it becomes 8.
    Matrix w(1, 32);
    w(0, 3) = 7.9f;
    const Format format = *parse_format("e2m1-g32-se8m0");
    CHECK(quantize_rtn(w, format)->linear.weights.scale(0, 0) == 1.0f);
    CHECK(quantize_mse(w, format)->linear.weights.scale(0, 0) == 2.0f);
}

TEST_CASE("codebooks: degenerate groups are exact or nearly so, and never anything but finite") {
    for (const Format& format : testing::codebook_and_dq_formats({8, 37}))
        for (const Method& method : {Method(RtnOptions{}), Method(MseOptions{})}) {
            INFO(name(format) << " " << name(method));
            std::vector<float> row(40);
            const auto stored = [&](float value) {
                Matrix w(2, 40);
                for (float& element : w.values()) element = value;
                const auto q = quantize(w, {}, format, method);
                REQUIRE(q);
                q->linear.weights.dequantize(1, 0, row);
                CHECK(std::ranges::all_of(row, [&](float each) { return each == row[0]; }));
                return row[0];
            };
            CHECK(stored(0.0f) == 0.0f);
            CHECK(stored(-0.0f) == 0.0f);
            for (const float value : {1.0f, -0.3f, 17.0f, -3e-5f, 1e-30f, -1e-42f, 3e30f}) {
                const double range = std::abs(static_cast<double>(value));
                if (format.scale == Scalar::f16 && (range < 1e-4 || range > 1e4)) continue;
                // Scales that are powers of two, or few bits wide, miss a constant by up to half a gap of the table,
                // and iq4, which has no 0, by its smallest scale.
                const double loose = range < 1e-36 ? 1 : format.scale == Scalar::e8m0 ? 0.26 : 0.01;
                CHECK(std::abs(static_cast<double>(stored(value)) - static_cast<double>(value)) <=
                      loose * range + 0x1p-127);
            }
            // An outlier of 1e6 in one group leaves the others alone, unless they share its scale.
            Matrix w = testing::gaussian_matrix(2, 40, 1);
            w(0, 0) = 1e6f;
            const auto q = quantize(w, {}, format, method);
            if (format.scale == Scalar::f16 && !q) continue;  // 1e6 / 6 is more than f16 holds
            REQUIRE(q);
            q->linear.weights.dequantize(0, 0, row);
            CHECK(std::ranges::all_of(row, [](float each) { return std::isfinite(each); }));
        }
}

TEST_CASE("codebooks: scales and values that overflow are said in a sentence") {
    Matrix w(2, 64);
    w(1, 40) = 3e38f;
    const auto refused = quantize_rtn(w, *parse_format("nf4-g32"), {"w"});
    REQUIRE(!refused);
    CHECK(refused.error().message.find("tensor 'w': row 1, group 1: weights from 0 to 3e+38 need a scale") ==
          0);
    for (const char* fits : {"nf4-g32-sf32", "nf4-g32-dq", "mxfp8", "fp8-e5m2"}) {
        const auto q = quantize_rtn(w, *parse_format(fits));
        REQUIRE(q);
        CHECK(std::isfinite(q->report.mean_square_error));
    }
}
