// Codebooks of 16 in ascending order, for finding the nearest value: by comparisons with the borders between them. Ties go to the
// even code.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fewbit/formats/codebooks.hpp"

namespace fewbit::inline v0::codebooks {

/// A codebook of 16 in ascending order, without the second zero that e2m1 has.
struct SortedTable {
    std::size_t size = 0;
    std::array<double, small_entries> levels{};
    std::array<std::uint8_t, small_entries> codes{};
    /// x > borders[i]: level i + 1 or above. Midway between two levels, or the number just below where the upper
    /// code is the even one.
    std::array<double, small_entries> borders{};

    explicit constexpr SortedTable(const SmallTable& table) noexcept {
        for (std::size_t u = 0; u < table.size(); ++u) {
            const double value = static_cast<double>(table[u]);
            std::size_t at = 0;
            while (at < size && levels[at] < value) ++at;
            if (at < size && levels[at] == value) continue;
            for (std::size_t i = size; i > at; --i) levels[i] = levels[i - 1], codes[i] = codes[i - 1];
            levels[at] = value;
            codes[at] = static_cast<std::uint8_t>(u);
            ++size;
        }
        for (std::size_t i = 0; i + 1 < size; ++i) {
            const double middle = 0.5 * (levels[i] + levels[i + 1]);
            borders[i] = codes[i + 1] % 2 != 0 ? middle : below(middle);
        }
        for (std::size_t i = size - 1; i < borders.size(); ++i)
            borders[i] = std::numeric_limits<double>::infinity();
    }

private:
    static constexpr double below(double x) noexcept {  // x is not 0: no two levels are opposite
        const auto bits = std::bit_cast<std::uint64_t>(x);
        return std::bit_cast<double>(x > 0 ? bits - 1 : bits + 1);
    }
};

inline constexpr SortedTable sorted_nf4(nf4), sorted_e2m1(e2m1), sorted_iq4(iq4);

}  // namespace fewbit::inline v0::codebooks
