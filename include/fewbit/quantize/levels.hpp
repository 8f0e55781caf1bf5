// The nearest level of a grid to a weight: what a code stands for before it is scaled, and the code itself. One
// type for each kind of grid, so that loops over weights are compiled for each; with_levels() chooses. Ties go to
// the even code. Internal to the room: included by its sources alone.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "fewbit/formats/format.hpp"
#include "fewbit/formats/sorted_table.hpp"
#include "fewbit/quantize/group_grid.hpp"
#include "fewbit/quantize/rounding.hpp"

namespace fewbit::inline v0::detail {

/// (w - offset) / scale rounded to a whole number and clamped to the codes: the code minus the zero.
class StepLevels {
public:
    StepLevels(const Format& format, const GroupGrid& grid) noexcept
        : scale_(grid.scale),
          offset_(grid.offset),
          low_(format.min_code() - grid.zero),
          high_(format.max_code() - grid.zero),
          zero_(grid.zero) {}

    [[nodiscard]] double level(float w) const noexcept {
        const double steps = round_half_even((static_cast<double>(w) - offset_) / scale_);
        const double raised = steps < low_ ? low_ : steps;
        return raised > high_ ? high_ : raised;
    }
    [[nodiscard]] std::uint8_t code(float w) const noexcept {
        return static_cast<std::uint8_t>(static_cast<int>(level(w)) + zero_);
    }

private:
    double scale_, offset_, low_, high_;
    int zero_;
};

/// The nearest value of a codebook of 4 bits.
class TableLevels {
public:
    TableLevels(const codebooks::SortedTable& table, const GroupGrid& grid) noexcept
        : table_(table), scale_(grid.scale) {}

    [[nodiscard]] double level(float w) const noexcept { return pick(table_.levels, w); }
    [[nodiscard]] std::uint8_t code(float w) const noexcept { return pick(table_.codes, w); }

private:
    template <class T>
    [[nodiscard]] T pick(const std::array<T, codebooks::small_entries>& from, float w) const noexcept {
        const double x = static_cast<double>(w) / scale_;
        T found = from[0];
        for (std::size_t i = 0; i + 1 < codebooks::small_entries; ++i)  // no branch, so that it vectorizes
            found = x > table_.borders[i] ? from[i + 1] : found;
        return found;
    }

    const codebooks::SortedTable& table_;
    double scale_;
};

/// The nearest small float, saturating: fp8 with `Mantissa` bits below the point.
template <int Mantissa, int SmallestExponent, int Largest, std::uint8_t (*Encode)(float)>
class FloatLevels {
public:
    explicit FloatLevels(const GroupGrid& grid) noexcept : scale_(grid.scale) {}

    [[nodiscard]] double level(float w) const noexcept {
        constexpr std::uint64_t exponent_bits = 0x7FF0000000000000u;
        constexpr std::uint64_t smallest = static_cast<std::uint64_t>(1023 + SmallestExponent) << 52;
        const double x = static_cast<double>(w) / scale_;
        const std::uint64_t exponent = std::bit_cast<std::uint64_t>(x) & exponent_bits;
        const double unit =
            std::bit_cast<double>(exponent > smallest ? exponent : smallest) * (1.0 / (1 << Mantissa));
        const double rounded = round_half_even(x / unit) * unit + 0.0;  // of zeros the positive one
        const double raised = rounded < -Largest ? -Largest : rounded;
        return raised > Largest ? Largest : raised;
    }
    [[nodiscard]] std::uint8_t code(float w) const noexcept { return Encode(static_cast<float>(level(w))); }

private:
    double scale_;
};

using E4m3Levels = FloatLevels<3, -6, 448, fp8_e4m3_from_float>;
using E5m2Levels = FloatLevels<2, -14, 57344, fp8_e5m2_from_float>;

/// body(levels) with the levels of a grid whose scale is not 0.
template <class Body>
[[nodiscard]] auto with_levels(const Format& format, const GroupGrid& grid, Body&& body) {
    switch (format.element) {
        case Element::nf4: return body(TableLevels(codebooks::sorted_nf4, grid));
        case Element::e2m1: return body(TableLevels(codebooks::sorted_e2m1, grid));
        case Element::iq4: return body(TableLevels(codebooks::sorted_iq4, grid));
        case Element::fp8_e4m3: return body(E4m3Levels(grid));
        case Element::fp8_e5m2: return body(E5m2Levels(grid));
        default: return body(StepLevels(format, grid));
    }
}

/// The smallest and largest value of a codebook.
struct CodebookRange {
    double low, high;
};
[[nodiscard]] constexpr CodebookRange codebook_range(Element element) noexcept {
    switch (element) {
        case Element::e2m1: return {-6, 6};
        case Element::iq4: return {-127, 113};
        case Element::fp8_e4m3: return {-448, 448};
        case Element::fp8_e5m2: return {-57344, 57344};
        default: return {-1, 1};
    }
}

}  // namespace fewbit::inline v0::detail
