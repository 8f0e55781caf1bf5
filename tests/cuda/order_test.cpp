// The order of codes for tensor cores is a bijection, its fragments are those of the PTX manual, unpacking is exact for every code.
#include <set>
#include <tuple>
#include <vector>

#include "cuda/host_warp.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::testing;

TEST_CASE("mma16: every place of a chunk has one run of bits, and every run one place", "[cuda]") {
    for (const auto kind :
         {mma16::Codes::int4, mma16::Codes::int8, mma16::Codes::table4, mma16::Codes::fp8}) {
        const unsigned bits = mma16::bits_of(kind);
        std::set<std::pair<unsigned, unsigned>> places;
        std::set<unsigned> runs;
        for (unsigned lane = 0; lane < 32; ++lane)
            for (unsigned half = 0; half < mma16::halves_per_chunk(bits); ++half)
                for (unsigned i = 0; i < 16; ++i) {
                    const unsigned step = i / 8, r = i / 2 % 4, e = i % 2;
                    const mma16::Place place = mma16::place_of(lane, half, step, r, e);
                    places.emplace(place.channel, place.input);
                    const unsigned bit = mma16::bit_of(kind, lane, half, step, r, e);
                    CHECK(bit % bits == 0);
                    CHECK(mma16::bit_at(kind, place.channel, place.input) == bit);
                    CHECK(bit / 128 == lane);  // the lane loads it itself
                    runs.insert(bit);
                }
        const unsigned codes = mma16::chunk_bytes * 8 / bits;
        CHECK(places.size() == codes);
        CHECK(runs.size() == codes);
        CHECK(places.rbegin()->first == 15);
        CHECK(*runs.rbegin() == 4096 - bits);
        unsigned last_input = 0;
        for (const auto& [channel, input] : places) last_input = std::max(last_input, input);
        CHECK(last_input == mma16::chunk_inputs(bits) - 1);
    }
}

TEST_CASE("mma16: fragments are those of the PTX manual", "[cuda]") {
    // PTX ISA 9.7.14.5.8, by the manual's own index i of an element.
    for (unsigned lane = 0; lane < 32; ++lane) {
        const unsigned group = lane >> 2, thread = lane % 4;
        for (unsigned i = 0; i < 8; ++i) {
            const mma16::Element a = mma16::element_of_a(lane, i / 2, i % 2);
            CHECK(a.row == (i < 2 || (4 <= i && i < 6) ? group : group + 8));
            CHECK(a.column == thread * 2 + (i & 1) + (i >= 4 ? 8 : 0));
        }
        for (unsigned i = 0; i < 4; ++i) {
            const mma16::Element b = mma16::element_of_b(lane, i / 2, i % 2),
                                 c = mma16::element_of_c(lane, i);
            CHECK(b.row == thread * 2 + (i & 1) + (i >= 2 ? 8 : 0));
            CHECK(b.column == group);
            CHECK(c.row == (i < 2 ? group : group + 8));
            CHECK(c.column == thread * 2 + (i & 1));
        }
    }
}

TEST_CASE("mma16: weights and x meet in the same column of the product", "[cuda]") {
    for (unsigned step = 0; step < 2; ++step) {
        unsigned input_of_row[16];
        for (unsigned lane = 0; lane < 32; ++lane)
            for (unsigned r = 0; r < 2; ++r)
                for (unsigned e = 0; e < 2;
                     ++e)  // registers of B: halves 2 step + r of the lane's 16 bytes of x
                    input_of_row[mma16::element_of_b(lane, r, e).row] =
                        8 * (lane % 4) + 2 * (2 * step + r) + e;
        for (unsigned lane = 0; lane < 32; ++lane)
            for (unsigned r = 0; r < 4; ++r)
                for (unsigned e = 0; e < 2; ++e) {
                    const mma16::Element a = mma16::element_of_a(lane, r, e);
                    const mma16::Place place = mma16::place_of(lane, 0, step, r, e);
                    CHECK(place.channel == a.row);
                    CHECK(place.input == input_of_row[a.column]);
                }
    }
}

namespace {

template <unsigned Bits, Half Type>
void check_unpacking() {
    INFO(Bits << " bits, " << (Type == Half::f16 ? "f16" : "bf16"));
    std::size_t wrong = 0;
    constexpr unsigned largest = (1u << Bits) - 1;
    for (std::uint32_t low = 0; low < 0x10000; ++low) {  // all pairs of a register occur, in every place
        const std::uint32_t words[2] = {low | (low * 40503u & 0xFFFFu) << 16,
                                        (low * 31421u & 0xFFFFu) | low << 16};
        const unsigned z[2] = {low * 7 % (largest + 1), low * 11 / 5 % (largest + 1)};
        const auto zeros = mma16::Zeros<Bits, Type>::of(z[0], z[1]);
        mma16::FragmentA a;
        if constexpr (Bits == 4)
            a = mma16::unpack4<HostMath, Type>(words[0], zeros);
        else
            a = mma16::unpack8<HostMath, Type>(words[0], words[1], zeros);
        for (unsigned r = 0; r < 4; ++r)
            for (unsigned e = 0; e < 2; ++e) {
                const unsigned bit =
                    mma16::bit_of(Bits == 4 ? mma16::Codes::int4 : mma16::Codes::int8, 0, 0, 0, r, e);
                const auto code = static_cast<int>(words[bit / 32] >> bit % 32 & largest);
                wrong += half_value(Type, a.r[r] >> 16 * e & 0xFFFF) !=
                         static_cast<float>(code - static_cast<int>(z[r & 1]));
            }
    }
    CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("mma16: every code with every zero point becomes their difference, exactly", "[cuda]") {
    check_unpacking<4, Half::f16>();
    check_unpacking<4, Half::bf16>();
    check_unpacking<8, Half::f16>();
    check_unpacking<8, Half::bf16>();
    // All zero points with all codes of a register's element.
    std::size_t wrong = 0;
    for (std::uint32_t z = 0; z < 256; ++z)
        for (std::uint32_t code = 0; code < 256; ++code) {
            const std::uint32_t word = code * 0x01010101u;
            const auto difference = static_cast<float>(static_cast<int>(code) - static_cast<int>(z));
            const auto f16 =
                mma16::unpack8<HostMath, Half::f16>(word, word, mma16::Zeros<8, Half::f16>::of(z, z));
            const auto bf16 =
                mma16::unpack8<HostMath, Half::bf16>(word, word, mma16::Zeros<8, Half::bf16>::of(z, z));
            for (unsigned r = 0; r < 4; ++r)
                wrong += half_value(Half::f16, f16.r[r]) != difference ||
                         half_value(Half::bf16, bf16.r[r]) != difference;
            if (z >= 16 || code >= 16) continue;
            const std::uint32_t nibbles = code * 0x11111111u;
            const auto f4 =
                mma16::unpack4<HostMath, Half::f16>(nibbles, mma16::Zeros<4, Half::f16>::of(z, z));
            const auto b4 =
                mma16::unpack4<HostMath, Half::bf16>(nibbles, mma16::Zeros<4, Half::bf16>::of(z, z));
            for (unsigned r = 0; r < 4; ++r)
                wrong += half_value(Half::f16, f4.r[r]) != difference ||
                         half_value(Half::bf16, b4.r[r]) != difference;
        }
    CHECK(wrong == 0);
}

TEST_CASE("mma16: every code of fp8 becomes its number, in every place, in f16 and bf16", "[cuda]") {
    std::size_t wrong = 0;
    for (std::uint32_t low = 0; low < 0x10000; ++low) {
        const std::uint32_t words[2] = {low | (low * 40503u & 0xFFFFu) << 16,
                                        (low * 31421u & 0xFFFFu) | low << 16};
        const auto f16 = mma16::unpack_fp8<HostMath, Half::f16>(words[0], words[1]);
        const auto bf16 = mma16::unpack_fp8<HostMath, Half::bf16>(words[0], words[1]);
        for (unsigned r = 0; r < 4; ++r)
            for (unsigned e = 0; e < 2; ++e) {
                const unsigned bit = mma16::bit_of(mma16::Codes::fp8, 0, 0, 0, r, e);
                const auto code = static_cast<std::uint8_t>(words[bit / 32] >> bit % 32);
                if ((code & 0x7F) == 0x7F) continue;  // NaN, which is never chosen
                const float number = float_from_fp8_e4m3(code);
                wrong += half_value(Half::f16, f16.r[r] >> 16 * e & 0xFFFF) != number;
                wrong += half_value(Half::bf16, bf16.r[r] >> 16 * e & 0xFFFF) != number;
            }
    }
    CHECK(wrong == 0);
}

TEST_CASE("mma16: every code of a table becomes its number, in every place, from the lane's own bank",
          "[cuda]") {
    std::uint16_t table[16];
    for (unsigned i = 0; i < 16; ++i) table[i] = static_cast<std::uint16_t>(0x1234u + 977u * i);
    std::vector<std::uint32_t> pairs(mma16::table_words);
    for (unsigned i = 0; i < mma16::table_words; ++i) pairs[i] = mma16::table_pair(table, i / mma16::lanes);
    std::size_t wrong = 0;
    for (std::uint32_t low = 0; low < 0x10000; ++low) {
        const std::uint32_t word = low | (low * 40503u & 0xFFFFu) << 16, lane = low % 32;
        const mma16::FragmentA a = mma16::look_up(word, pairs.data(), lane);
        for (unsigned r = 0; r < 4; ++r)
            for (unsigned e = 0; e < 2; ++e) {
                const unsigned bit = mma16::bit_of(mma16::Codes::table4, 0, 0, 0, r, e);
                wrong += (a.r[r] >> 16 * e & 0xFFFF) != table[word >> bit & 15];
            }
    }
    CHECK(wrong == 0);
}

TEST_CASE("mma16: blocks share the work evenly, every unit once", "[cuda]") {
    std::uint64_t draw = 12345;
    const auto below = [&draw](std::uint64_t n) {
        draw = draw * 6364136223846793005u + 1442695040888963407u;
        return (draw >> 33) % n;
    };
    for (int round = 0; round < 2000; ++round) {
        mma16::Partition p{};
        p.tiles = static_cast<std::uint32_t>(1 + below(round % 2 == 0 ? 5 : 900));
        p.units_per_tile = static_cast<std::uint32_t>(1 + below(round % 3 == 0 ? 3 : 60));
        p.blocks = static_cast<std::uint32_t>(1 + below(std::min<std::uint64_t>(p.units(), 700)));
        INFO(p.tiles << " tiles of " << p.units_per_tile << " units, " << p.blocks << " blocks");
        std::uint64_t at = 0;
        std::set<std::uint32_t> slots;
        std::size_t wrong = 0;
        for (std::uint32_t b = 0; b < p.blocks; ++b) {
            wrong += p.first_unit(b) != at;
            at = p.first_unit(b + 1);
            const std::uint64_t size = at - p.first_unit(b);
            wrong += size < p.units() / p.blocks || size > p.units() / p.blocks + 1;
            wrong += p.block_of(p.first_unit(b)) != b || p.block_of(at - 1) != b;
            const auto first = static_cast<std::uint32_t>(p.first_unit(b) / p.units_per_tile);
            const auto last = static_cast<std::uint32_t>((at - 1) / p.units_per_tile);
            for (const std::uint32_t tile : {first, last}) {
                wrong += p.first_block(tile) > b || p.last_block(tile) < b;
                wrong += p.slot(b, tile) / 2 != b;
            }
            slots.insert(p.slot(b, first));
            wrong += first != last && !slots.insert(p.slot(b, last)).second;
            for (std::uint32_t tile = first + 1; tile < last; ++tile)  // all its own
                wrong += p.first_block(tile) != b || p.last_block(tile) != b;
        }
        wrong += at != p.units();
        CHECK(wrong == 0);
    }
}

TEST_CASE("mma16: quotients by a product are exact", "[cuda]") {
    std::size_t wrong = 0;
    for (const std::uint32_t d :
         {1u, 2u, 3u, 4u, 5u, 7u, 12u, 100u, 127u, 448u, 1000u, 4095u, 32769u, 65535u, 65536u})
        for (std::uint32_t n = 0; n < 65536; ++n) wrong += mma16::Divisor::of(d).quotient(n) != n / d;
    CHECK(wrong == 0);
}
