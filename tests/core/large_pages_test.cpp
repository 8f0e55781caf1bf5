// Memory in large pages: pieces of shared slabs are apart, and outlive each other in any order.
#include "fewbit/core/large_pages.hpp"

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "fewbit/core/tensor.hpp"
#include "support/catch.hpp"

using namespace fewbit;

namespace {

struct Piece {
    std::shared_ptr<std::byte> memory;
    std::size_t bytes;
    std::uint8_t mark;

    Piece(std::size_t size, std::uint8_t value) : memory(allocate_large(size)), bytes(size), mark(value) {
        if (memory) std::memset(memory.get(), value, size);
    }
    [[nodiscard]] bool is_whole() const {
        // Each byte is the first one and equals the one before it.
        return bytes == 0 || (std::to_integer<std::uint8_t>(*memory) == mark &&
                              std::memcmp(memory.get(), memory.get() + 1, bytes - 1) == 0);
    }
};

}  // namespace

TEST_CASE("large pages: what is written stays, whatever is allocated and freed beside it", "[core]") {
    // Below what shares slabs, around it, around a page and around a slab of 64 MiB; in any order, from two threads.
    const std::vector<std::size_t> sizes{0,        1,        4096,      131071,     131072,    131073,
                                         200'000,  278'528,  2'097'152, 2'228'224,  6'127'616, 33'554'431,
                                         33554432, 33554433, 67108864,  67'108'865, 9'000'001};
    const auto run = [&](unsigned seed, std::size_t& wrong) {
        std::mt19937 draw(seed);
        std::vector<Piece> pieces;
        for (int i = 0; i < 60; ++i) {
            pieces.emplace_back(sizes[draw() % sizes.size()], static_cast<std::uint8_t>(draw()));
            const Piece& last = pieces.back();
            wrong += last.memory == nullptr ||
                     reinterpret_cast<std::uintptr_t>(last.memory.get()) % buffer_alignment_bytes != 0;
            if (draw() % 2 == 0 || pieces.size() > 8) {
                const std::size_t victim = draw() % pieces.size();
                wrong += !pieces[victim].is_whole();
                pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(victim));
            }
        }
        for (const Piece& piece : pieces) wrong += !piece.is_whole();
    };
    std::size_t wrong[2] = {};
    std::thread other(run, 2u, std::ref(wrong[1]));
    run(1, wrong[0]);
    other.join();
    CHECK(wrong[0] == 0);
    CHECK(wrong[1] == 0);
}
