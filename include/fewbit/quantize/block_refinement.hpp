// The search of `mse` in ggml's blocks: parameters and codes in turns. Internal to the room.
//
// With the parameters of a block given, the best code of a weight is the nearest; with the codes given, the
// block is linear in its f16 numbers d (and m), and least squares finds them:
//
//   x ~ d a + m b        a: level times the scale's code; b: the offset's code, or 1
//
// The two are alternated, from several starts, while the error falls; it never rises, so that the result is no
// worse than the first start. Sums in double in index order; the scales' codes of super-blocks stay. mxfp4 and
// nvfp4 have no such numbers: their scale bytes are tried around those of the start.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "fewbit/formats/ggml/blocks.hpp"

namespace fewbit::inline v0::detail {

class BlockRefinement {
public:
    /// `x`: weights of a block; `importance`: what their squared errors weigh, null: 1.
    BlockRefinement(ggml::BlockType type, const float* x, const float* importance)
        : type_(type),
          traits_(ggml::traits(type)),
          places_(ggml::half_places(type)),
          x_(x),
          importance_(importance) {}

    /// sum v (x - x^)^2
    [[nodiscard]] double error(const std::uint8_t* block) const noexcept {
        float values[ggml::max_block_elements];
        ggml::dequantize_block(type_, block, values);
        double sum = 0;
        for (std::size_t i = 0; i < traits_.elements; ++i) {
            const double e = static_cast<double>(x_[i]) - static_cast<double>(values[i]);
            sum += weight(i) * (e * e);
        }
        return sum;
    }

    /// Searches from `start`. What has a smaller error than `least` goes into `best`, and its error into `least`.
    /// Both are blocks of the type's bytes and do not overlap.
    void improve(const std::uint8_t* start, std::uint8_t* best, double& least) const noexcept {
        std::uint8_t tried[max_bytes];
        if (!places_.scale) {
            improve_bytes(start, best, least);
            return;
        }
        for (const double factor : factors) {
            std::memcpy(tried, start, traits_.bytes);
            if (factor != 1.0) scale_by(factor, tried);
            double last = std::numeric_limits<double>::infinity();
            for (int round = 0; round < rounds; ++round) {
                round_codes(tried);
                const double now = error(tried);
                if (!(now < last)) break;
                last = now;
                if (now < least) {
                    least = now;
                    std::memcpy(best, tried, traits_.bytes);
                }
                if (!fit_halves(tried)) break;
            }
        }
    }

private:
    static constexpr std::size_t max_bytes = 292;
    static constexpr int rounds = 8;
    static constexpr std::array<double, 8> factors{1.0, 0.97, 0.94, 0.91, 0.88, 0.84, 0.8, 1.04};

    [[nodiscard]] double weight(std::size_t i) const noexcept {
        return importance_ != nullptr ? static_cast<double>(importance_[i]) : 1.0;
    }
    [[nodiscard]] float half(const std::uint8_t* block, std::size_t place) const noexcept {
        return ggml::detail::load_half(block + place);
    }

    void scale_by(double factor, std::uint8_t* block) const noexcept {
        for (const auto& place : {places_.scale, places_.minimum})
            if (place)
                ggml::detail::store_half(
                    block + *place, static_cast<float>(static_cast<double>(half(block, *place)) * factor));
    }

    /// The nearest code of every weight; groups of scale 0 keep theirs.
    void round_codes(std::uint8_t* block) const noexcept {
        std::uint8_t codes[ggml::max_block_elements];
        ggml::unpack_codes(type_, block, codes);
        const std::span<const float> values = ggml::codebook(type_);
        // tq1_0 and tq2_0 have three values, not four.
        const int most =
            type_ == ggml::BlockType::tq1_0 || type_ == ggml::BlockType::tq2_0 ? 2 : (1 << traits_.bits) - 1;
        for (std::size_t g = 0; g < traits_.elements / traits_.group; ++g) {
            const auto [scale, offset] = ggml::group_parameters(type_, block, g);
            if (!(scale != 0)) continue;
            for (std::size_t i = g * traits_.group; i < (g + 1) * traits_.group; ++i) {
                const double level =
                    (static_cast<double>(x_[i]) - static_cast<double>(offset)) / static_cast<double>(scale);
                codes[i] = values.empty() ? nearest_integer(level + traits_.zero, most)
                                          : nearest_value(level, values);
            }
        }
        ggml::pack_codes(type_, codes, block);
    }
    [[nodiscard]] static std::uint8_t nearest_integer(double level, int most) noexcept {
        if (!(level > 0)) return 0;
        if (level >= most) return static_cast<std::uint8_t>(most);
        return static_cast<std::uint8_t>(static_cast<int>(level + 0.5));
    }
    [[nodiscard]] static std::uint8_t nearest_value(double level, std::span<const float> values) noexcept {
        std::size_t best = 0;
        for (std::size_t i = 1; i < values.size(); ++i)
            if (std::fabs(static_cast<double>(values[i]) - level) <
                std::fabs(static_cast<double>(values[best]) - level))
                best = i;
        return static_cast<std::uint8_t>(best);
    }

    /// Least squares of d and m for the codes that the block has. False: there is nothing to solve.
    [[nodiscard]] bool fit_halves(std::uint8_t* block) const noexcept {
        // What d and m are multiplied with shows when both are 1.
        std::uint8_t unit[max_bytes];
        std::memcpy(unit, block, traits_.bytes);
        ggml::detail::store_half(unit + *places_.scale, 1.0f);
        if (places_.minimum) ggml::detail::store_half(unit + *places_.minimum, 1.0f);
        std::uint8_t codes[ggml::max_block_elements];
        ggml::unpack_codes(type_, block, codes);
        const std::span<const float> values = ggml::codebook(type_);
        double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
        for (std::size_t g = 0; g < traits_.elements / traits_.group; ++g) {
            const auto [scale, offset] = ggml::group_parameters(type_, unit, g);
            const auto b = static_cast<double>(offset);
            for (std::size_t i = g * traits_.group; i < (g + 1) * traits_.group; ++i) {
                const double level =
                    values.empty() ? codes[i] - traits_.zero : static_cast<double>(values[codes[i]]);
                const double a = static_cast<double>(scale) * level, v = weight(i);
                const auto x = static_cast<double>(x_[i]);
                aa += v * (a * a);
                ab += v * (a * b);
                bb += v * (b * b);
                ax += v * (a * x);
                bx += v * (b * x);
            }
        }
        double d = 0, m = 0;
        const double determinant = aa * bb - ab * ab;
        if (places_.minimum && determinant > 1e-9 * (aa * bb)) {
            d = (ax * bb - bx * ab) / determinant;
            m = (aa * bx - ab * ax) / determinant;
        } else if (aa > 0) {
            m = places_.minimum ? static_cast<double>(half(block, *places_.minimum)) : 0.0;
            d = (ax - m * ab) / aa;
        } else {
            return false;
        }
        if (!(std::fabs(d) <= 65504) || !(std::fabs(m) <= 65504)) return false;
        ggml::detail::store_half(block + *places_.scale, static_cast<float>(d));
        if (places_.minimum) ggml::detail::store_half(block + *places_.minimum, static_cast<float>(m));
        return true;
    }

    /// mxfp4 (one byte) and nvfp4 (a byte for 16 weights), whose groups do not touch each other.
    void improve_bytes(const std::uint8_t* start, std::uint8_t* best, double& least) const noexcept {
        if (type_ != ggml::BlockType::mxfp4 && type_ != ggml::BlockType::nvfp4) return;
        const int reach = type_ == ggml::BlockType::mxfp4 ? 1 : 6,
                  top = type_ == ggml::BlockType::mxfp4 ? 254 : 0x7E;
        std::uint8_t tried[max_bytes];
        std::memcpy(tried, start, traits_.bytes);
        round_codes(tried);
        double last = error(tried);
        const auto keep = [&] {
            if (!(last < least)) return;
            least = last;
            std::memcpy(best, tried, traits_.bytes);
        };
        keep();
        for (std::size_t g = 0; g < traits_.elements / traits_.group; ++g)
            for (int step = -reach; step <= reach; ++step) {
                const int byte = start[g] + step;
                if (step == 0 || byte < 0 || byte > top) continue;
                std::uint8_t other[max_bytes];
                std::memcpy(other, tried, traits_.bytes);
                other[g] = static_cast<std::uint8_t>(byte);
                round_codes(other);
                if (const double now = error(other); now < last) {
                    last = now;
                    std::memcpy(tried, other, traits_.bytes);
                    keep();
                }
            }
    }

    ggml::BlockType type_;
    const ggml::BlockTraits& traits_;
    ggml::HalfPlaces places_;
    const float* x_;
    const float* importance_;
};

}  // namespace fewbit::inline v0::detail
