// PackedLinear: input transforms, float columns and biases around a product, and inputs that are shared.
#include "fewbit/matmul/linear.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace {

using namespace fewbit;

/// A layer with everything: 8-bit weights in groups of 8, scales, a permutation, two float columns, a bias.
Linear full_linear(std::size_t n, std::size_t k, std::uint64_t seed) {
    testing::Random random(seed);
    Format format;
    format.bits = 8;
    format.group = 8;
    format.scale = Scalar::f32;
    Linear linear;
    linear.weights = *QuantizedMatrix::allocate(format, n, k);
    std::vector<std::uint8_t> codes(k);
    for (std::size_t r = 0; r < n; ++r) {
        for (auto& code : codes) code = static_cast<std::uint8_t>(random.below(256));
        linear.weights.codes.pack_row(r, codes);
        for (std::size_t g = 0; g < linear.weights.groups_per_row(); ++g)
            linear.weights.set_scale(r, g, static_cast<float>(random.uniform(0.001, 0.01)));
    }
    for (std::size_t i = 0; i < k; ++i) {
        linear.transform.channel_scales.push_back(static_cast<float>(random.uniform(0.5, 2)));
        linear.transform.permutation.push_back(static_cast<std::uint32_t>(i));
    }
    random.shuffle(std::span(linear.transform.permutation));
    linear.columns.channels = {1, static_cast<std::uint32_t>(k - 1)};
    linear.columns.values = *float_matrix(testing::gaussian_matrix(n, 2, seed + 1).view());
    for (std::size_t r = 0; r < n; ++r) linear.bias.push_back(static_cast<float>(random.gaussian()));
    return linear;
}

void check_product(const Linear& linear, const Matrix& x, const Matrix& y) {
    std::vector<float> row(linear.k()), columns(linear.columns.channels.size());
    for (std::size_t m = 0; m < x.rows(); ++m)
        for (std::size_t n = 0; n < linear.n(); ++n) {
            linear.weights.dequantize(n, 0, row);
            double sum = linear.bias.empty() ? 0.0 : static_cast<double>(linear.bias[n]),
                   magnitude = std::fabs(sum);
            const auto add = [&](double product) { sum += product, magnitude += std::fabs(product); };
            for (std::size_t k = 0; k < linear.k(); ++k) {
                const std::size_t from =
                    linear.transform.permutation.empty() ? k : linear.transform.permutation[k];
                const double scale = linear.transform.channel_scales.empty()
                                         ? 1.0
                                         : static_cast<double>(linear.transform.channel_scales[k]);
                add(static_cast<double>(x(m, from)) / scale * static_cast<double>(row[k]));
            }
            if (!linear.columns.empty()) linear.columns.values.dequantize(n, 0, columns);
            for (std::size_t c = 0; c < columns.size(); ++c)
                add(static_cast<double>(x(m, linear.columns.channels[c])) * static_cast<double>(columns[c]));
            CHECK(std::fabs(sum - static_cast<double>(y(m, n))) <=
                  0x1p-24 * static_cast<double>(linear.k() + 4) * magnitude);
        }
}

}  // namespace

TEST_CASE("a layer applies its transform, float columns and bias") {
    const Matrix x = testing::gaussian_matrix(5, 43, 7);
    Linear linear = full_linear(19, 43, 1);
    for (int parts = 0; parts < 16; ++parts) {
        Linear some = linear;
        if ((parts & 1) == 0) some.transform.channel_scales.clear();
        if ((parts & 2) == 0) some.transform.permutation.clear();
        if ((parts & 4) == 0) some.columns = {};
        if ((parts & 8) == 0) some.bias.clear();
        INFO("parts " << parts);
        const auto packed = PackedLinear::create(some, exact_activations(), Fallback::allow);
        REQUIRE(packed);
        Matrix y(5, 19);
        REQUIRE(packed->apply(x.view(), y));
        check_product(some, x, y);
    }
}

TEST_CASE("a layer rotates its input first, in blocks, and float columns read what comes out") {
    const Matrix x = testing::gaussian_matrix(5, 48, 7);
    for (const std::uint32_t order : {48u, 12u, 16u, 2u}) {
        const Matrix turned = rotated(*Hadamard::create(order), x.view());
        for (int parts = 0; parts < 8; ++parts) {
            Linear linear = full_linear(19, 48, 1);
            linear.transform.hadamard = order;
            if ((parts & 1) == 0) linear.transform.channel_scales.clear();
            if ((parts & 2) == 0) linear.transform.permutation.clear();
            if ((parts & 4) == 0) linear.columns = {};
            INFO("order " << order << ", parts " << parts);
            const auto packed = PackedLinear::create(linear, exact_activations(), Fallback::allow);
            REQUIRE(packed);
            Matrix y(5, 19);
            REQUIRE(packed->apply(x.view(), y));
            check_product(linear, turned, y);
            Linear other = linear;
            other.transform.hadamard = 0;
            CHECK(!packed->reads_like(*PackedLinear::create(other, exact_activations(), Fallback::allow)));
        }
    }
}

TEST_CASE("outliers in float columns do not widen the grid of integer activations") {
    Linear linear = full_linear(32, 64, 1);
    for (const bool transforms : {true, false}) {
        if (!transforms) linear.transform = {};
        // Codes that stand for zero where the float columns are, in the transform's order.
        std::vector<std::uint8_t> codes(64);
        for (std::size_t r = 0; r < 32; ++r) {
            linear.weights.codes.unpack(r, 0, codes);
            for (std::size_t k = 0; k < 64; ++k) {
                const std::uint32_t from =
                    transforms ? linear.transform.permutation[k] : static_cast<std::uint32_t>(k);
                if (std::ranges::count(linear.columns.channels, from) != 0) codes[k] = 128;
            }
            linear.weights.codes.pack_row(r, codes);
        }
        Matrix x = testing::gaussian_matrix(4, 64, 7);
        const auto packed = PackedLinear::create(linear, int8_row_activations(), Fallback::allow);
        REQUIRE(packed);
        Matrix small(4, 32), large(4, 32);
        for (std::size_t m = 0; m < 4; ++m) x(m, 1) = 0;
        REQUIRE(packed->apply(x.view(), small));
        for (std::size_t m = 0; m < 4; ++m) x(m, 1) = 1e4f;
        REQUIRE(packed->apply(x.view(), large));
        for (std::size_t m = 0; m < 4; ++m)
            for (std::size_t n = 0; n < 32; ++n) {
                float weight = 0;
                linear.columns.values.dequantize(n, 0, {&weight, 1});
                const double expected = static_cast<double>(small(m, n)) + 1e4 * static_cast<double>(weight);
                CHECK(std::fabs(static_cast<double>(large(m, n)) - expected) <=
                      0x1p-20 * 1e4 * (std::fabs(static_cast<double>(weight)) + 1e-3));
            }
    }
}

TEST_CASE("layers that read the same x give the same bits together and alone, on any number of threads") {
    std::vector<Linear> linears{full_linear(16, 64, 1), full_linear(240, 64, 1), full_linear(8, 64, 3),
                                full_linear(1, 64, 4), full_linear(33, 64, 5)};
    linears[1].transform =
        linears[0].transform;  // the first two share, the others have transforms of their own
    linears[3].columns = {};
    ActivationFormat asymmetric = int8_row_activations();
    asymmetric.asymmetric = true;
    ThreadPool two(2), seven(7);
    for (const ActivationFormat& activations :
         {exact_activations(), int8_group_activations(16), int8_row_activations(), asymmetric}) {
        INFO(name(activations));
        std::vector<PackedLinear> packed;
        for (const Linear& linear : linears) {
            auto one = PackedLinear::create(linear, activations, Fallback::allow);
            REQUIRE(one);
            packed.push_back(*std::move(one));
        }
        CHECK(packed[0].reads_like(packed[1]));
        CHECK(!packed[1].reads_like(packed[2]));
        for (const std::size_t rows : {0, 1, 4, 37}) {
            const Matrix x = testing::gaussian_matrix(rows, 64, 7);
            for (const ExecutionContext& context :
                 {ExecutionContext(), ExecutionContext(two), ExecutionContext(seven)}) {
                INFO(rows << " rows, " << context.workers() << " threads");
                std::vector<Matrix> together;
                std::vector<LinearCall> calls;
                for (const PackedLinear& layer : packed) together.emplace_back(rows, layer.n());
                for (std::size_t i = 0; i < packed.size(); ++i) calls.push_back({&packed[i], together[i]});
                REQUIRE(apply_together(x.view(), calls, context));
                for (std::size_t i = 0; i < packed.size(); ++i) {
                    Matrix alone(rows, packed[i].n());
                    REQUIRE(packed[i].apply(x.view(), alone));
                    CHECK(std::ranges::equal(std::as_bytes(alone.values()),
                                             std::as_bytes(together[i].values())));
                }
            }
        }
    }
}

TEST_CASE("layers run together in one parallel region") {
    class Counting final : public Executor {
    public:
        std::size_t regions = 0;
        [[nodiscard]] std::size_t workers() const noexcept override { return 2; }
        void parallel_for(std::size_t tasks, Body body) override {
            ++regions;
            for (std::size_t task = 0; task < tasks; ++task) body(task, task % 2);
        }
    } counting;
    std::vector<PackedLinear> packed;
    for (std::uint64_t i = 0; i < 3; ++i) {
        Linear linear = full_linear(48, 64, i);
        linear.columns = {};
        linear.transform = {};
        packed.push_back(*PackedLinear::create(linear, int8_row_activations(), Fallback::allow));
    }
    const Matrix x = testing::gaussian_matrix(1, 64, 7);
    Matrix y[3] = {Matrix(1, 48), Matrix(1, 48), Matrix(1, 48)};
    const LinearCall calls[] = {{&packed[0], y[0]}, {&packed[1], y[1]}, {&packed[2], y[2]}};
    REQUIRE(apply_together(x.view(), calls, counting));
    CHECK(counting.regions == 1);
}

TEST_CASE("layers whose weights are grouped differently do not share sums") {
    Linear coarse = full_linear(16, 64, 1);
    Linear fine = coarse;
    Format format = coarse.weights.format();
    format.group = 32;
    coarse.weights = *QuantizedMatrix::allocate(format, 16, 64);
    const auto a = PackedLinear::create(coarse, int8_group_activations(32), Fallback::allow),
               b = PackedLinear::create(fine, int8_group_activations(32), Fallback::allow);
    REQUIRE(a);
    REQUIRE(b);
    CHECK(!a->reads_like(*b));
}

TEST_CASE("layers that do not fit together are refused") {
    const auto refused = [](auto&& damage) {
        Linear linear = full_linear(19, 43, 1);
        damage(linear);
        return !PackedLinear::create(linear, exact_activations(), Fallback::allow);
    };
    CHECK(refused([](Linear& l) { l.transform.channel_scales.pop_back(); }));
    CHECK(refused([](Linear& l) { l.transform.permutation.pop_back(); }));
    CHECK(refused([](Linear& l) { l.transform.permutation[3] = 43; }));
    CHECK(refused([](Linear& l) { l.columns.channels[1] = 43; }));
    CHECK(refused([](Linear& l) { l.transform.hadamard = 2; }));   // does not divide 43
    CHECK(refused([](Linear& l) { l.transform.hadamard = 43; }));  // no such matrix
    CHECK(refused([](Linear& l) { l.columns.channels.push_back(0); }));
    CHECK(refused([](Linear& l) { l.bias.push_back(0); }));
    CHECK(!refused([](Linear&) {}));
    const auto packed = PackedLinear::create(full_linear(19, 43, 1), exact_activations(), Fallback::allow);
    REQUIRE(packed);
    Matrix x(2, 42), y(2, 19);
    CHECK(!packed->apply(std::as_const(x).view(), y));
}

TEST_CASE("a fallback is refused unless it is allowed") {
    Linear linear = full_linear(19, 43, 1);
    Format format;
    format.bits = 3;
    format.group = 8;
    linear.weights = *QuantizedMatrix::allocate(format, 19, 43);
    const auto refused = PackedLinear::create(linear, exact_activations(), Fallback::refuse);
    if (refused) {
        CHECK(!refused->kernel().is_fallback());  // a build with a tuned 3-bit kernel
        return;
    }
    CHECK(refused.error().kind == ErrorKind::no_kernel);
    const auto allowed = PackedLinear::create(linear, exact_activations(), Fallback::allow);
    REQUIRE(allowed);
    CHECK(allowed->kernel().is_fallback());
}
