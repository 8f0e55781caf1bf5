// The loops behind `fewbit bench limits`: laws that hold on every machine, no times.
#include "fewbit/matmul/limits.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "fewbit/matmul/matmul.hpp"
#include "support/catch.hpp"
#include "support/guarded.hpp"
#include "support/random.hpp"

using namespace fewbit;

TEST_CASE("limits: every loop runs on this CPU, says what it does, and is listed once") {
    std::set<std::pair<Isa, std::string_view>> reading;
    std::set<std::pair<Isa, std::string>> arithmetic;
    for (const ComputeLimit& limit : compute_limits()) {
        INFO(name(limit.isa) << " " << limit.name << ": " << limit.instructions);
        CHECK(cpu_supports(limit.isa));
        const bool known = limit.name == "fma-f32" || limit.name == "dot-bf16" || limit.name == "dot-int8" ||
                           limit.name == "dot-int4";
        CHECK(known);
        CHECK(!limit.instructions.empty());
        CHECK(limit.operations > 0);
        CHECK(limit.operations == std::floor(limit.operations));
        CHECK(limit.run != nullptr);
        CHECK(arithmetic.emplace(limit.isa, text(limit.name, " by ", limit.instructions)).second);
    }
    for (const ReadLimit& limit : read_limits()) {
        INFO(name(limit.isa) << " " << limit.name);
        CHECK(cpu_supports(limit.isa));
        CHECK(!limit.name.empty());
        CHECK(limit.run != nullptr);
        CHECK(reading.emplace(limit.isa, limit.name).second);
    }
    CHECK(arithmetic.count({Isa::generic, "fma-f32 by multiply, add"}) == 1);
    CHECK(arithmetic.count({Isa::generic, "dot-int8 by 16-bit multiply, widen, add"}) == 1);
    CHECK(reading.count({Isa::generic, "plain"}) == 1);
}

TEST_CASE("limits: where kernels multiply codes with an instruction set, a loop does") {
    // Integer products of avx512vl_vnni and avx512_bf16 are avx512_vnni's; avx_vnni has no loop yet.
    for (const Isa isa :
         {Isa::avx2, Isa::avx512_vnni, Isa::amx_int8, Isa::neon, Isa::neon_dotprod, Isa::neon_i8mm}) {
        const auto kernels = kernel_catalog();
        const bool runs =
            cpu_supports(isa) && std::any_of(kernels.begin(), kernels.end(), [&](const auto& kernel) {
                return kernel.isa == isa && kernel.code != nullptr;
            });
        const auto limits = compute_limits();
        const bool listed = std::any_of(limits.begin(), limits.end(), [&](const ComputeLimit& limit) {
            return limit.isa == isa && limit.name == "dot-int8";
        });
        INFO(name(isa));
        CHECK(listed == runs);
    }
}

TEST_CASE("limits: arithmetic gives the same again, and something else after more iterations") {
    for (const ComputeLimit& limit : compute_limits()) {
        INFO(name(limit.isa) << " " << limit.name);
        std::set<std::uint64_t> results;
        const std::size_t counts[] = {1, 2, 3, 10, 1000};
        for (const std::size_t iterations : counts) {
            const std::uint64_t result = limit.run(iterations);
            CHECK(limit.run(iterations) == result);
            results.insert(result);
        }
        // The tiles of AMX are empty: no compiler looks into its instructions.
        if (limit.isa != Isa::amx_int8) CHECK(results.size() == std::size(counts));
    }
}

TEST_CASE("limits: what reading returns depends on every byte of the buffer, and on nothing behind it") {
    testing::Random random(1);
    for (const std::size_t bytes : {4096, 8192, 12288, 65536 + 4096}) {
        const testing::Guarded buffer(bytes);
        REQUIRE(buffer.data() != nullptr);
        for (std::size_t i = 0; i < bytes; ++i) buffer.data()[i] = static_cast<std::byte>(random.below(256));
        for (const ReadLimit& limit : read_limits()) {
            INFO(name(limit.isa) << " " << limit.name << ", " << bytes << " bytes");
            const std::uint64_t result = limit.run(buffer.data(), bytes);
            CHECK(limit.run(buffer.data(), bytes) == result);
            const auto missed = [&](std::size_t at) {
                buffer.data()[at] ^= std::byte{0x10};
                const bool same = limit.run(buffer.data(), bytes) == result;
                buffer.data()[at] ^= std::byte{0x10};
                return same;
            };
            // Any byte of each vector of 16, and both ends.
            std::size_t vectors_missed = 0;
            for (std::size_t at = 0; at < bytes; at += 16) vectors_missed += missed(at + random.below(16));
            CHECK(vectors_missed == 0);
            CHECK(!missed(0));
            CHECK(!missed(bytes - 1));
        }
    }
}
