// Definitions of encode.hpp: the rule of every type, from which bytes follow.
//
//   one pass      the scale from the extremes of the block, codes by rounding (encode_one_pass.hpp)
//   searched      fit_symmetric, fit_affine, fit_iq4: over the group, weighted by x^2, |x| or importance
//   super-blocks  groups as above; their scales are codes under the scale of the block, and the weights are
//                 rounded again with what is stored
#pragma once

#include "fewbit/core/config.hpp"
#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/formats/ggml/encode_one_pass.hpp"
#include "fewbit/formats/ggml/search.hpp"

namespace fewbit::inline v0::ggml {
namespace detail {

/// sum x^2 in index order.
[[nodiscard]] inline float sum_of_squares(const float* x, std::size_t n) noexcept {
    float sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += x[i] * x[i];
    return sum;
}
/// Importance of a column times sqrt(variance + x^2).
inline void weigh(const float* x, const float* importance, float variance, std::size_t n, float* w) noexcept {
    for (std::size_t i = 0; i < n; ++i) w[i] = importance[i] * std::sqrt(variance + x[i] * x[i]);
}

// --- blocks of 32 with importance -------------------------------------------------------------------------

inline void encode_searched(BlockType type, const float* x, const float* importance, float variance,
                            std::uint8_t* out) noexcept {
    const BlockTraits& t = traits(type);
    float w[32];
    std::uint8_t codes[32];
    weigh(x, importance, variance, 32, w);
    if (t.grid == Grid::integer) {
        store_half(out, fit_symmetric(32, t.zero, x, w, codes));
    } else {
        const auto [scale, minimum] =
            fit_affine(32, (1 << t.bits) - 1, x, w, {-0.9f, 0.05f, 36, true}, codes);
        store_half(out, scale);
        store_half(out + 2, -minimum);
    }
    pack_codes(type, codes, out);
}

// --- iq4 --------------------------------------------------------------------------------------------------

/// The closest value of the codebook, the upper one of two.
[[nodiscard]] inline std::uint8_t closest_iq4(float v) noexcept {
    const auto& values = iq4_codebook;
    if (v <= values.front()) return 0;
    if (v >= values.back()) return 15;
    std::uint8_t above = 1;
    while (v >= values[above]) ++above;
    const bool lower = v - values[above - 1u] < values[above] - v;
    return static_cast<std::uint8_t>(lower ? above - 1 : above);
}
/// The scale of 32 weights: the best of 16 around the one that maps the largest to an end.
[[nodiscard]] inline float fit_iq4(const float* x, const float* w) noexcept {
    const float m = first_max(x, 32);
    if (std::fabs(m) < tiny) return 0;
    float scale = 0, best = 0;
    const auto attempt = [&](float inverse, bool first) {
        float p = 0, q = 0;
        for (std::size_t i = 0; i < 32; ++i) {
            const float value = iq4_codebook[closest_iq4(inverse * x[i])];
            p += w[i] * value * x[i];
            q += w[i] * value * value;
        }
        if (!first && !(q > 0 && p * p > best * q)) return;
        scale = q > 0 ? p / q : 0.0f;
        best = scale * p;
    };
    attempt(1 / (-m / iq4_codebook[0]), true);
    for (int k = -7; k <= 7; ++k) attempt((static_cast<float>(k) + iq4_codebook[0]) / m, false);
    return scale;
}
/// Weights of 32 elements of a block of `size` whose squares sum up to `squares`.
inline void weigh_iq4(const float* x, const float* importance, float squares, float size, float* w) noexcept {
    const float variance = squares * (2 / size);
    for (std::size_t i = 0; i < 32; ++i)
        w[i] = importance != nullptr ? importance[i] * std::sqrt(variance + x[i] * x[i]) : x[i] * x[i];
}
inline void encode_iq4_nl(const float* x, const float* importance, std::uint8_t* out) noexcept {
    float w[32];
    weigh_iq4(x, importance, sum_of_squares(x, 32), 32, w);
    const float scale = fit_iq4(x, w), inverse = inverse_of(scale);
    std::uint8_t codes[32];
    for (std::size_t i = 0; i < 32; ++i) codes[i] = closest_iq4(inverse * x[i]);
    store_half(out, scale);
    pack_codes(BlockType::iq4_nl, codes, out);
}
inline void encode_iq4_xs(const float* x, const float* importance, std::uint8_t* out) noexcept {
    const float squares = sum_of_squares(x, 256);
    float w[32], scales[8];
    for (std::size_t g = 0; g < 8; ++g) {
        weigh_iq4(x + 32 * g, importance != nullptr ? importance + 32 * g : nullptr, squares, 256, w);
        scales[g] = fit_iq4(x + 32 * g, w);
    }
    const float d = -first_max(scales, 8) / 32, inverse = inverse_of(d);
    std::uint8_t codes[256];
    std::memset(out, 0, 8);
    store_half(out, d);
    for (std::size_t g = 0; g < 8; ++g) {
        const int l = std::clamp(nearest(inverse * scales[g]), -32, 31);
        const float inverse_scale = inverse_of(d * static_cast<float>(l));
        for (std::size_t i = 32 * g; i < 32 * g + 32; ++i) codes[i] = closest_iq4(inverse_scale * x[i]);
        put_iq4_scale(out, g, static_cast<unsigned>(l + 32));
    }
    pack_codes(BlockType::iq4_xs, codes, out);
}

// --- super-blocks of 256 ----------------------------------------------------------------------------------

/// Codes again, with the scales and offsets that are stored; groups of scale 0 keep what they have.
inline void round_again(BlockType type, const float* x, const std::uint8_t* block,
                        std::uint8_t* codes) noexcept {
    const BlockTraits& t = traits(type);
    const int most = (1 << t.bits) - 1;
    for (std::size_t g = 0; g < 256 / t.group; ++g) {
        const auto [scale, offset] = group_parameters(type, block, g);
        if (scale == 0) continue;
        for (std::size_t i = g * t.group; i < (g + 1) * t.group; ++i) {
            const float shifted = t.grid == Grid::real ? x[i] - offset : x[i];
            codes[i] = static_cast<std::uint8_t>(std::clamp(nearest(shifted / scale) + t.zero, 0, most));
        }
    }
}

/// q2_k, q4_k, q5_k: scales and minima of the groups, both codes under a scale of the block.
inline void encode_two_level(BlockType type, const float* x, const float* importance,
                             std::uint8_t* out) noexcept {
    const BlockTraits& t = traits(type);
    const bool two_bits = type == BlockType::q2_k;
    const std::size_t groups = 256 / t.group;
    const int most = (1 << t.bits) - 1, scale_most = two_bits ? 15 : 63;
    AffineSearch search{-0.9f, 0.05f, 36, true};
    if (importance == nullptr)
        search = two_bits                  ? AffineSearch{-0.5f, 0.1f, 15, false}
                 : type == BlockType::q4_k ? AffineSearch{-1.0f, 0.1f, 20, true}
                                           : AffineSearch{-0.5f, 0.1f, 15, true};
    const float variance = sum_of_squares(x, 256) / 256 * (two_bits ? 1.0f : 2.0f);

    std::uint8_t codes[256], scale_codes[16], min_codes[16];
    float scales[16], minima[16], sums[16];
    for (std::size_t g = 0; g < groups; ++g) {
        const float* const v = x + g * t.group;
        float w[32];
        if (importance != nullptr) {
            weigh(v, importance + g * t.group, variance, t.group, w);
        } else {
            const float size =
                two_bits ? 0.0f : std::sqrt(sum_of_squares(v, t.group) / static_cast<float>(t.group));
            for (std::size_t i = 0; i < t.group; ++i) w[i] = size + std::fabs(v[i]);
        }
        sums[g] = 0;
        for (std::size_t i = 0; i < t.group; ++i) sums[g] += w[i];
        const auto [scale, minimum] = fit_affine(t.group, most, v, w, search, codes + g * t.group);
        scales[g] = scale;
        minima[g] = minimum;
    }
    // Under the block's scale: by their largest, or fitted where weights tell which groups matter.
    const auto under_one = [&](const float* values, std::uint8_t* into) {
        if (importance != nullptr) return fit_positive(groups, scale_most, values, sums, into);
        const auto top = static_cast<float>(scale_most);
        const float largest = std::max(0.0f, *std::max_element(values, values + groups));
        const float inverse = largest > 0 ? top / largest : 0.0f;
        for (std::size_t g = 0; g < groups; ++g)
            into[g] = static_cast<std::uint8_t>(std::clamp(nearest(inverse * values[g]), 0, scale_most));
        return largest / top;
    };
    const float d = under_one(scales, scale_codes), dmin = under_one(minima, min_codes);
    store_half(out + (two_bits ? 80 : 0), d);
    store_half(out + (two_bits ? 82 : 2), dmin);
    if (!two_bits) std::memset(out + 4, 0, 12);
    for (std::size_t g = 0; g < groups; ++g)
        if (two_bits)
            out[g] = static_cast<std::uint8_t>(scale_codes[g] | min_codes[g] << 4);
        else
            put_scale_min(out + 4, g, {scale_codes[g], min_codes[g]});
    round_again(type, x, out, codes);
    pack_codes(type, codes, out);
}

inline void encode_q3_k(const float* x, const float* importance, std::uint8_t* out) noexcept {
    const float variance = 2 * (sum_of_squares(x, 256) / 256);
    std::uint8_t codes[256], scale_codes[16];
    float scales[16], sums[16], w[16];
    for (std::size_t g = 0; g < 16; ++g) {
        const float* const v = x + 16 * g;
        if (importance == nullptr) {
            scales[g] = fit_q3(v, codes + 16 * g);
            continue;
        }
        weigh(v, importance + 16 * g, variance, 16, w);
        sums[g] = 0;
        for (const float each : w) sums[g] += each;
        scales[g] = fit_symmetric(16, 4, v, w, codes + 16 * g);
    }
    std::memset(out + 96, 0, 14);
    float d = 0;
    if (importance != nullptr) {
        d = fit_symmetric(16, 32, scales, sums, scale_codes);
    } else if (const float m = first_max(scales, 16); m != 0) {
        const float inverse = -32 / m;
        for (std::size_t g = 0; g < 16; ++g)
            scale_codes[g] =
                static_cast<std::uint8_t>(std::clamp(nearest(inverse * scales[g]), -32, 31) + 32);
        d = 1 / inverse;
    } else {
        std::fill_n(scale_codes, 16, std::uint8_t{0});
    }
    store_half(out + 108, d);
    for (std::size_t g = 0; g < 16; ++g) put_q3_scale(out + 96, g, scale_codes[g]);
    round_again(BlockType::q3_k, x, out, codes);
    pack_codes(BlockType::q3_k, codes, out);
}

inline void encode_q6_k(const float* x, const float* importance, std::uint8_t* out) noexcept {
    std::uint8_t codes[256];
    float scales[16];
    for (std::size_t g = 0; g < 16; ++g)
        scales[g] = fit_symmetric(16, 32, x + 16 * g, importance != nullptr ? importance + 16 * g : nullptr,
                                  codes + 16 * g);
    const float m = first_max(scales, 16);
    if (std::fabs(m) < tiny) {
        std::memset(out, 0, traits(BlockType::q6_k).bytes);
        return;
    }
    const float inverse = -128 / m;
    store_half(out + 208, 1 / inverse);
    for (std::size_t g = 0; g < 16; ++g)
        out[192 + g] = static_cast<std::uint8_t>(std::min(127, nearest(inverse * scales[g])));
    round_again(BlockType::q6_k, x, out, codes);
    pack_codes(BlockType::q6_k, codes, out);
}

}  // namespace detail

FEWBIT_INLINE void encode_row(BlockType type, std::span<const float> x, std::span<const float> importance,
                              std::span<std::uint8_t> out) noexcept {
    using namespace detail;
    const BlockTraits& t = traits(type);
    const bool weighted = !importance.empty() && uses_importance(type);
    // q4_0 to q5_1 compare weights with the whole row.
    const float variance = weighted && t.group == 32 && t.elements == 32 && t.grid != Grid::codebook
                               ? sum_of_squares(x.data(), x.size()) / static_cast<float>(x.size())
                               : 0.0f;
    for (std::size_t b = 0; b < x.size() / t.elements; ++b) {
        const float* const v = x.data() + b * t.elements;
        const float* const importance_of = weighted ? importance.data() + b * t.elements : nullptr;
        std::uint8_t* const block = out.data() + b * t.bytes;
        switch (type) {
            case BlockType::q4_0:
            case BlockType::q5_0:
                weighted ? encode_searched(type, v, importance_of, variance, block)
                         : encode_to_end(type, v, block);
                break;
            case BlockType::q4_1:
            case BlockType::q5_1:
                weighted ? encode_searched(type, v, importance_of, variance, block)
                         : encode_range(type, v, block);
                break;
            case BlockType::q8_0: encode_q8_0(v, block); break;
            case BlockType::q2_k:
            case BlockType::q4_k:
            case BlockType::q5_k: encode_two_level(type, v, importance_of, block); break;
            case BlockType::q3_k: encode_q3_k(v, importance_of, block); break;
            case BlockType::q6_k: encode_q6_k(v, importance_of, block); break;
            case BlockType::q8_k: encode_q8_k(v, block); break;
            case BlockType::iq4_nl: encode_iq4_nl(v, importance_of, block); break;
            case BlockType::iq4_xs: encode_iq4_xs(v, importance_of, block); break;
            case BlockType::mxfp4: encode_mxfp4(v, block); break;
            case BlockType::nvfp4: encode_nvfp4(v, block); break;
            case BlockType::tq1_0:
            case BlockType::tq2_0:
            case BlockType::q2_0: encode_ternary(type, v, block); break;
            case BlockType::q1_0: encode_signs(v, block); break;
        }
    }
}

}  // namespace fewbit::inline v0::ggml
