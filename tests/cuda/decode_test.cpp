// The decode kernel of CUDA, run on the host lane by lane, against sums in double precision over what the format says.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <tuple>
#include <vector>

#include "cuda/host_warp.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/pack/mma16.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

struct Case {
    Format format;
    Half type = Half::f16;
    std::size_t m = 1, n = 16, k = 64;
    unsigned blocks = 1;
    std::uint64_t seed = 1;
};

/// Everything that a launch needs, on the host.
struct Launch {
    Mma16Matrix w;
    std::vector<std::uint16_t> x;
    std::vector<float> bias, y, parts;
    std::vector<std::uint32_t> counters;
    decoding::Call call{};

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
        const bool batch = c.m > 16;
        const std::size_t tiles = batch ? ceil_div(w.tiles, std::size_t{decoding::tiles_per_block}) : w.tiles;
        const std::size_t chunks = batch ? decoding::chunks_per_unit : decoding::warps_per_block;
        const std::size_t units = std::max<std::size_t>(1, ceil_div(w.chunks, chunks));
        const mma16::Partition partition{
            static_cast<std::uint32_t>(tiles), static_cast<std::uint32_t>(units),
            static_cast<std::uint32_t>(std::min<std::size_t>(c.blocks, tiles * units))};
        const std::size_t part = batch ? decoding::batch_part_floats<8> : decoding::part_floats<2>;
        parts.assign(2 * partition.blocks * part, std::numeric_limits<float>::quiet_NaN());
        counters.assign(w.tiles, 0);
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
                              partition,
                              number(w.scales.type()),
                              decoding::Number::f32,
                              {}};
        const auto table = w.format.codebook();
        for (std::size_t i = 0; i < table.size(); ++i)
            call.table[i] = c.type == Half::f16 ? f16_from_float(table[i]) : bf16_from_float(table[i]);
    }

    template <mma16::Codes Kind, Half Type, decoding::Zero Offset, unsigned TokenTiles>
    void run_as(const std::vector<unsigned>& order) {
        for (const unsigned b : order) {
            HostBlock block(b, decoding::shared_words<Kind, TokenTiles>);
            decoding::decode<Kind, Type, Offset, TokenTiles>(call, block);
        }
    }
    template <mma16::Codes Kind, Half Type, decoding::Zero Offset>
    void run_as(const std::vector<unsigned>& order) {
        if (call.m <= 8) return run_as<Kind, Type, Offset, 1>(order);
        if (call.m <= 16) return run_as<Kind, Type, Offset, 2>(order);
        for (const unsigned b : order) {
            HostBlock block(b, decoding::batch_shared_words<Kind>);
            decoding::batch<Kind, Type, Offset, 8>(call, block);
        }
    }
    template <mma16::Codes Kind, Half Type>
    void run_as(const std::vector<unsigned>& order) {
        using decoding::Zero;
        if constexpr (Kind != mma16::Codes::table4) {
            if (w.format.offset == Offset::integer) return run_as<Kind, Type, Zero::integer>(order);
            if (w.format.offset == Offset::real) return run_as<Kind, Type, Zero::real>(order);
        }
        run_as<Kind, Type, Zero::middle>(order);
    }
    template <mma16::Codes Kind>
    void run_as(Half type, const std::vector<unsigned>& order) {
        return type == Half::f16 ? run_as<Kind, Half::f16>(order) : run_as<Kind, Half::bf16>(order);
    }
    void run(Half type, const std::vector<unsigned>& order) {
        switch (w.kind()) {
            case mma16::Codes::int4: return run_as<mma16::Codes::int4>(type, order);
            case mma16::Codes::int8: return run_as<mma16::Codes::int8>(type, order);
            case mma16::Codes::table4: return run_as<mma16::Codes::table4>(type, order);
        }
    }
};

void check(const Case& c) {
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
    launch.run(c.type, order);
    const std::vector<float> first = launch.y;

    // Blocks end in any order: the same bits, and counters at rest.
    std::mt19937 shuffled(static_cast<unsigned>(c.seed));
    for (int round = 0; round < 2; ++round) {
        std::shuffle(order.begin(), order.end(), shuffled);
        std::fill(launch.y.begin(), launch.y.end(), Launch::untouched);
        std::fill(launch.parts.begin(), launch.parts.end(), std::numeric_limits<float>::quiet_NaN());
        launch.run(c.type, order);
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

}  // namespace

TEST_CASE("cuda decode: right for every format, shape and number of blocks", "[cuda]") {
    std::uint64_t seed = 1;
    for (const char* format : {"int4-g128",
                               "int4-g32",
                               "int4-g96",
                               "int4-g64-sbf16",
                               "int4-g128-asym",
                               "int4-g32-fzero",
                               "int4-channel",
                               "int4-tensor-asym",
                               "int8-g128",
                               "int8-g32-asym",
                               "int8-channel",
                               "int8-g64-fzero-sbf16",
                               "int8-channel-narrow",
                               "int4-g128-narrow",
                               "int8-tensor",
                               "nf4-g64",
                               "nf4-channel",
                               "iq4-g32-sbf16",
                               "e2m1-g32-se8m0",
                               "int4-g64-dq",
                               "nf4-g64-dq",
                               "q4_0",
                               "q4_1",
                               "q8_0",
                               "iq4_nl",
                               "mxfp4"})
        for (const Half type : {Half::f16, Half::bf16})
            for (const auto& [m, n, k, blocks] :
                 {std::tuple<std::size_t, std::size_t, std::size_t, unsigned>{1, 16, 64, 1},
                  {1, 1, 1, 1},
                  {3, 17, 100, 2},
                  {8, 40, 1100, 5},
                  {2, 17, 0, 3},
                  {17, 50, 300, 2},
                  {32, 300, 1500, 5},
                  {64, 16, 1060, 9},
                  {20, 270, 0, 2},
                  {9, 33, 513, 3},
                  {16, 48, 2048, 7},
                  {5, 70, 700, 1000}})
                check({*parse_format(format), type, m, n, k, blocks, ++seed});
}

TEST_CASE("cuda decode: formats that the order does not hold say why", "[cuda]") {
    for (const auto& [format, why] : {std::pair<const char*, const char*>{"int3-g64", "4 and 8 bits"},
                                      {"int4-g16", "multiple of 32"},
                                      {"int4-g48", "multiple of 32"},
                                      {"fp8-e4m3-channel", "tables of 16"},
                                      {"q4_k", "two levels"},
                                      {"f16", "tables of 16"},
                                      {"q5_0", "4 and 8 bits"}}) {
        const auto packed = pack_mma16(*QuantizedMatrix::allocate(*parse_format(format), 16, 256));
        REQUIRE_FALSE(packed);
        INFO(packed.error().message);
        CHECK(packed.error().message.find(why) != std::string::npos);
        CHECK(packed.error().message.find(format) != std::string::npos);
    }
}

TEST_CASE("cuda decode: packing adds at most 3 % to the bytes read", "[cuda]") {
    for (const char* name_of :
         {"int4-g128", "int4-g32", "int4-g128-asym", "int8-channel", "int8-g128", "int4-g64-fzero"}) {
        const Format format = *parse_format(name_of);
        const auto packed = pack_mma16(*QuantizedMatrix::allocate(format, 4096, 4096));
        REQUIRE(packed);
        INFO(name_of << ": " << packed->size_bytes());
        CHECK(static_cast<double>(packed->size_bytes()) <= 1.03 * total_bits(format, 4096, 4096) / 8);
    }
}

TEST_CASE("cuda decode: lanes of a store stand in different banks, blocks fit", "[cuda]") {
    for (unsigned i = 0; i < 4; ++i) {
        std::vector<unsigned> banks(32);
        for (unsigned lane = 0; lane < 32; ++lane) {
            const mma16::Element at = mma16::element_of_c(lane, i);
            ++banks[(at.column * decoding::token_stride + at.row) % 32];
        }
        CHECK(std::ranges::max(banks) == 1);
    }
    // Static memory, as much as every device has.
    CHECK(decoding::shared_words<mma16::Codes::table4, 2> * sizeof(float) + 4 <= 48 * 1024);
}
