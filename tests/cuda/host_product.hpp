// A product of CUDA on the host: what a launch needs, the kernel that the rows of x ask for, run lane by lane, and sums in double
// precision over what the format says.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/host_launch.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/pack/mma16.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace fewbit::testing {

/// One product: its shape, and how many blocks the device holds at once.
struct Case {
    Format format;
    Half type = Half::f16;
    std::size_t m = 1, n = 16, k = 64;
    unsigned blocks = 1;
    std::uint64_t seed = 1;
    bool wgmma = false;  ///< prompt_wgmma.hpp, for any number of rows
};

/// Everything that a launch needs, on the host.
struct Launch {
    Mma16Matrix w;
    std::vector<std::uint16_t> x, arranged;
    std::vector<float> bias, y, parts;
    std::vector<std::uint32_t> counters;
    decoding::Call call{};
    bool wgmma = false;

    static constexpr float untouched = -12345.0f;

    Launch(const Case& c, const QuantizedMatrix& matrix, const Matrix& values) : w(*pack_mma16(matrix)) {
        const std::size_t stride = w.padded_k() + 8;
        x.assign(c.m * stride, 0);
        for (std::size_t t = 0; t < c.m; ++t)
            for (std::size_t i = 0; i < c.k; ++i)
                x[t * stride + i] =
                    c.type == Half::f16 ? f16_from_float(values(t, i)) : bf16_from_float(values(t, i));
        for (std::size_t i = 0; i < c.n; ++i) bias.push_back(0.25f * static_cast<float>(i % 7));
        y.assign(c.m * (c.n + 3), untouched);
        const auto number = [](Scalar type) {
            return type == Scalar::f32    ? decoding::Number::f32
                   : type == Scalar::f16  ? decoding::Number::f16
                   : type == Scalar::bf16 ? decoding::Number::bf16
                                          : decoding::Number::e8m0;
        };
        const cuda::Plan plan =
            cuda::plan_as(c.wgmma ? cuda::Way::prompt : cuda::way_of(c.m), w.tiles, w.chunks, c.m, c.blocks);
        parts.assign(plan.part_floats, std::numeric_limits<float>::quiet_NaN());
        counters.assign(plan.counters(), 0);
        call = decoding::Call{w.codes.bytes().data(),
                              w.scales.bytes().data(),
                              w.offsets.elements() == 0 ? nullptr : w.offsets.bytes().data(),
                              x.data(),
                              bias.data(),
                              y.data(),
                              parts.data(),
                              counters.data(),
                              stride,
                              c.n + 3,
                              static_cast<std::uint32_t>(c.m),
                              static_cast<std::uint32_t>(c.n),
                              static_cast<std::uint32_t>(w.chunks),
                              static_cast<std::uint32_t>(w.groups),
                              mma16::Divisor::of(static_cast<std::uint32_t>(w.halves_per_group)),
                              plan.partition,
                              number(w.scales.type()),
                              decoding::Number::f32,
                              {},
                              nullptr,
                              nullptr,
                              decoding::Zero::middle};
        wgmma = c.wgmma;
        if (wgmma) arrange(c);
        const auto table = w.format.codebook();
        for (std::size_t i = 0; w.kind() == mma16::Codes::table4 && i < table.size(); ++i)
            call.table[i] = c.type == Half::f16 ? f16_from_float(table[i]) : bf16_from_float(table[i]);
    }

    /// x as prompt_wgmma.hpp wants it, from rows that have no padding.
    void arrange(const Case& c) {
        std::vector<std::uint16_t> rows(c.m * c.k);
        for (std::size_t t = 0; t < c.m; ++t)
            std::copy_n(x.data() + t * call.x_stride, c.k, rows.data() + t * c.k);
        arranged.assign(decoding::arranged_elements(c.m, w.padded_k()), 0x7E00);  // NaN
        const decoding::ArrangeCall how{rows.data(),
                                        arranged.data(),
                                        c.k,
                                        static_cast<std::uint32_t>(c.m),
                                        static_cast<std::uint32_t>(c.k),
                                        static_cast<std::uint32_t>(w.padded_k() / mma16::half_inputs)};
        for (unsigned b = 0; b < ceil_div(how.threads(), std::uint64_t{decoding::threads_per_block}); ++b)
            decoding::arrange_rows(how, HostBlock(b, 1));
        call.x = arranged.data();
    }

    /// Blocks one after another; how often they would have needed a barrier that is not there.
    unsigned run(Half type, const std::vector<unsigned>& order) {
        const auto zero = w.format.offset == Offset::integer ? decoding::Zero::integer
                          : w.format.offset == Offset::real  ? decoding::Zero::real
                                                             : decoding::Zero::middle;
        unsigned hazards = 0;
        decoding::with_kind(w.kind(), type, zero, [&]<mma16::Codes Kind, Half Type, decoding::Zero Offset>() {
            for (const unsigned b : order)
                hazards += wgmma ? run_wgmma_block<Kind, Type, Offset>(call, b)
                                 : run_block<Kind, Type, Offset>(call, cuda::way_of(call.m), b);
        });
        return hazards;
    }
};

inline void check_product(const Case& c) {
    if (!validate_columns(c.format, c.k)) return;  // blocks that a row cannot be made of
    INFO(name(c.format) << ", x " << (c.type == Half::f16 ? "f16" : "bf16") << ", " << c.m << " x " << c.n
                        << " x " << c.k << ", " << c.blocks << " blocks, seed " << c.seed);
    const Matrix values = gaussian_matrix(c.n, c.k, c.seed), x = gaussian_matrix(c.m, c.k, c.seed + 1000);
    const auto quantized = quantize_rtn(values.view(), c.format);
    REQUIRE(quantized);
    const QuantizedMatrix& w = quantized->linear.weights;
    Launch launch(c, w, x);
    std::vector<unsigned> order(launch.call.partition.blocks);
    std::iota(order.begin(), order.end(), 0u);
    CHECK(launch.run(c.type, order) == 0);
    const std::vector<float> first = launch.y;

    // Blocks end in any order: the same bits, and counters at rest.
    std::mt19937 shuffled(static_cast<unsigned>(c.seed));
    for (int round = 0; round < 2; ++round) {
        std::shuffle(order.begin(), order.end(), shuffled);
        std::fill(launch.y.begin(), launch.y.end(), Launch::untouched);
        std::fill(launch.parts.begin(), launch.parts.end(), std::numeric_limits<float>::quiet_NaN());
        CHECK(launch.run(c.type, order) == 0);
        CHECK(std::memcmp(first.data(), launch.y.data(), first.size() * sizeof(float)) == 0);
        CHECK(std::ranges::all_of(launch.counters, [](std::uint32_t count) { return count == 0; }));
    }

    // f32 sums of exact products: each of the K / 16 sums of the tensor core, of the groups and of the warps and
    // parts rounds what is at most the sum of all magnitudes.
    // nf4's numbers are rounded to the type of x; those of the other tables are exact.
    const double rounded_table = c.format.element != Element::nf4 ? 0
                                 : c.type == Half::f16            ? 0x1p-11
                                                                  : 0x1p-8;
    std::vector<std::uint8_t> codes(c.k);
    double worst = 0;
    std::size_t wrong = 0;
    for (std::size_t r = 0; r < c.n; ++r) {
        w.unpack(r, 0, codes);
        for (std::size_t t = 0; t < c.m; ++t) {
            double exact = static_cast<double>(launch.bias[r]), magnitude = std::fabs(exact);
            for (std::size_t i = 0; i < c.k; ++i) {
                const std::size_t g = i / w.group_elements();
                const auto value =
                    static_cast<double>(half_value(c.type, launch.x[t * launch.call.x_stride + i]));
                const auto scale = static_cast<double>(w.scale(r, g)),
                           offset = static_cast<double>(w.offset(r, g));
                const auto level = static_cast<double>(w.level(r, g, codes[i]));
                exact += (scale * level + offset) * value;
                magnitude += (std::fabs(scale * level) + std::fabs(offset)) * std::fabs(value);
            }
            const double roundings =
                static_cast<double>(c.k) / 16 + 2 * static_cast<double>(launch.w.groups) + 20;
            const double error = std::fabs(static_cast<double>(first[t * launch.call.y_stride + r]) - exact);
            worst = std::max(worst, error / magnitude);
            wrong += !(error <= (roundings * 0x1p-24 + rounded_table) * magnitude);
        }
    }
    INFO("worst error " << worst << " of the magnitudes");
    CHECK(wrong == 0);
    for (std::size_t t = 0; t < c.m; ++t)
        for (std::size_t i = c.n; i < launch.call.y_stride; ++i)
            CHECK(first[t * launch.call.y_stride + i] == Launch::untouched);
}

}  // namespace fewbit::testing
