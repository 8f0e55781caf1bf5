// The prompt kernel of CUDA, run on the host as decode_test.cpp runs its neighbours; its shared memory; the plans of products.
#include <algorithm>
#include <set>
#include <tuple>
#include <vector>

#include "cuda/host_product.hpp"

using namespace fewbit;
using namespace fewbit::testing;

TEST_CASE("cuda prompt: right for every kind of weights, shape and number of blocks", "[cuda]") {
    std::uint64_t seed = 1;
    for (const char* format : {"int4-g128", "int4-g32-asym", "int4-g96-fzero-sbf16", "int8-g32",
                               "int8-channel-asym", "int8-g128-fzero", "nf4-g64", "mxfp4"})
        for (const Half type : {Half::f16, Half::bf16})
            for (const auto& [m, n, k, blocks] :
                 {std::tuple<std::size_t, std::size_t, std::size_t, unsigned>{65, 20, 96, 1},
                  {130, 270, 64, 2},  // four tiles of the partition, of which three are mostly empty
                  {70, 40, 1120, 4},  // more chunks than stages, shared by blocks
                  {129, 17, 700, 3},  // blocks that end in the middle of a tile
                  {200, 16, 0, 5}}) {
                ++seed;
                if (fewbit_test::sampled() && seed % 4 != 0) continue;
                check_product({*parse_format(format), type, m, n, k, blocks, seed});
            }
}

namespace {

/// Most lanes of a group of eight (or sixteen) that read the same bank at different words.
template <class Word>
unsigned conflicts(unsigned lanes_at_once, unsigned words, Word&& word) {
    unsigned most = 0;
    for (unsigned first = 0; first < 32; first += lanes_at_once) {
        std::vector<std::set<unsigned>> banks(32);
        for (unsigned lane = first; lane < first + lanes_at_once; ++lane)
            for (unsigned i = 0; i < words; ++i) banks[(word(lane) + i) % 32].insert(word(lane) + i);
        for (const auto& bank : banks) most = std::max(most, static_cast<unsigned>(bank.size()));
    }
    return most;
}

template <mma16::Codes Kind>
void check_memory() {
    using Memory = decoding::MmaMemory<Kind>;
    // x: read as a fragment, written as it comes; every place once.
    std::set<unsigned> places;
    for (unsigned row = 0; row < decoding::prompt_block_rows; ++row)
        for (unsigned unit = 0; unit < Memory::units_per_row; ++unit)
            places.insert(Memory::x_word(row, unit));
    CHECK(places.size() == std::size_t{decoding::prompt_block_rows} * Memory::units_per_row);
    CHECK(*places.begin() == Memory::code_words);
    CHECK(*places.rbegin() == Memory::stage_words - 4);
    for (unsigned half = 0; half < Memory::halves; ++half)
        CHECK(conflicts(8, 4, [&](unsigned lane) { return Memory::x_word(lane / 4, 4 * half + lane % 4); }) ==
              1);
    CHECK(conflicts(8, 4, [&](unsigned lane) {
              return Memory::x_word(lane / Memory::units_per_row, lane % Memory::units_per_row);
          }) == 1);
    // Codes: 16 bytes of each lane, or 8, which takes as many turns.
    CHECK(conflicts(8, 4, [](unsigned lane) { return lane * 4; }) == 1);
    CHECK(conflicts(16, 2, [](unsigned lane) { return lane * 4; }) == 2);
    CHECK(Memory::words * 4 + 1024 <= 100 * 1024);  // of sm_86 and sm_89, the smallest; 1 KB is the system's
    CHECK(Memory::words % 4 == 0);
}

}  // namespace

TEST_CASE("cuda prompt: lanes that read at once stand in different banks, blocks fit", "[cuda]") {
    check_memory<mma16::Codes::int4>();
    check_memory<mma16::Codes::int8>();
    check_memory<mma16::Codes::table4>();
    for (unsigned c = 0; c < 4; ++c)
        CHECK(conflicts(32, 1, [&](unsigned lane) {
                  const mma16::Element at = mma16::element_of_c(lane, c);
                  return at.column * decoding::staged_stride + at.row;
              }) == 1);
}

TEST_CASE("cuda plans: memory that is made for many rows suffices for fewer, work is cut evenly", "[cuda]") {
    Random random(7);
    for (int round = 0; round < 3000; ++round) {
        const auto number = [&](double most) {
            return static_cast<std::size_t>(std::pow(most, random.uniform(0, 1)));
        };
        const std::size_t tiles = number(4000), chunks = number(600) - 1, most = number(6000);
        const std::size_t resident[cuda::ways] = {number(500), number(300), number(200), number(150)};
        const cuda::Memory memory = cuda::memory_of(tiles, chunks, chunks * 64, most, resident);
        for (const std::size_t rows :
             {std::size_t{1}, std::min<std::size_t>(most, 9), std::min<std::size_t>(most, 33),
              std::min<std::size_t>(most, 65), (most + 1) / 2, most}) {
            const auto way = static_cast<std::size_t>(cuda::way_of(rows));
            const cuda::Plan plan = cuda::plan_of(tiles, chunks, rows, resident[way]);
            INFO(tiles << " tiles, " << chunks << " chunks, " << rows << " of " << most << " rows, "
                       << resident[way] << " blocks");
            CHECK(plan.counters() <= memory.counters);
            CHECK(plan.part_floats <= memory.part_floats);
            CHECK(rows * chunks * 64 <= memory.x_elements);
            CHECK(rows <= cuda::most_rows(plan.way, rows));
            const mma16::Partition& work = plan.partition;
            // Without parts nobody may need one.
            bool whole = true;
            for (std::uint32_t b = 0; b < work.blocks; ++b)
                whole &= work.first_unit(b) % work.units_per_tile == 0;
            CHECK((whole || plan.part_floats > 0));
            // No block waits for another's second wave for more than a tenth of the time.
            const std::size_t waves = ceil_div(std::size_t{work.blocks}, resident[way]);
            CHECK(10 * work.blocks >= (waves > 1 ? 9 * waves * resident[way] : 0));
        }
    }
}

TEST_CASE("cuda partition: what a block does tile after tile is what run_at says", "[cuda]") {
    Random random(11);
    for (int round = 0; round < 500; ++round) {
        mma16::Partition work{static_cast<std::uint32_t>(random.uniform(1, 40)),
                              static_cast<std::uint32_t>(random.uniform(1, 30)), 1};
        work.blocks = static_cast<std::uint32_t>(random.uniform(1, static_cast<double>(work.units()) + 0.99));
        for (std::uint32_t b = 0; b < work.blocks; ++b) {
            const std::uint64_t end = work.first_unit(b + 1);
            std::uint32_t tile = work.first_tile(b);
            for (std::uint64_t unit = work.first_unit(b); unit < end; ++tile) {
                const mma16::Run expected = work.run_at(unit, end), run = work.run_of(b, tile);
                CHECK(run.tile == expected.tile);
                CHECK(run.first == expected.first);
                CHECK(run.last == expected.last);
                CHECK(run.whole == expected.whole);
                unit += run.last - run.first;
                CHECK(work.has_more(b, tile) == (unit < end));
            }
        }
    }
}
