// Prompts by wgmma (kernels/int_grouped/cuda/prompt_wgmma.hpp), run on the host lane by lane: where the tensor cores find x, against the
// PTX manual's words; products against sums in double precision.
#include <set>
#include <tuple>
#include <vector>

#include "cuda/host_product.hpp"

using namespace fewbit;
using namespace fewbit::testing;

TEST_CASE("cuda wgmma: descriptors say what the manual says", "[cuda]") {
    // PTX ISA, matrix descriptor: bits 13-0 start, 29-16 leading dimension, 45-32 stride dimension, each without its last four
    // bits; 51-49 base offset, 63-62 swizzle: none.
    for (const std::uint32_t address : {0u, 16u, 4096u, 0x12340u, 0x3FFF0u}) {
        const std::uint64_t d = mma16::wgmma_descriptor(address);
        CHECK((d & 0x3FFF) * 16 == address);
        CHECK((d >> 16 & 0x3FFF) * 16 == mma16::wgmma_leading_bytes);
        CHECK((d >> 32 & 0x3FFF) * 16 == mma16::wgmma_stride_bytes);
        CHECK((d & ~(0x3FFFull | 0x3FFFull << 16 | 0x3FFFull << 32)) == 0);
    }
    // Two steps of a half cover its 32 inputs, each where mma16 has it in A.
    std::set<unsigned> inputs;
    for (unsigned step = 0; step < 2; ++step)
        for (unsigned lane = 0; lane < mma16::lanes; ++lane)
            for (unsigned r = 0; r < 4; ++r)
                for (unsigned e = 0; e < 2; ++e) {
                    const unsigned column = mma16::element_of_a(lane, r, e).column;
                    CHECK(mma16::wgmma_input(step, column) == mma16::place_of(lane, 0, step, r, e).input);
                    inputs.insert(mma16::wgmma_input(step, column));
                }
    CHECK(inputs.size() == mma16::half_inputs);
}

TEST_CASE("cuda wgmma: stages fit into shared memory, copies start at multiples of 16 bytes", "[cuda]") {
    const auto check = []<mma16::Codes Kind>() {
        using Memory = typename decoding::WgmmaWay<Kind, Half::f16, decoding::Zero::middle>::Memory;
        CHECK(Memory::words * 4 + 1024 + 16 <= 228 * 1024);  // of sm_90; 1 KB is the system's
        CHECK(Memory::stage_words % 4 == 0);
        CHECK(Memory::stage_words * 4 * Memory::stages < 1u << 18);  // what a descriptor can name
    };
    check.operator()<mma16::Codes::int4>();
    check.operator()<mma16::Codes::int8>();
    check.operator()<mma16::Codes::table4>();
}

TEST_CASE("cuda wgmma: right for every kind of weights, shape and number of blocks", "[cuda]") {
    std::uint64_t seed = 9000;
    for (const char* format :
         {"int4-g128", "int4-g32", "int4-g96-sbf16", "int4-g64-asym", "int4-g32-fzero", "int4-channel",
          "int8-g128", "int8-g32-asym", "int8-channel", "int8-g64-fzero-sbf16", "nf4-g64", "e2m1-g32-se8m0",
          "q4_0", "q4_1", "q4_k", "int3-g64", "fp8-e4m3-channel", "mxfp8"})
        for (const Half type : {Half::f16, Half::bf16})
            for (const auto& [m, n, k, blocks] :
                 {std::tuple<std::size_t, std::size_t, std::size_t, unsigned>{1, 16, 64, 1},
                  {70, 40, 1120, 4},   // more chunks than stages, shared by blocks
                  {129, 150, 700, 3},  // both groups of warps, blocks that end in the middle of a tile
                  {300, 270, 96, 2},
                  {200, 16, 0, 5},
                  {65, 130, 512, 3}}) {
                ++seed;
                if (fewbit_test::sampled() && seed % 5 != 0) continue;
                check_product({*parse_format(format), type, m, n, k, blocks, seed, true});
            }
}
