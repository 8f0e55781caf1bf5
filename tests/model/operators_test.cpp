// The operators of every build that this CPU runs, against double precision: odd lengths and heads, rows alone and
// together, threads, and values that must stay where they are.
#include "fewbit/model/operators.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/matmul/isa.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace {

using namespace fewbit;

constexpr double epsilon = 0x1p-24;
constexpr float quiet_nan = std::numeric_limits<float>::quiet_NaN(),
                infinity = std::numeric_limits<float>::infinity();

/// FEWBIT_FORCE_ISA while it lives.
class ForcedIsa {
public:
    explicit ForcedIsa(std::string_view name) { setenv("FEWBIT_FORCE_ISA", std::string(name).c_str(), 1); }
    ~ForcedIsa() {
        old_.empty() ? unsetenv("FEWBIT_FORCE_ISA") : setenv("FEWBIT_FORCE_ISA", old_.c_str(), 1);
    }

private:
    std::string old_ = std::getenv("FEWBIT_FORCE_ISA") != nullptr ? std::getenv("FEWBIT_FORCE_ISA") : "";
};

template <class Body>
void for_each_isa(Body&& body) {
    for (const IsaInfo& row : isa_table) {
        if (!cpu_supports(row.isa)) continue;
        INFO("isa " << row.name);
        const ForcedIsa forced(row.name);
        body();
    }
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
    return std::ranges::equal(std::as_bytes(a), std::as_bytes(b));
}

void check_near(double got, double expected, double allowed, const std::string& what) {
    if (!(std::fabs(got - expected) <= allowed))
        FAIL(what << ": " << got << ", not " << expected << " +- " << allowed);
}

/// Keys and values of `positions` positions, as a cache and as they are.
struct Cached {
    model::KvCache cache;
    Matrix keys, values;  ///< (positions, kv_heads * head_dim)

    Cached(std::size_t kv_heads, std::size_t head_dim, std::size_t positions, std::uint64_t seed)
        : cache(create(kv_heads, head_dim, positions)),
          keys(testing::gaussian_matrix(positions, kv_heads * head_dim, seed)),
          values(testing::gaussian_matrix(positions, kv_heads * head_dim, seed + 1)) {
        for (std::size_t p = 0; p < positions; ++p) cache.store(0, p, keys.row(p), values.row(p));
    }

    static model::KvCache create(std::size_t kv_heads, std::size_t head_dim, std::size_t positions) {
        io::ModelShape shape;
        shape.layers = 1;
        shape.kv_heads = kv_heads;
        shape.head_dim = head_dim;
        shape.context = positions;
        auto made = model::KvCache::create(shape, positions);
        REQUIRE(made);
        return *std::move(made);
    }

    [[nodiscard]] Matrix attend(const Matrix& q, std::size_t heads, std::size_t first,
                                ExecutionContext context = {}) const {
        Matrix out(q.rows(), q.cols());
        std::fill(out.values().begin(), out.values().end(), quiet_nan);
        std::vector<float> scratch(model::attention_scratch_elements(cache, context.workers()), quiet_nan);
        model::attention(q.view(), heads, cache, 0, first, out, scratch, context);
        return out;
    }
};

/// A score is a sum of D products, of which each rounding moves a weight by as much, and so the sum of weights:
/// 2 (D + 4) e times the sum of magnitudes. Weights and their sums add 64 + P / 64 roundings each, exponentials two.
void check_attention(const Cached& c, const Matrix& q, std::size_t heads, std::size_t first,
                     const Matrix& out) {
    const std::size_t head_dim = c.cache.head_dim(), group = heads / c.cache.heads();
    for (std::size_t m = 0; m < q.rows(); ++m)
        for (std::size_t head = 0; head < heads; ++head) {
            const std::size_t at = head * head_dim, kv_at = head / group * head_dim, seen = first + m + 1;
            std::vector<double> weights(seen);
            double largest = -1e300, magnitude = 0, sum = 0;
            for (std::size_t p = 0; p < seen; ++p) {
                double score = 0, absolute = 0;
                for (std::size_t i = 0; i < head_dim; ++i) {
                    const double product =
                        static_cast<double>(q(m, at + i)) * static_cast<double>(c.keys(p, kv_at + i));
                    score += product, absolute += std::fabs(product);
                }
                weights[p] = score / std::sqrt(static_cast<double>(head_dim));
                magnitude = std::max(magnitude, absolute / std::sqrt(static_cast<double>(head_dim)));
                largest = std::max(largest, weights[p]);
            }
            for (double& weight : weights) sum += weight = std::exp(weight - largest);
            for (std::size_t i = 0; i < head_dim; ++i) {
                double expected = 0, absolute = 0;
                for (std::size_t p = 0; p < seen; ++p) {
                    const double part = weights[p] / sum * static_cast<double>(c.values(p, kv_at + i));
                    expected += part, absolute += std::fabs(part);
                }
                const double roundings = 2 * (static_cast<double>(head_dim) + 4) * (magnitude + 1) +
                                         2 * (64 + static_cast<double>(seen) / 64 + 4);
                check_near(static_cast<double>(out(m, at + i)), expected, epsilon * roundings * absolute,
                           "row " + std::to_string(m) + ", head " + std::to_string(head) + ", element " +
                               std::to_string(i));
            }
        }
}

struct AttentionShape {
    std::size_t heads, kv_heads, head_dim, first, rows;
};
constexpr AttentionShape attention_shapes[] = {
    {1, 1, 1, 0, 1},    {2, 1, 3, 0, 70},    {4, 4, 2, 61, 9},    {6, 2, 5, 128, 3},  {8, 1, 64, 130, 1},
    {16, 2, 64, 0, 37}, {3, 3, 48, 200, 1},  {3, 3, 48, 1, 65},   {8, 2, 80, 63, 33}, {40, 1, 16, 70, 5},
    {5, 1, 128, 64, 2}, {24, 2, 20, 31, 34}, {12, 4, 17, 300, 1}, {2, 1, 7, 127, 1},  {70, 1, 4, 3, 2},
};

}  // namespace

TEST_CASE("operators: the norm, for lengths with every tail") {
    for_each_isa([] {
        for (const std::size_t count : {0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 100, 257}) {
            INFO("count " << count);
            const Matrix x = testing::gaussian_matrix(3, count, count + 1),
                         gain = testing::gaussian_matrix(1, count, 2);
            Matrix y(3, count);
            model::rms_norm(x.view(), gain.row(0), 1e-5f, y);
            for (std::size_t m = 0; m < 3; ++m) {
                double squares = 0;
                for (const float value : x.row(m))
                    squares += static_cast<double>(value) * static_cast<double>(value);
                const double scale =
                    1 / std::sqrt(squares / static_cast<double>(count) + static_cast<double>(1e-5f));
                for (std::size_t i = 0; i < count; ++i) {
                    const double expected =
                        static_cast<double>(x(m, i)) * scale * static_cast<double>(gain(0, i));
                    check_near(static_cast<double>(y(m, i)), expected, 4 * epsilon * std::fabs(expected),
                               "norm");
                }
            }
            Matrix in_place = x;
            model::rms_norm(std::as_const(in_place).view(), gain.row(0), 1e-5f, in_place);
            CHECK(same_bits(in_place.values(), y.values()));
        }
    });
}

TEST_CASE("operators: silu over the whole range of the exponential") {
    for_each_isa([] {
        std::vector<float> gates{0.0f, -0.0f, 1e-30f, -1e-30f, 200.0f, -200.0f, 88.4f, -88.4f, 2e38f, -3e38f};
        for (int i = -9000; i <= 9000; ++i) gates.push_back(static_cast<float>(i) * 0.01f + 0.003f);
        for (const std::size_t count : {std::size_t{1}, std::size_t{5}, std::size_t{23}, gates.size()}) {
            Matrix gate(1, count), up(1, count);
            for (std::size_t i = 0; i < count; ++i)
                gate(0, i) = gates[i], up(0, i) = i % 2 == 0 ? 1.5f : -0.7f;
            model::silu_multiply(gate, std::as_const(up).view());
            for (std::size_t i = 0; i < count; ++i) {
                const double g = static_cast<double>(gates[i]);
                const double expected = g / (1 + std::exp(-g)) * static_cast<double>(up(0, i));
                // From -88.3 on the result is 0.
                check_near(static_cast<double>(gate(0, i)), expected,
                           8 * epsilon * std::fabs(expected) + 0x1p-118, "silu of " + std::to_string(g));
            }
        }
    });
}

TEST_CASE("operators: rotation and addition, for heads of every length") {
    for_each_isa([] {
        for (const std::size_t head_dim : {1, 2, 3, 6, 8, 14, 16, 30, 34, 64, 80}) {
            INFO("head_dim " << head_dim);
            const Matrix before = testing::gaussian_matrix(2, 3 * head_dim, head_dim);
            Matrix x = before, table(2, head_dim);
            model::rope_table(11, 10000.0f, table);
            model::rope(x, 3, std::as_const(table).view());
            for (std::size_t m = 0; m < 2; ++m)
                for (std::size_t i = 0; i < 3 * head_dim; ++i) {
                    const std::size_t within = i % head_dim;
                    if (within / 2 * 2 + 1 >= head_dim) {
                        CHECK(x(m, i) == before(m, i));
                        continue;
                    }
                    const std::size_t first = i - within % 2;
                    const double angle =
                        static_cast<double>(11 + m) * std::pow(10000.0, -static_cast<double>(within / 2 * 2) /
                                                                            static_cast<double>(head_dim));
                    const double a = static_cast<double>(before(m, first)),
                                 b = static_cast<double>(before(m, first + 1));
                    const double c = std::cos(angle), s = std::sin(angle);
                    const double expected = within % 2 == 0 ? a * c - b * s : a * s + b * c;
                    check_near(static_cast<double>(x(m, i)), expected,
                               4 * epsilon * (std::fabs(a) + std::fabs(b)), "rope");
                }
            Matrix sum = before;
            model::add(sum, std::as_const(x).view());
            for (std::size_t i = 0; i < sum.values().size(); ++i)
                CHECK(sum.values()[i] == before.values()[i] + x.values()[i]);
        }
    });
}

TEST_CASE("operators: attention, for odd heads, rows and positions") {
    for_each_isa([] {
        for (const AttentionShape& s : attention_shapes) {
            INFO(s.heads << "/" << s.kv_heads << " heads of " << s.head_dim << ", " << s.rows << " rows from "
                         << s.first);
            const Cached c(s.kv_heads, s.head_dim, s.first + s.rows, s.head_dim);
            for (const double sigma : {1.0, 12.0}) {  // flat and sharp
                const Matrix q = testing::gaussian_matrix(s.rows, s.heads * s.head_dim, 5, sigma);
                check_attention(c, q, s.heads, s.first, c.attend(q, s.heads, s.first));
            }
        }
    });
}

TEST_CASE(
    "operators: a row's attention has the same bits alone, among others, and on any number of threads") {
    ThreadPool two(2), seven(7);
    for_each_isa([&] {
        for (const AttentionShape& s : attention_shapes) {
            INFO(s.heads << "/" << s.kv_heads << " heads of " << s.head_dim << ", " << s.rows << " rows from "
                         << s.first);
            const Cached c(s.kv_heads, s.head_dim, s.first + s.rows, s.head_dim);
            const Matrix q = testing::gaussian_matrix(s.rows, s.heads * s.head_dim, 5);
            const Matrix together = c.attend(q, s.heads, s.first);
            CHECK(same_bits(together.values(), c.attend(q, s.heads, s.first, two).values()));
            CHECK(same_bits(together.values(), c.attend(q, s.heads, s.first, seven).values()));
            for (std::size_t m = 0; m < s.rows; ++m) {
                Matrix one(1, q.cols());
                std::copy(q.row(m).begin(), q.row(m).end(), one.row(0).begin());
                CHECK(same_bits(together.row(m), c.attend(one, s.heads, s.first + m).values()));
            }
        }
    });
}

TEST_CASE("operators: attention does not look at later positions, whatever stands there") {
    for_each_isa([] {
        for (const AttentionShape& s : attention_shapes) {
            Cached c(s.kv_heads, s.head_dim, s.first + s.rows, s.head_dim);
            const Matrix q = testing::gaussian_matrix(s.rows, s.heads * s.head_dim, 5);
            const Matrix before = c.attend(q, s.heads, s.first);
            const std::vector<float> bad_key(s.kv_heads * s.head_dim, quiet_nan),
                bad_value(bad_key.size(), infinity);
            for (std::size_t m = s.rows; m-- > s.rows / 2 + 1;)
                c.cache.store(0, s.first + m, bad_key, bad_value);
            const Matrix after = c.attend(q, s.heads, s.first);
            for (std::size_t m = 0; m < s.rows; ++m)
                if (m <= s.rows / 2)
                    CHECK(same_bits(before.row(m), after.row(m)));
                else
                    for (const float value : after.row(m)) CHECK(!std::isfinite(value));
        }
    });
}

TEST_CASE("operators: NaN comes out where it went in") {
    for_each_isa([] {
        for (const std::size_t at : {0, 4, 17, 20}) {
            Matrix gate = testing::gaussian_matrix(1, 21, 1), x = gate;
            const Matrix ones = gate;
            gate(0, at) = x(0, at) = quiet_nan;
            model::silu_multiply(gate, ones.view());
            Matrix y(1, 21);
            model::rms_norm(std::as_const(x).view(), ones.row(0), 1e-5f, y);
            for (std::size_t i = 0; i < 21; ++i) {
                CHECK(std::isnan(gate(0, i)) == (i == at));
                CHECK(std::isnan(y(0, i)));
            }
        }
    });
}

TEST_CASE("operators: a forced instruction set without operators of its own takes weaker ones") {
    if (!cpu_supports(Isa::avx512vl_vnni)) FEWBIT_SKIP("this CPU has no AVX-512");
    const Matrix x = testing::gaussian_matrix(1, 1000, 1);
    const auto norm = [&](std::string_view isa) {
        const ForcedIsa forced(isa);
        Matrix y(1, 1000);
        model::silu_multiply(y, x.view());
        model::rms_norm(x.view(), x.row(0), 1e-5f, y);
        return y;
    };
    CHECK(same_bits(norm("avx512vl_vnni").values(), norm("avx2").values()));
}
