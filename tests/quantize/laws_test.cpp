// Laws of rtn and mse over all formats: the error bound that rtn.hpp states, mse never worse, views, shapes.
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/quantize/grid.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "support/all_formats.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

double unit_roundoff(Scalar type) {
    return type == Scalar::f32 ? 0x1p-24 : type == Scalar::f16 ? 0x1p-11 : 0x1p-8;
}

struct Group {
    std::size_t row_first, row_count, first, count;
};

/// The groups of a matrix, each with the (row, group) that index its parameters.
std::vector<std::pair<Group, std::pair<std::size_t, std::size_t>>> groups_of(const QuantizedMatrix& q) {
    std::vector<std::pair<Group, std::pair<std::size_t, std::size_t>>> out;
    if (q.format().granularity == Granularity::tensor) return {{{0, q.n(), 0, q.k()}, {0, 0}}};
    for (std::size_t r = 0; r < q.n(); ++r)
        for (std::size_t g = 0; g < q.groups_per_row(); ++g)
            out.push_back(
                {{r, 1, g * q.group_elements(), std::min(q.group_elements(), q.k() - g * q.group_elements())},
                 {r, g}});
    return out;
}

/// Checks |w - w^| <= s/2 + clip + 2^-22 (absmax + s) for every weight, and clip against its own bound.
void check_error_law(MatrixView<const float> w, const QuantizedMatrix& q) {
    const Format& f = q.format();
    std::size_t wrong = 0, wrong_clip = 0, wrong_code = 0;
    std::vector<float> decoded(q.k());
    for (const auto& [group, where] : groups_of(q)) {
        double min = w(group.row_first, group.first), max = min;
        for (std::size_t r = group.row_first; r < group.row_first + group.row_count; ++r)
            for (std::size_t c = group.first; c < group.first + group.count; ++c)
                min = std::min<double>(min, w(r, c)), max = std::max<double>(max, w(r, c));
        const double s = q.scale(where.first, where.second), offset = q.offset(where.first, where.second);
        const double absmax = std::max(-min, max), steps = f.max_code(), half = f.middle_code();
        const bool constant = min == max && f.offset != Offset::real;
        double range = absmax, clip = 0;
        if (f.offset == Offset::integer)
            range = std::max(max, 0.0) - std::min(min, 0.0), clip = range - steps * s;
        else if (f.offset == Offset::real)
            range = max - offset, clip = range - steps * s;
        else
            clip = f.narrow ? absmax - (half - 1) * s : absmax - (half - 0.5) * s;
        clip = constant ? 0 : std::max(clip, 0.0);
        const double u = unit_roundoff(f.scale);
        const double subnormal = f.scale == Scalar::f16 ? 0x1p-14 : 0x1p-126;
        wrong_clip += clip > (s < subnormal ? 0 : u * range) + 1e-7 * range;
        if (f.offset == Offset::real) wrong_clip += offset > min;
        const double tiniest = f.scale == Scalar::f16    ? 0x1p-24
                               : f.scale == Scalar::bf16 ? 0x1p-133
                                                         : 0x1p-149;
        const double bound = (constant ? u * absmax + tiniest / 2 : s / 2) + clip + 0x1p-22 * (absmax + s);
        for (std::size_t r = group.row_first; r < group.row_first + group.row_count; ++r) {
            q.dequantize(r, 0, decoded);
            for (std::size_t c = group.first; c < group.first + group.count; ++c) {
                wrong += !(std::abs(static_cast<double>(w(r, c)) - static_cast<double>(decoded[c])) <= bound);
                wrong_code += q.codes.code(r, c) < f.min_code() || q.codes.code(r, c) > f.max_code();
            }
        }
    }
    CHECK(wrong == 0);
    CHECK(wrong_clip == 0);
    CHECK(wrong_code == 0);
}

struct Case {
    const char* name;
    Matrix w;
};

std::vector<Case> cases() {
    std::vector<Case> out;
    const auto add = [&](const char* name, std::size_t n, std::size_t k,
                         const std::function<double(testing::Random&, std::size_t)>& draw) {
        Matrix w(n, k);
        testing::Random random(99, out.size());
        for (std::size_t i = 0; i < n * k; ++i) w.values()[i] = static_cast<float>(draw(random, i));
        out.push_back({name, std::move(w)});
    };
    using R = testing::Random;
    add("gaussian", 5, 75, [](R& r, std::size_t) { return r.gaussian() * 0.02; });
    add("student", 4, 64, [](R& r, std::size_t) { return r.student_t(3); });
    add("laplace", 3, 41, [](R& r, std::size_t) { return r.laplace() * 300; });
    add("positive", 3, 70, [](R& r, std::size_t) { return 100 + r.uniform(); });
    add("negative", 3, 70, [](R& r, std::size_t) { return -r.uniform(0.5, 2); });
    add("tiny", 3, 70, [](R& r, std::size_t) { return r.gaussian() * 3e-7; });
    add("f32 subnormal", 3, 70, [](R& r, std::size_t) { return r.gaussian() * 1e-41; });
    add("magnitudes", 6, 80, [](R& r, std::size_t) { return r.gaussian() * std::exp2(r.uniform(-40, 8)); });
    add("one outlier", 2, 64, [](R& r, std::size_t i) { return i == 70 ? 1000.0 : r.gaussian(); });
    add("few values", 2, 64, [](R& r, std::size_t) { return static_cast<double>(r.below(3)) - 1.0; });
    add("one column", 7, 1, [](R& r, std::size_t) { return r.gaussian(); });
    add("one value", 1, 1, [](R& r, std::size_t) { return r.gaussian(); });
    return out;
}

double squared_error(MatrixView<const float> w, const QuantizedMatrix& q, const Group& group) {
    std::vector<float> decoded(group.count);
    double sum = 0;
    for (std::size_t r = group.row_first; r < group.row_first + group.row_count; ++r) {
        q.dequantize(r, group.first, decoded);
        for (std::size_t i = 0; i < group.count; ++i) {
            const double e = static_cast<double>(w(r, group.first + i)) - static_cast<double>(decoded[i]);
            sum += e * e;
        }
    }
    return sum;
}

}  // namespace

TEST_CASE("rtn: every weight is within the stated bound, in every format", "[quantize][law]") {
    for (const Case& c : cases())
        for (const Format& format : testing::all_formats({8, 32, 37})) {
            if (format.is_float()) continue;
            INFO(c.name << " " << name(format));
            const auto q = quantize_rtn(c.w, format);
            REQUIRE(q);
            check_error_law(c.w, q->linear.weights);
        }
}

TEST_CASE("rtn: each code is the nearest to its weight on the stored grid", "[quantize][law]") {
    const auto w = testing::heavy_tailed_matrix(4, 100, 21);
    for (const Format& format : testing::all_formats({32})) {
        if (format.is_float()) continue;
        INFO(name(format));
        const QuantizedMatrix q = quantize_rtn(w, format)->linear.weights;
        std::size_t wrong = 0;
        for (std::size_t r = 0; r < 4; ++r)
            for (std::size_t c = 0; c < 100; ++c) {
                const std::size_t g = c / q.group_elements();
                const double s = q.scale(r, g),
                             x = static_cast<double>(w(r, c)) - static_cast<double>(q.offset(r, g));
                const int code = q.codes.code(r, c), zero = q.zero(r, g);
                const auto error = [&](int other) { return std::abs(x - s * (other - zero)); };
                if (code > format.min_code()) wrong += error(code - 1) < error(code) - 1e-13 * std::abs(x);
                if (code < format.max_code()) wrong += error(code + 1) < error(code) - 1e-13 * std::abs(x);
            }
        CHECK(wrong == 0);
    }
}

TEST_CASE("mse: no group's squared error is larger than rtn's", "[quantize][law]") {
    for (const Case& c : cases())
        for (const Format& format : testing::all_formats({8, 37})) {
            INFO(c.name << " " << name(format));
            const auto rtn = quantize_rtn(c.w, format), mse = quantize_mse(c.w, format);
            REQUIRE(rtn);
            REQUIRE(mse);
            if (format.is_float()) continue;
            std::size_t worse = 0;
            for (const auto& entry : groups_of(rtn->linear.weights)) {
                const double before = squared_error(c.w, rtn->linear.weights, entry.first);
                worse += squared_error(c.w, mse->linear.weights, entry.first) > before * (1 + 1e-12);
            }
            CHECK(worse == 0);
            CHECK(mse->report.mean_square_error <= rtn->report.mean_square_error * (1 + 1e-12));
        }
}

TEST_CASE("mse: finds the best of its candidates", "[quantize][law]") {
    // Against a search of its own over fit_grid, encode and decode, without early exits.
    const auto w = testing::heavy_tailed_matrix(3, 64, 31);
    for (const double exponent : {2.0, 2.4, 1.0}) {
        MseOptions options;
        options.exponent = exponent;
        for (const char* format_name : {"int2-g32", "int3-g32-asym", "int4-g64-fzero", "int4-channel-narrow",
                                        "int3-tensor-asym-sbf16"}) {
            INFO(format_name << " exponent " << exponent);
            const Format format = *parse_format(format_name);
            const auto q = quantize_mse(w, format, options);
            REQUIRE(q);
            for (const auto& [group, where] : groups_of(q->linear.weights)) {
                std::vector<float> flat;
                for (std::size_t r = group.row_first; r < group.row_first + group.row_count; ++r)
                    for (std::size_t i = 0; i < group.count; ++i) flat.push_back(w(r, group.first + i));
                const auto [min, max] = std::minmax_element(flat.begin(), flat.end());
                const auto error_of = [&](const GroupGrid& grid) {
                    std::vector<std::uint8_t> codes(flat.size());
                    encode(format, grid, flat, codes);
                    double sum = 0;
                    for (std::size_t i = 0; i < flat.size(); ++i)
                        sum += std::pow(std::abs(static_cast<double>(flat[i]) -
                                                 static_cast<double>(decode(format, grid, codes[i]))),
                                        exponent);
                    return sum;
                };
                double least = HUGE_VAL;
                for (int i = 0; i < 80; ++i)
                    least = std::min(least, error_of(*fit_grid(format, *min, *max, 1.0 - i / 100.0)));
                const QuantizedMatrix& m = q->linear.weights;
                const GroupGrid chosen{m.scale(where.first, where.second), m.zero(where.first, where.second),
                                       m.offset(where.first, where.second), false};
                CHECK(error_of(chosen) <= least * (1 + 1e-9));
            }
        }
    }
}

TEST_CASE("quantize: a strided view gives the bytes of its copy", "[quantize][shape]") {
    const auto wide = testing::gaussian_matrix(6, 50, 8);
    Matrix copy(6, 37);
    for (std::size_t r = 0; r < 6; ++r)
        for (std::size_t c = 0; c < 37; ++c) copy(r, c) = wide(r, c + 3);
    const MatrixView<const float> view(wide.values().data() + 3, 6, 37, 50);
    for (const Format& format : testing::all_formats({8})) {
        INFO(name(format));
        const auto a = quantize_mse(view, format), b = quantize_mse(copy, format);
        REQUIRE(a);
        REQUIRE(b);
        const auto bytes = [](const Quantized& q) { return q.linear.weights.codes.bytes().bytes(); };
        CHECK(std::equal(bytes(*a).begin(), bytes(*a).end(), bytes(*b).begin()));
        CHECK(a->report.sqnr_db == b->report.sqnr_db);
    }
}

TEST_CASE("quantize: N or K of 0 is a matrix like any other", "[quantize][shape]") {
    for (const auto& [n, k] : std::vector<std::pair<std::size_t, std::size_t>>{{0, 0}, {0, 8}, {8, 0}})
        for (const Format& format : testing::all_formats({8})) {
            INFO(name(format) << " " << n << " x " << k);
            for (const Method& method : {Method(RtnOptions{}), Method(MseOptions{})}) {
                const auto q = quantize(Matrix(n, k), TensorStatistics{}, format, method);
                REQUIRE(q);
                CHECK(q->linear.n() == n);
                CHECK(q->linear.k() == k);
                CHECK(q->report.groups == 0);
                CHECK(q->report.bits_per_weight == 0);
            }
        }
}

TEST_CASE("quantize: K of every length around a group's end", "[quantize][shape]") {
    for (std::size_t k = 1; k <= 40; ++k) {
        const auto w = testing::gaussian_matrix(3, k, k);
        for (const char* format_name :
             {"int4-g8", "int3-g16-asym", "int5-g32-fzero", "int2-channel-narrow"}) {
            INFO(format_name << " K " << k);
            const auto q = quantize_rtn(w, *parse_format(format_name));
            REQUIRE(q);
            check_error_law(w, q->linear.weights);
            // A group does not see its neighbours: the last one alone gives the same codes.
            const std::size_t group = q->linear.weights.group_elements(), first = (k - 1) / group * group;
            const auto last =
                quantize_rtn(MatrixView<const float>(w.values().data() + first, 3, k - first, k),
                             *parse_format(format_name));
            for (std::size_t r = 0; r < 3; ++r)
                for (std::size_t c = first; c < k; ++c)
                    CHECK(q->linear.weights.codes.code(r, c) ==
                          last->linear.weights.codes.code(r, c - first));
        }
    }
}

TEST_CASE("quantize: a row does not know its matrix, however the rows are cut into tasks",
          "[quantize][shape]") {
    const auto w = testing::heavy_tailed_matrix(70, 700, 23);  // four blocks of rows
    ThreadPool pool(3);
    for (const char* format_name :
         {"int4-g32", "int3-g64-asym", "int5-g100-fzero", "int4-channel-narrow", "bf16"})
        for (const Method& method : {Method(RtnOptions{}), Method(MseOptions{})}) {
            INFO(format_name << " " << name(method));
            const Format format = *parse_format(format_name);
            const auto all = quantize(w, {}, format, method, pool);
            REQUIRE(all);
            std::vector<float> together(700), alone(700);
            std::size_t wrong = 0;
            for (std::size_t r = 0; r < 70; ++r) {
                const auto one = quantize(w.view().rows_from(r, 1), {}, format, method);
                all->linear.weights.dequantize(r, 0, together);
                one->linear.weights.dequantize(0, 0, alone);
                wrong += together != alone;
            }
            CHECK(wrong == 0);
        }
    for (const char* format_name : {"int4-tensor", "int3-tensor-asym-sf16", "int8-tensor-fzero"})
        check_error_law(w, quantize_rtn(w, *parse_format(format_name), {}, pool)->linear.weights);
}

TEST_CASE("quantize: the report is what a second look finds", "[quantize][report]") {
    const auto w = testing::gaussian_matrix(9, 100, 17);
    const auto q = quantize_rtn(w, *parse_format("int4-g32-asym"));
    REQUIRE(q);
    double signal = 0, noise = 0, largest = 0;
    std::vector<float> row(100);
    for (std::size_t r = 0; r < 9; ++r) {
        q->linear.weights.dequantize(r, 0, row);
        for (std::size_t c = 0; c < 100; ++c) {
            const double x = w(r, c), e = x - static_cast<double>(row[c]);
            signal += x * x, noise += e * e, largest = std::max(largest, std::abs(e));
        }
    }
    CHECK(std::abs(q->report.sqnr_db - 10 * std::log10(signal / noise)) <= 1e-9);
    CHECK(std::abs(q->report.relative_error - std::sqrt(noise / signal)) <= 1e-12);
    CHECK(q->report.max_abs_error == largest);
    CHECK(std::abs(q->report.mean_square_error - noise / 900) <= 1e-12 * noise);
    CHECK(q->report.bits_per_weight == q->linear.bits_per_weight());
    CHECK(q->report.groups == 9 * 4);
    CHECK(q->report.method == "rtn");
    CHECK(q->report.notes.empty());
    CHECK(std::isinf(quantize_rtn(w, float_format(Scalar::f32))->report.sqnr_db));
}

TEST_CASE("quantize: methods by name", "[quantize][method]") {
    CHECK(method_names() ==
          std::vector<std::string_view>{"rtn", "mse", "gptq", "awq", "hqq", "owq", "llm-int8"});
    TensorStatistics statistics;
    REQUIRE(statistics.add(testing::gaussian_matrix(20, 8, 2)));
    statistics.hessian_sum = *Tensor::allocate(Scalar::f64, {8, 8});
    for (std::size_t i = 0; i < 64; ++i)
        statistics.hessian_sum.as_mutable<double>()[i] = i % 9 == 0 ? statistics.sum_square[i / 9] : 0.0;
    for (const std::string_view known : method_names()) {
        const auto method = parse_method(known);
        REQUIRE(method);
        CHECK(name(*method) == known);
        CHECK(needs_statistics(*method) ==
              (known == "gptq" || known == "awq" || known == "owq" || known == "llm-int8"));
        CHECK(compensates_inputs(*method) == (known == "gptq" || known == "owq"));
        // hqq moves offsets; float columns leave zeros behind.
        const char* const format = known == "hqq" ? "int4-g8-fzero" : "int4-g8-asym";
        const auto q =
            quantize(testing::gaussian_matrix(2, 8, 1), statistics, *parse_format(format), *method);
        REQUIRE(q);
        CHECK(q->report.method == known);
    }
    CHECK(parse_method("awq2").error().message ==
          "method 'awq2' is not known; known are rtn, mse, gptq, awq, hqq, owq, llm-int8");
    CHECK_FALSE(quantize(testing::gaussian_matrix(2, 8, 1), {}, *parse_format("int4-g8"), GptqOptions{}));
    Matrix w(1, 8);
    w(0, 3) = NAN;
    const auto named = quantize(w, {}, Format{}, for_tensor(MseOptions{}, "wq"));
    REQUIRE(!named);
    CHECK(named.error().message == "tensor 'wq': weight [0, 3] is NaN");
    MseOptions impossible;
    impossible.exponent = 0;
    CHECK(!quantize_mse(Matrix(1, 8), Format{}, impossible));
    impossible = {};
    impossible.max_shrink = 1;
    CHECK(!quantize_mse(Matrix(1, 8), Format{}, impossible));
    Format nonsense;
    nonsense.bits = 9;
    CHECK(quantize_rtn(Matrix(1, 8), nonsense, {"wk"})
              .error()
              .message.starts_with("tensor 'wk': codes of 9 bits"));
}
