// Laws of how activations are arranged for kernels: no arrangement and no instruction set changes a number.
#include <cmath>
#include <cstring>
#include <limits>

#include "contract/cases.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/matmul/matmul.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using fewbit::testing::Draw;

namespace {

/// Where two packings of the same x differ; empty when nowhere.
std::string difference(const PackedActivations& a, const PackedActivations& b) {
    const auto same = [](float x, float y) {
        return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
    };
    for (std::size_t m = 0; m < a.m(); ++m) {
        for (std::size_t k = 0; k < a.view().stride_elements; ++k)
            if (a.code(m, k) != b.code(m, k))
                return text("code ", m, ", ", k, ": ", a.code(m, k), " and ", b.code(m, k));
        for (std::size_t g = 0; g < a.view().groups; ++g)
            if (!same(a.scale(m, g), b.scale(m, g)) &&
                !(std::isnan(a.scale(m, g)) && std::isnan(b.scale(m, g))))
                return text("scale ", m, ", ", g, ": ", a.scale(m, g), " and ", b.scale(m, g));
        for (std::size_t s = 0; s < a.view().sum_groups; ++s)
            if (a.sum(m, s) != b.sum(m, s))
                return text("sum ", m, ", ", s, ": ", a.sum(m, s), " and ", b.sum(m, s));
        if (!a.zeros().empty() && a.zeros()[m] != b.zeros()[m]) return text("zero ", m);
    }
    return {};
}

Matrix draw_x(std::size_t rows, std::size_t cols, Draw& draw) {
    Matrix x(rows, cols);
    testing::draw_activations(x.view(), draw);
    for (std::size_t i = 0; i < 3 && rows * cols > 0; ++i) {  // what grids stumble over
        constexpr float odd[] = {std::numeric_limits<float>::quiet_NaN(),
                                 std::numeric_limits<float>::infinity(),
                                 -std::numeric_limits<float>::infinity(),
                                 1e-45f,
                                 -3e-44f,
                                 3.4e38f,
                                 -1e-38f,
                                 -0.0f};
        if (draw.below(3) == 0) x(draw.below(rows), draw.below(cols)) = odd[draw.below(8)];
    }
    if (draw.below(8) == 0)
        for (float& value : x.values()) value *= 1e-42f;  // scales that underflow or are coarse
    return x;
}

}  // namespace

TEST_CASE("rows together hold the numbers of rows alone") {
    Draw draw(21);
    for (int i = 0; i < 600; ++i) {
        ActivationFormat format = testing::draw_activation_format(draw);
        const std::size_t rows = draw.below(10), cols = draw.below(140);
        const Matrix x = draw_x(rows, cols, draw);
        std::optional<StaticRange> range;
        if (format.is_static) range = StaticRange{-2, 3};
        const std::size_t sums = draw.below(2) == 0 ? 8 : cols;
        const auto alone = pack_activations(x.view(), format, {sums, 1}, {}, range);
        REQUIRE(alone);
        for (const std::size_t elements : {4, 8}) {
            const auto together = pack_activations(
                x.view(), format, {sums, activation_tile_rows, nullptr, elements}, {}, range);
            REQUIRE(together);
            INFO(name(format) << ", " << rows << " x " << cols << ", runs of " << elements);
            CHECK(difference(*alone, *together) == "");
        }
    }
}

TEST_CASE("every kernel's own quantization is the portable one, bit for bit") {
    for (const KernelInfo& info : kernel_catalog()) {
        if (info.code == nullptr || info.code->quantize == nullptr || !cpu_supports(info.isa)) continue;
        Draw draw(4);
        for (int i = 0; i < 600; ++i) {
            ActivationFormat format = int8_row_activations();
            format.bits = draw.below(2) == 0 ? 8 : 2 + static_cast<int>(draw.below(7));
            static const std::vector<std::size_t> groups{8, 16, 24, 32, 40, 128};
            if (draw.below(3) != 0) {
                format.granularity = Granularity::group;
                format.group = draw.pick(groups);
            }
            const std::size_t rows = 1 + draw.below(9), cols = 1 + draw.below(300);
            const Matrix wide = draw_x(rows, cols + 3, draw);
            MatrixView<const float> x = wide.view();  // rows further apart than they are long
            x.cols = cols;
            const std::size_t group = format.group_elements(cols);
            const std::size_t sums = draw.below(2) == 0 || group % 8 != 0 ? group : 8;
            ActivationArrangement wanted{sums, info.code->rows_together, nullptr,
                                         info.code->elements_together};
            const auto portable = pack_activations(x, format, wanted);
            wanted.quantize = info.code->quantize;
            const auto tuned = pack_activations(x, format, wanted);
            REQUIRE(portable);
            REQUIRE(tuned);
            INFO(info.name << ", " << name(format) << ", " << rows << " x " << cols << ", sums over "
                           << sums);
            CHECK(difference(*portable, *tuned) == "");
        }
    }
}

TEST_CASE("a kernel refuses rows that stand otherwise") {
    const Format format = *parse_format("int4-g32");
    const ActivationFormat activations = int8_group_activations(32);
    const auto kernel = select_kernel({format, activations, 5, 16, 64, Fallback::allow});
    REQUIRE(kernel);
    const auto w = QuantizedMatrix::allocate(format, 16, 64);
    const auto packed = pack(*w, kernel->layout());
    Matrix x(5, 64), y(5, 16);
    const std::size_t rows = kernel->info().code->rows_together,
                      elements = kernel->info().code->elements_together;
    for (const ActivationArrangement& wanted :
         {ActivationArrangement{32, rows == 1 ? activation_tile_rows : 1, nullptr, elements},
          ActivationArrangement{32, rows, nullptr, 12 - elements}}) {
        const auto other = pack_activations(x.view(), activations, wanted);
        const auto refused = matmul(*kernel, *other, *packed, y.view());
        REQUIRE(!refused);
        CHECK(refused.error().message.find("rows of x together") != std::string::npos);
    }
}

TEST_CASE(
    "bf16 for kernels that read f32: the same numbers in 4 bytes, alone and together; other kernels refuse "
    "them") {
    Draw draw(23);
    for (const std::size_t rows : {1, 2, 6, 13})
        for (const std::size_t k : {1, 4, 15, 16, 250, 257, 1031}) {
            const Matrix x = draw_x(rows, k, draw);
            for (const std::size_t together : {1, 6}) {
                const auto packed = pack_activations(x.view(), bf16_activations(),
                                                     {.rows_together = together, .bf16_as_f32 = true});
                REQUIRE(packed);
                INFO(rows << " x " << k << ", " << together << " together");
                const auto* const values = static_cast<const std::byte*>(packed->view().values);
                const std::size_t stride = packed->view().stride_elements;
                std::size_t wrong = 0;
                for (std::size_t m = 0; m < rows; ++m)
                    for (std::size_t i = 0; i < round_up(k, together == 1 ? 4 : 16); ++i) {
                        const std::size_t first = m / together * together;
                        const std::size_t size = std::min(together, rows - first);
                        std::uint32_t bits;
                        std::memcpy(&bits, values + 4 * (first * stride + i * size + (m - first)),
                                    sizeof bits);
                        wrong += bits !=
                                 (i < k ? std::uint32_t{bf16_from_float(x(m, i))} << 16 : std::uint32_t{0});
                    }
                CHECK(wrong == 0);
            }
        }
    const Format format = *parse_format("int4-g32");
    const auto kernel = *select_kernel({format, bf16_activations(), 5, 16, 64, Fallback::allow});
    const auto packed = *pack(*QuantizedMatrix::allocate(format, 16, 64), kernel.layout());
    Matrix x(5, 64), y(5, 16);
    const KernelCode& code = *kernel.info().code;
    const auto other =
        *pack_activations(x.view(), bf16_activations(),
                          {.rows_together = code.rows_together, .bf16_as_f32 = !code.bf16_as_f32});
    const auto refused = matmul(kernel, other, packed, y.view());
    REQUIRE(!refused);
    CHECK(refused.error().message.find("reads bf16 in ") != std::string::npos);
}

TEST_CASE(
    "rows of floats together: words of f32, or of two bf16 that stand two apart, zeros up to a multiple of "
    "16") {
    Draw draw(22);
    for (const ActivationFormat& format : {exact_activations(), bf16_activations()})
        for (const std::size_t rows : {1, 5, 8, 19})
            for (const std::size_t k : {1, 3, 4, 6, 64, 70, 255, 1031}) {
                const Matrix x = draw_x(rows, k, draw);
                const bool bf16 = format.element == ActivationElement::bf16;
                const auto alone = pack_activations(x.view(), format);
                const auto together = pack_activations(x.view(), format, {.rows_together = 8});
                REQUIRE(alone);
                REQUIRE(together);
                INFO(name(format) << " " << rows << " x " << k);
                const auto bits = [&](const PackedActivations& packed, std::size_t at) {
                    std::uint32_t out = 0;
                    const std::size_t size = bf16 ? 2 : 4;
                    std::memcpy(&out, static_cast<const std::byte*>(packed.view().values) + at * size, size);
                    return out;
                };
                std::size_t wrong = 0;
                const std::size_t end_alone = bf16 ? round_up(k, 4) : k;
                for (std::size_t m = 0; m < rows; ++m)
                    for (std::size_t i = 0; i < round_up(k, 16); ++i) {
                        const std::size_t first = m / 8 * 8, size = std::min<std::size_t>(8, rows - first);
                        const std::size_t word = bf16 ? i / 4 * 2 + i % 2 : i, half = bf16 ? i % 4 / 2 : 0;
                        const std::uint32_t expected = i >= k ? 0
                                                       : bf16 ? bf16_from_float(x(m, i))
                                                              : std::bit_cast<std::uint32_t>(x(m, i));
                        if (i < end_alone)
                            wrong += bits(*alone, m * alone->view().stride_elements + i) != expected;
                        wrong += bits(*together, first * together->view().stride_elements +
                                                     (word * size + (m - first)) * (bf16 ? 2 : 1) + half) !=
                                 expected;
                    }
                CHECK(wrong == 0);
            }
}
