// The decode and batch kernels of CUDA, run on the host lane by lane, against sums in double precision over what the format says.
#include <algorithm>
#include <tuple>
#include <vector>

#include "cuda/host_product.hpp"

using namespace fewbit;
using namespace fewbit::testing;

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
                  {5, 70, 700, 1000}}) {
                ++seed;
                if (fewbit_test::sampled() && seed % 7 != 0)
                    continue;  // 12 shapes: other ones for each format
                check_product({*parse_format(format), type, m, n, k, blocks, seed});
            }
}

TEST_CASE("cuda decode: codes of every width, and scales of two levels", "[cuda]") {
    std::uint64_t seed = 5000;
    for (const char* format : {"int2-g32",
                               "int2-channel-asym",
                               "int3-g64",
                               "int3-g32-asym",
                               "int3-g128-narrow",
                               "int3-channel-fzero",
                               "int5-g32",
                               "int5-g64-asym",
                               "int6-g128-fzero",
                               "int6-channel-narrow",
                               "int7-tensor",
                               "int3-g64-dq",
                               "q5_0",
                               "q5_1",
                               "q4_k",
                               "q5_k",
                               "iq4_xs",
                               "q8_k",
                               "tq2_0",
                               "q2_0",
                               "fp8-e4m3-channel",
                               "fp8-e4m3-g64-sbf16",
                               "mxfp8"})
        for (const Half type : {Half::f16, Half::bf16})
            for (const auto& [m, n, k, blocks] :
                 {std::tuple<std::size_t, std::size_t, std::size_t, unsigned>{1, 9, 256, 1},
                  {3, 17, 512, 2},
                  {33, 40, 1280, 3},
                  {70, 20, 768, 2}}) {
                ++seed;
                if (fewbit_test::sampled() && seed % 3 != 0) continue;
                check_product({*parse_format(format), type, m, n, k, blocks, seed});
            }
}

TEST_CASE("cuda decode: formats that the order does not hold say why", "[cuda]") {
    for (const auto& [format, why] : {std::pair<const char*, const char*>{"int4-g16", "multiple of 32"},
                                      {"int4-g48", "multiple of 32"},
                                      {"fp8-e5m2-channel", "tables of 16"},
                                      {"q6_k", "multiple of 32"},
                                      {"q3_k", "multiple of 32"},
                                      {"f16", "tables of 16"}}) {
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
