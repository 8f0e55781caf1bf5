// The contract: every kernel of the catalogue computes y = x * W^T + bias for every format and every shape
// that it accepts, to within rounding, touches nothing else, and gives the same bits for any number of
// threads.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "contract/cases.hpp"
#include "contract/tolerance.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/matmul/matmul.hpp"
#include "fewbit/matmul/reference.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

/// Runs one case; an empty string when everything held.
std::string run_case(const KernelInfo& info, const Format& format, const ActivationFormat& activations,
                     const Shape& shape, Draw& draw) {
    const Kernel kernel(info, activations, "under test");
    const QuantizedMatrix w = draw_matrix(format, shape.n, shape.k, draw);
    const bool at_start = draw.below(2) == 0;
    GuardedMatrix x(shape.m, shape.k, draw.below(3), at_start);
    draw_activations(x.view, draw);
    if (activations.asymmetric) {
        const float shift = 4.0f * draw.uniform();
        for (std::size_t m = 0; m < shape.m; ++m)
            for (float& value : x.view.row(m)) value += shift;
    }
    std::optional<StaticRange> range;
    if (activations.is_static) range = draw_range(x.view, draw);
    Guarded bias_memory(shape.n * sizeof(float), at_start);
    for (std::size_t n = 0; n < shape.n; ++n) bias_memory.as<float>()[n] = draw.uniform();
    const std::span<const float> bias{bias_memory.as<float>(), draw.below(2) == 0 ? shape.n : 0};

    auto packed = pack(w, kernel.layout(), {}, activations);
    if (!packed) return packed.error().message;
    std::vector<double> magnitudes;
    const std::vector<double> truth = reference::matmul(x.view, w, activations, bias, &magnitudes, range);

    std::vector<std::uint32_t> first_bits;
    for (const std::size_t lanes : {1, 3}) {
        static ThreadPool pool(3);
        GuardedMatrix y(shape.m, shape.n, draw.below(3), at_start);
        const ExecutionContext context = lanes == 1 ? ExecutionContext{} : ExecutionContext{pool};
        auto report = matmul(kernel, x.view, *packed, y.view, bias, context, range);
        if (!report) return report.error().message;
        if (report->kernel != info.name && info.code->hands_to == nullptr)
            return text("the report names ", report->kernel);
        std::vector<std::uint32_t> bits;
        for (std::size_t m = 0; m < shape.m; ++m)
            for (std::size_t n = 0; n < shape.n; ++n) {
                const double value = static_cast<double>(y.view(m, n)), expected = truth[m * shape.n + n];
                const double allowed =
                    tolerance(info.isa, format, activations, shape.k, magnitudes[m * shape.n + n]);
                if (!(std::fabs(value - expected) <= allowed))
                    return text("y[", m, "][", n, "] = ", value, ", expected ", expected, " +- ", allowed,
                                " (", lanes, " lanes)");
                bits.push_back(std::bit_cast<std::uint32_t>(y.view(m, n)));
            }
        for (std::size_t m = 0; m + 1 < shape.m; ++m)
            for (std::size_t gap = shape.n; gap < y.view.stride_elements; ++gap)
                if (!std::isnan(y.view.data[m * y.view.stride_elements + gap]))
                    return text("wrote between rows ", m, " and ", m + 1, " of y");
        if (first_bits.empty())
            first_bits = bits;
        else if (bits != first_bits)
            return "3 lanes gave other bits than 1";
    }
    return {};
}

/// All cases, or one in four by FEWBIT_CONTRACT_SAMPLE, which is a seed.
class Sample {
public:
    Sample() {
        const char* seed = std::getenv("FEWBIT_CONTRACT_SAMPLE");
        drawn_ = seed != nullptr && *seed != '\0';
        if (drawn_) seed_ = std::strtoull(seed, nullptr, 10);
    }
    [[nodiscard]] bool is_drawn() const { return drawn_; }
    [[nodiscard]] std::uint64_t seed() const { return seed_; }
    /// Whether to leave a case out.
    [[nodiscard]] bool skips(Draw& draw) const { return drawn_ && draw.below(4) != 0; }

private:
    bool drawn_ = false;
    std::uint64_t seed_ = 0;
};

}  // namespace

TEST_CASE("every kernel is right on every format and shape that it accepts") {
    const Sample sample;
    const std::size_t repeats = sample.is_drawn() ? 1 : 5;  // fuzz_matmul meets many more
    const auto formats = contract_formats();
    const auto activations = contract_activations();

    for (const KernelInfo& info : kernel_catalog()) {
        std::size_t run = 0, number = 0;
        std::map<std::string, std::size_t> skipped;
        const auto run_one = [&](const Format& format, const ActivationFormat& x, Draw& draw) {
            Shape shape = draw_shape(draw);
            if (format.is_block())  // whose rows are whole blocks
                shape.k = round_up(shape.k, ggml::traits(format.block).elements);
            const MatmulQuery query{format, x, shape.m, shape.n, shape.k, Fallback::allow};
            if (auto why = refusal(info, query); !why.empty()) {
                ++skipped[why];
                return;
            }
            const std::string failure = run_case(info, format, x, shape, draw);
            ++run;
            if (!failure.empty())
                FAIL(info.name << ", weights " << name(format) << ", activations " << name(x) << ", m "
                               << shape.m << ", n " << shape.n << ", k " << shape.k << ": " << failure);
        };
        for (const Format& format : formats) {
            for (const ActivationFormat& x : activations) {
                ++number;
                if (format.is_float() && x.element == ActivationElement::int8) continue;  // no such product
                if (x.element != info.activations) continue;
                // There are few float formats and types of blocks: each meets as many shapes as all groupings
                // of an integer format do.
                const std::size_t shapes = (format.is_float() ? 100 : format.is_block() ? 10 : 1) * repeats;
                for (std::size_t i = 0; i < shapes; ++i) {
                    Draw draw(sample.seed() * 1000003 + number * 1009 + i);
                    if (sample.skips(draw)) continue;
                    run_one(format, x, draw);
                }
            }
            // Fewer bits, zero points, grids of tensors and static ranges do not reach the kernels: a sample.
            if (format.is_float() || info.activations != ActivationElement::int8) continue;
            for (std::size_t i = 0; i < (repeats + 1) / 2; ++i) {
                Draw draw(sample.seed() * 1000003 + number * 1009 + 500 + i);
                if (sample.skips(draw)) continue;
                const ActivationFormat x = draw_activation_format(draw);
                run_one(format, x, draw);
            }
        }
        std::printf("%-26s %6zu cases%s\n", std::string(info.name).c_str(), run,
                    sample.is_drawn() ? " (sample)" : "");
        for (const auto& [why, count] : skipped)
            std::printf("    passed over %6zu: %s\n", count, why.c_str());
        const bool runnable = info.code != nullptr && cpu_supports(info.isa);
        INFO(info.name);
        CHECK((run > 0 || !runnable));
    }
}

TEST_CASE("large products: several panels, tiles side by side, long groups, K at the bound of int32 sums") {
    const Sample sample;
    Draw draw(77), picks(sample.seed());
    for (const KernelInfo& info : kernel_catalog())
        for (const char* weights :
             {"int4-g128", "int4-channel-asym", "int8-channel", "int8-channel-asym", "int8-tensor-fzero",
              "int3-channel", "f32", "q4_k", "iq4_xs", "q8_0", "nf4-g64-dq", "e2m1-channel", "mxfp8",
              "fp8-e5m2-tensor", "mxfp4", "q1_0"})
            for (const char* x : {"f32", "bf16", "int8-row", "int8-g32", "int8-g256", "int8-tensor-asym"}) {
                const Format format = *parse_format(weights);
                const ActivationFormat activations = *parse_activation_format(x);
                if (activations.asymmetric && format.granularity == Granularity::group) continue;  // time
                // One row over 12 and over 24 tiles of channels, the last one short: runs of tiles side by side.
                for (const Shape shape :
                     {Shape{70, 100, 4096}, Shape{2, 17, max_int32_products}, Shape{1, 185, 512},
                      Shape{1, 377, 512}, Shape{1, 16, max_int32_products + 8}, Shape{3, 9, 70001}}) {
                    if (!refusal(info, {format, activations, shape.m, shape.n, shape.k, Fallback::allow})
                             .empty() ||
                        sample.skips(picks))
                        continue;
                    INFO(info.name << " " << weights << " " << x << " " << shape.m << " " << shape.n << " "
                                   << shape.k);
                    CHECK(run_case(info, format, activations, shape, draw) == "");
                }
            }
}

TEST_CASE("the worst sums are exact: extreme codes against extreme activations") {
    // All codes at one end, all activations at +-127: int16 and int32 accumulators are at their bounds.
    for (const KernelInfo& info : kernel_catalog()) {
        if (info.activations != ActivationElement::int8) continue;
        for (const int bits : {2, 4, 8})
            for (const int code : {0, (1 << bits) - 1})
                for (const float sign : {1.0f, -1.0f}) {
                    Format format;
                    format.bits = bits;
                    format.granularity = Granularity::channel;
                    format.scale = Scalar::f32;
                    format.offset = Offset::integer;
                    const std::size_t k = max_int32_products, n = 17;
                    if (!refusal(info, {format, int8_row_activations(), 1, n, k, Fallback::allow}).empty())
                        continue;
                    auto w = QuantizedMatrix::allocate(format, n, k);
                    const std::vector<std::uint8_t> row(k, static_cast<std::uint8_t>(code));
                    const std::uint8_t zero = static_cast<std::uint8_t>(code == 0 ? (1 << bits) - 1 : 0);
                    for (std::size_t r = 0; r < n; ++r) {
                        w->codes.pack_row(r, row);
                        w->zeros.pack_row(r, {&zero, 1});
                        w->set_scale(r, 0, 1.0f);
                    }
                    const Kernel kernel(info, int8_row_activations(), "under test");
                    const auto packed = pack(*w, kernel.layout());
                    const double exact =
                        static_cast<double>(sign) * 127.0 * (code - zero) * static_cast<double>(k);
                    for (const std::size_t m : {1, 5, 18}) {  // few, some and many rows run differently
                        Matrix x(m, k), y(m, n);
                        for (float& value : x.values()) value = sign * 127.0f;
                        REQUIRE(matmul(kernel, x.view(), *packed, y.view()).has_value());
                        INFO(info.name << ", " << bits << " bits, code " << code << ", sign " << sign << ", "
                                       << m << " rows");
                        for (const float value : y.values())
                            CHECK(std::fabs(static_cast<double>(value) - exact) <=
                                  6 * 0x1p-24 * 64 * std::fabs(exact));
                    }
                }
    }
}

TEST_CASE("activations that are not finite make exactly their rows NaN") {
    Draw draw(5);
    for (const KernelInfo& info : kernel_catalog()) {
        const Format format = *parse_format(info.bits == float_weights            ? "f32"
                                            : info.bits == block_weights          ? "q4_1"
                                            : (info.bits & codebook_weights) != 0 ? "nf4-g32"
                                                                                  : "int4-g32");
        const ActivationFormat activations = info.activations == ActivationElement::int8
                                                 ? int8_group_activations(32)
                                                 : ActivationFormat{info.activations};
        const MatmulQuery query{format, activations, 40, 20, 96, Fallback::allow};
        if (!refusal(info, query).empty()) continue;
        QuantizedMatrix w = *QuantizedMatrix::allocate(format, 20, 96);
        w = draw_matrix(format, 20, 96, draw);
        for (const auto& [bad, rows] :  // few rows and many run differently
             {std::pair{std::numeric_limits<float>::quiet_NaN(), 5},
              {std::numeric_limits<float>::infinity(), 5},
              {std::numeric_limits<float>::quiet_NaN(), 40},
              {std::numeric_limits<float>::infinity(), 40}}) {
            const auto count = static_cast<std::size_t>(rows);
            Matrix x(count, 96), y(count, 20);
            draw_activations(x.view(), draw);
            x(2, 50) = bad;
            const Kernel kernel(info, activations, "under test");
            const auto packed = pack(w, kernel.layout());
            REQUIRE(matmul(kernel, x.view(), *packed, y.view()).has_value());
            INFO(info.name << ", " << rows << " rows");
            for (std::size_t m = 0; m < count; ++m)
                for (std::size_t n = 0; n < 20; ++n) CHECK((std::isfinite(y(m, n)) || m == 2));
            if (std::isnan(bad))
                for (std::size_t n = 0; n < 20; ++n) CHECK(std::isnan(y(2, n)));
        }
    }
}

TEST_CASE("fp8 codes of infinity and NaN reach their channel, and no other") {
    for (const KernelInfo& info : kernel_catalog())
        for (const char* name : {"fp8-e4m3-g32", "fp8-e5m2-g32"}) {
            const Format format = *parse_format(name);
            constexpr std::size_t n = 20, k = 70;
            if (!refusal(info, {format, exact_activations(), 1, n, k, Fallback::allow}).empty()) continue;
            for (std::size_t code = 0; code < 256; ++code) {
                const float value = format.codebook()[code];
                auto w = QuantizedMatrix::allocate(format, n, k);
                std::vector<std::uint8_t> row(k);
                row[45] = static_cast<std::uint8_t>(code);
                w->codes.pack_row(17, row);
                for (std::size_t r = 0; r < n; ++r)
                    for (std::size_t g = 0; g < 3; ++g) w->set_scale(r, g, 1.0f);
                for (const std::size_t m : {1, 3}) {
                    Matrix x(m, k), y(m, n);
                    for (float& element : x.values()) element = 1.0f;
                    const Kernel kernel(info, exact_activations(), "under test");
                    REQUIRE(matmul(kernel, x.view(), *pack(*w, kernel.layout()), y.view()).has_value());
                    INFO(info.name << " " << name << " code " << code);
                    std::size_t wrong = 0;
                    for (std::size_t i = 0; i < m; ++i)
                        for (std::size_t c = 0; c < n; ++c)
                            wrong += c != 17             ? y(i, c) != 0.0f
                                     : std::isnan(value) ? !std::isnan(y(i, c))
                                                         : y(i, c) != value;
                    CHECK(wrong == 0);
                }
            }
        }
}
