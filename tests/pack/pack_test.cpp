// Laws of packing: every code of the canonical matrix stands in the packed one exactly where layout.hpp's
// drawing says, everything else is padding, and packing adds at most 3 % to the bytes that a product reads.
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "contract/cases.hpp"
#include "fewbit/pack/packed_activations.hpp"
#include "fewbit/pack/packed_matrix.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

/// The code of channel c and element i of a step, read off the drawings of layout.hpp and tile16_codes.hpp.
int code_of_step(const std::uint8_t* step, int field, std::size_t c, std::size_t i) {
    const std::size_t q = i / 4, j = i % 4;
    const auto nibble = [&](std::size_t at, std::size_t half) {
        return step[at + 4 * c + j] >> 4 * half & 15;
    };
    if (field == 8) return step[4 * c + j];
    if (field == 4) return nibble(0, q);
    const std::size_t place = q == 0 ? 0 : q == 1 ? 2 : q == 2 ? 1 : 3;  // of fours, two bits each
    int code = 0, bits = 0;
    std::size_t at = 0;
    if (field > 4) {
        code = nibble(q / 2 * 64, q % 2);
        bits = 4;
        at = 128;
    }
    if (field != 5) {
        code |= (step[at + 4 * c + j] >> 2 * place & 3) << bits;
        bits += 2;
        at += 64;
    }
    if (field % 2 != 0) {
        const std::size_t bit = q % 2 * 4 + j / 2 * 2 + q / 2;
        code |= (step[at + 2 * c + j % 2] >> bit & 1) << bits;
    }
    return code;
}

}  // namespace

TEST_CASE("tile16 holds every code, scale, zero and offset where its drawing says") {
    Draw draw(11);
    for (const Format& given : contract_formats()) {
        const Format format = tile16_format(given);  // of blocks: the codes with the same values
        const auto table = format.codebook();
        for (const auto& [n, some] : std::vector<std::pair<std::size_t, std::size_t>>{
                 {1, 1}, {16, 64}, {17, 100}, {33, 257}, {5, 7}, {48, 128}}) {
            const std::size_t k =
                given.is_block() ? round_up(some, ggml::traits(given.block).elements) : some;
            if (!layout_refuses(Layout::tile16, format, {}, k).empty()) continue;
            const QuantizedMatrix w = draw_matrix(given, n, k, draw);
            const auto packed = pack(w, Layout::tile16);
            REQUIRE(packed);
            const WeightsView view = packed->view();
            INFO(name(given) << " " << n << " x " << k);
            const std::size_t group = std::min(format.group_elements(k), k);
            const bool planed = format.bits % 4 != 0 && format.bits != 7 && (group == k || group % 16 == 0);
            const int field = planed ? format.bits : format.bits <= 4 ? 4 : 8;
            const std::size_t step = planed ? 16 : field == 4 ? 8 : 4;
            const std::size_t step_bytes = step * 2 * static_cast<std::size_t>(field);
            // Of ggml's types with scales of two levels: groups of a super-block.
            const std::size_t super =
                !given.is_block() ||
                        std::string("q2_k q3_k q4_k q5_k q6_k iq4_xs").find(name(given)) == std::string::npos
                    ? 0
                    : 256 / group;
            const std::size_t scale_bytes = super != 0 ? 1 : size_bytes(format.scale);
            std::size_t parameters = 0;
            if (format.granularity != Granularity::tensor)
                parameters = 16 * scale_bytes * (format.offset == Offset::real ? 2 : 1) +
                             (format.offset == Offset::integer ? (format.bits <= 4 ? 8u : 16u) : 0u);
            const std::size_t group_bytes = parameters + ceil_div(group, step) * step_bytes;
            const std::size_t before_groups = super != 0 ? 2 * parameters : 0;
            bool right = true;
            for (std::size_t r = 0; r < n; ++r)
                for (std::size_t c = 0; c < k; ++c) {
                    const std::size_t g = c / group, lane = r % 16, in_group = c % group;
                    const std::uint8_t* const whole =
                        view.codes + r / 16 * view.codes_stride_bytes +
                        (super == 0 ? 0 : g / super * (before_groups + super * group_bytes));
                    const std::uint8_t* const start =
                        whole + before_groups + (super == 0 ? g : g % super) * group_bytes;
                    // The number of type `scale` that stands `before` places of 16 behind the first of the group.
                    const auto parameter = [&](std::size_t before) {
                        const std::size_t at = 16 * before + lane;
                        const auto* const bytes = reinterpret_cast<const std::byte*>(
                            super != 0 ? whole + 2 * at : start + scale_bytes * at);
                        const auto value =
                            static_cast<double>(load_float(super != 0 ? Scalar::f16 : format.scale, bytes));
                        return super != 0 ? value * static_cast<std::int8_t>(start[at]) : value;
                    };
                    const int stored = code_of_step(start + parameters + in_group / step * step_bytes, field,
                                                    lane, in_group % step);
                    std::uint8_t code = 0;
                    w.unpack(r, c, {&code, 1});
                    if (!given.is_block()) right = right && stored == code;
                    if (parameters == 0) continue;
                    const double scale = parameter(0);
                    // Blocks may have another scale with another table: what counts is the product.
                    const double level = table.empty()
                                             ? stored - (given.is_block() ? view.middle_code : w.zero(r, g))
                                             : static_cast<double>(table[static_cast<std::size_t>(stored)]);
                    const double expected =
                        static_cast<double>(w.scale(r, g)) * static_cast<double>(w.level(r, g, code));
                    right = right && scale * level == expected;
                    if (!given.is_block()) right = right && scale == static_cast<double>(w.scale(r, g));
                    const std::uint8_t* second = start + 16 * scale_bytes;
                    if (format.offset == Offset::real)
                        right = right && parameter(1) == static_cast<double>(w.offset(r, g));
                    if (format.offset == Offset::integer)
                        right = right && (format.bits <= 4 ? second[lane / 2] >> (4 * (lane % 2)) & 15
                                                           : second[lane]) == w.zero(r, g);
                }
            CHECK(right);
            if (field ==
                8) {  // int8 kernels multiply what stands beyond K by zeros, and |-128| would be a surprise
                bool zero = true;
                const std::size_t last = (k - 1) / group, filled = (k - last * group) % 4;
                const std::uint8_t* step_at =
                    view.codes + last * group_bytes + parameters + (k - last * group) / 4 * 64;
                for (std::size_t j = filled; filled != 0 && j < 4; ++j) zero = zero && step_at[j] == 0;
                CHECK(zero);
            }
        }
    }
}

TEST_CASE("packing adds at most 3 % to the bytes read") {
    for (const char* word : {"int4-g32",       "int4-g64",       "int4-g128",    "int4-g32-asym",
                             "int4-g128-asym", "int4-g32-fzero", "int4-channel", "int4-tensor",
                             "int8-g32",       "int8-g32-asym",  "int8-channel", "int8-channel-asym",
                             "int8-tensor",    "int4-g32-sbf16", "nf4-g64",      "nf4-g64-dq",
                             "int4-g128-dq",   "e2m1-g32-se8m0", "mxfp8",        "fp8-e4m3",
                             "int2-g64",       "int2-channel",   "int3-g128",    "int3-g16-fzero",
                             "int3-g128-asym", "int5-g32-asym",  "int5-channel", "int6-g16",
                             "int6-tensor",    "q4_0",           "q8_0",         "q5_0",
                             "q5_1",           "iq4_nl",         "mxfp4",        "tq2_0",
                             "q4_k",           "q5_k",           "iq4_xs"})
        for (const std::size_t n : {64, 4096}) {
            const Format format = *parse_format(word);
            const auto w = QuantizedMatrix::allocate(format, n, 4096);
            REQUIRE(w);
            const auto packed = pack(*w, Layout::tile16);
            REQUIRE(packed);
            INFO(word << " n " << n << ": " << packed->size_bytes() << " packed, " << w->size_bytes()
                      << " canonical");
            CHECK(static_cast<double>(packed->size_bytes()) <= 1.03 * static_cast<double>(w->size_bytes()));
        }
}

TEST_CASE("super-blocks with scales of 4 and 6 bits grow by what makes them bytes") {
    // Bits for 16 weights: scales (and minima) of 4 or 6 bits become 8.
    for (const auto& [word, more] : std::vector<std::pair<const char*, double>>{
             {"q2_k", 8.0}, {"q3_k", 2.0}, {"q4_k", 2.0}, {"q5_k", 2.0}, {"q6_k", 0.0}, {"iq4_xs", 1.0}}) {
        const auto w = QuantizedMatrix::allocate(*parse_format(word), 64, 4096);
        const double weights = 64 * 4096,
                     packed = static_cast<double>(pack(*w, Layout::tile16)->size_bytes());
        INFO(word);
        CHECK(packed == static_cast<double>(w->size_bytes()) + weights / 16 * more / 8);
    }
}

TEST_CASE("codes of 7 bits, and groups that cut planes, take the room of the next field, no more") {
    for (const auto& [word, field] :
         std::vector<std::pair<const char*, const char*>>{{"int2-g8", "int4-g8"},
                                                          {"int3-g24-asym", "int4-g24-asym"},
                                                          {"int5-g40-asym", "int8-g40-asym"},
                                                          {"int7-channel", "int8-channel"},
                                                          {"int7-g32-fzero", "int8-g32-fzero"}}) {
        const auto size = [](const char* format) {
            return pack(*QuantizedMatrix::allocate(*parse_format(format), 48, 480), Layout::tile16)
                ->size_bytes();
        };
        INFO(word);
        CHECK(size(word) == size(field));
    }
}

TEST_CASE("rows shares the bytes of the matrix") {
    const auto w = QuantizedMatrix::allocate(*parse_format("int5-g32-asym"), 7, 65);
    const auto packed = pack(*w, Layout::rows);
    REQUIRE(packed);
    CHECK(packed->view().codes == w->codes.row(0));
    CHECK(packed->size_bytes() == w->size_bytes());
}

TEST_CASE("a layout that cannot hold a format says why") {
    const auto refused = [](const char* word, std::size_t k) {
        const auto packed = pack(*QuantizedMatrix::allocate(*parse_format(word), 4, k), Layout::tile16);
        return packed ? std::string() : packed.error().message;
    };
    CHECK(refused("int4-g12", 64).find("multiple of 8, not 12") != std::string::npos);
    CHECK(refused("int4-g12", 12) == "");  // one group is the whole row
    CHECK(refused("f32", 64).find("f32") != std::string::npos);
}

TEST_CASE("activation groups that cut a step of planes are refused by name") {
    const auto refused = [](const char* word, std::size_t x_group, std::size_t k) {
        return layout_refuses(Layout::tile16, *parse_format(word), int8_group_activations(x_group), k);
    };
    CHECK(refused("int3-g48", 24, 96).find("codes of 3 bits in planes of 16") != std::string::npos);
    CHECK(refused("int3-g48", 24, 96).find("not 24") != std::string::npos);
    CHECK(refused("q6_k", 8, 256) != "");
    CHECK(refused("int3-g48", 16, 96) == "");
    CHECK(refused("int3-g24", 24, 96) == "");  // fields of 4 bits
    CHECK(refused("int4-g48", 24, 96) == "");
    CHECK(refused("int6-channel", 24, 24) == "");  // one group is the whole row
}

TEST_CASE("int8 activations: codes, scales and sums") {
    Draw draw(3);
    for (const std::size_t k : {1, 31, 32, 33, 100, 257})
        for (const ActivationFormat& format :
             {int8_row_activations(), int8_group_activations(32), int8_group_activations(8)})
            for (const std::size_t sum_group : {std::size_t{8}, std::size_t{32}, k}) {
                Matrix x(5, k);
                draw_activations(x.view(), draw);
                const auto packed = pack_activations(x.view(), format, sum_group);
                REQUIRE(packed);
                const ActivationsView& view = packed->view();
                const auto* codes = static_cast<const std::int8_t*>(view.values);
                bool right = true, padded = true, sums_right = true;
                for (std::size_t m = 0; m < 5; ++m) {
                    for (std::size_t i = 0; i < k; ++i) {
                        const float scale = view.scales[m * view.groups + i / view.group_elements];
                        const int code = codes[m * view.stride_elements + i];
                        right = right && code >= -127 && code <= 127;
                        // Half a step, plus the rounding of the quotient.
                        right = right &&
                                std::fabs(static_cast<double>(x(m, i)) - static_cast<double>(scale) * code) <=
                                    0.5001 * static_cast<double>(scale);
                    }
                    for (std::size_t i = k; i < view.stride_elements; ++i)
                        padded = padded && codes[m * view.stride_elements + i] == 0;
                    CHECK(view.stride_elements >= k + 64);
                    for (std::size_t s = 0; s < view.sum_groups; ++s) {
                        int sum = 0;
                        for (std::size_t i = s * view.sum_group_elements;
                             i < std::min(k, (s + 1) * view.sum_group_elements); ++i)
                            sum += codes[m * view.stride_elements + i];
                        sums_right = sums_right && sum == view.sums[m * view.sum_groups + s];
                    }
                }
                INFO("k " << k << ", " << name(format) << ", sums over " << sum_group);
                CHECK(right);
                CHECK(padded);
                CHECK(sums_right);
            }
}

TEST_CASE("int8 activations at the edges: zeros, subnormals, ties, huge values") {
    const auto quantize = [](std::vector<float> values) {
        Matrix x(1, values.size());
        std::copy(values.begin(), values.end(), x.values().begin());
        const auto packed = pack_activations(x.view(), int8_row_activations(), values.size());
        std::vector<int> codes;
        for (std::size_t i = 0; i < values.size(); ++i)
            codes.push_back(static_cast<const std::int8_t*>(packed->view().values)[i]);
        return std::pair(codes, packed->view().scales[0]);
    };
    CHECK(quantize({0.0f, -0.0f}).first == std::vector<int>{0, 0});
    CHECK(quantize({127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f}).first ==
          std::vector<int>{127, 0, 2, 2, 0, -2});                                            // ties to even
    CHECK(quantize({3.4e38f, -3.4e38f, 1.7e38f}).first == std::vector<int>{127, -127, 64});  // 63.5 to even
    const auto [codes, scale] = quantize({1e-43f, -1e-43f, 0.0f});  // subnormal scale
    CHECK(scale > 0.0f);
    CHECK(codes[0] == -codes[1]);
    CHECK(codes[2] == 0);
    const auto [none, zero_scale] = quantize({1e-45f});  // the scale underflows: flushed to zero
    CHECK(zero_scale == 0.0f);
    CHECK(none[0] == 0);
}
