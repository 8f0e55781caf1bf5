// Memory between guard pages, used again by one case after another: mapping new pages takes longer than a case.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#include "differential/problem.hpp"
#include "support/guarded.hpp"

namespace fewbit::testing {

/// What surrounds data: as f32 and f16 NaN, as an integer code the largest, as e8m0 NaN. A kernel that reads it shows.
inline constexpr std::byte poison{0xFF};

class Arena {
public:
    explicit Arena(std::size_t capacity) : memory_(capacity) {}

    /// `bytes` bytes of poison, with more of it around.
    [[nodiscard]] std::span<std::byte> place(std::size_t bytes, Place place, std::size_t offset_bytes = 0) {
        const auto all = memory_.between();
        if (bytes > all.size()) {  // the fault of who drew the shape, not of a kernel
            std::fprintf(stderr, "%zu bytes do not fit an arena of %zu\n", bytes, all.size());
            std::abort();
        }
        const std::size_t at = place == Place::end     ? all.size() - bytes
                               : place == Place::start ? 0
                                                       : std::min(offset_bytes, all.size() - bytes);
        const auto data = all.subspan(at, bytes);
        const std::size_t before = std::min(at, margin_bytes);
        const std::size_t after = std::min(all.size() - at - bytes, margin_bytes);
        before_ = all.subspan(at - before, before);
        after_ = all.subspan(at + bytes, after);
        std::memset(before_.data(), static_cast<int>(poison), before + bytes + after);
        return data;
    }

    /// Whether the surroundings of what was placed last are still poison.
    [[nodiscard]] bool untouched() const { return is_poison(before_) && is_poison(after_); }

    [[nodiscard]] static bool is_poison(std::span<const std::byte> bytes) {
        return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == poison; });
    }

private:
    static constexpr std::size_t margin_bytes = 128;  // two vectors of the widest registers
    Guarded memory_;
    std::span<std::byte> before_, after_;
};

/// One for each part of a product. Large enough for the largest problem.
struct Arenas {
    Arena codes{1 << 19}, scales{1 << 17}, zeros{1 << 17}, offsets{1 << 17}, row_scales{1 << 14};
    Arena x{6 << 20}, bias{1 << 14}, y{1 << 17};
};

}  // namespace fewbit::testing
