// Weights straight from the packed stream (drawn in fewbit/pack/layout.hpp), for tiles of any register width (Lanes). A source
// says where a tile finds the codes, scales, offsets and zeros of a piece of K.
#pragma once

#include "kernels/tile16/planes.hpp"
#include "kernels/tile16/rows.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Where things stand in the stream of one tile (drawn in fewbit/pack/layout.hpp), in bytes.
class StreamPlaces {
public:
    /// Steps of the stream have `step_elements` and `step_bytes`.
    StreamPlaces(const WeightsView& w, std::size_t step_elements, std::size_t step_bytes)
        : scales(w.per_tensor          ? 0
                 : w.super_groups != 0 ? tile_channels
                                       : tile_channels * scalar_bytes(w.scale)),
          zeros(!w.has_zeros || w.per_tensor ? 0
                : w.bits <= 4                ? tile_channels / 2
                                             : tile_channels),
          group_elements_(w.group_elements),
          step_elements_(step_elements),
          step_bytes_(step_bytes),
          before_codes_(scales + zeros + (w.has_offsets ? scales : 0)),
          group_bytes_(before_codes_ + (w.group_elements + step_elements - 1) / step_elements * step_bytes),
          super_groups_(static_cast<std::uint32_t>(w.super_groups)),
          before_groups_(w.super_groups != 0 ? before_codes_ * scalar_bytes(w.scale) : 0),
          super_bytes_(before_groups_ + super_groups_ * group_bytes_) {}

    [[nodiscard]] ParametersPlace parameters(std::size_t group) const {
        if (super_groups_ == 0) return {static_cast<std::uint32_t>(group * group_bytes_)};
        const auto number = static_cast<std::uint32_t>(group);  // divides faster
        const std::size_t super = number / super_groups_ * super_bytes_;
        return {static_cast<std::uint32_t>(super + before_groups_ + number % super_groups_ * group_bytes_),
                static_cast<std::uint32_t>(super)};
    }
    /// Where what precedes the codes of a group begins, the parameters of its super-block too if it is the first there.
    [[nodiscard]] std::size_t begin(ParametersPlace at) const {
        return at.group - at.super == before_groups_ ? at.super : at.group;
    }
    /// Those of k, in a group whose parameters are at `at`.
    [[nodiscard]] std::size_t codes(ParametersPlace at, std::size_t group, std::size_t k) const {
        const std::size_t within = k - group * group_elements_;
        return at.group + before_codes_ + (within == 0 ? 0 : within / step_elements_ * step_bytes_);
    }

    std::size_t scales, zeros;  ///< bytes of a group's

private:
    std::size_t group_elements_, step_elements_, step_bytes_, before_codes_, group_bytes_;
    std::uint32_t super_groups_;  ///< 0: there is one level
    std::size_t before_groups_, super_bytes_;
};

/// The most rows of a tile straight from the stream. (Of planes few tiles are compiled.)
template <class Lanes>
constexpr int stream_tile_rows(int field_bits) {
    constexpr int planed = 8;
    return field_bits % 4 == 0 || Lanes::tile_rows < planed ? Lanes::tile_rows : planed;
}

/// What is known of scales and offsets when a tile is compiled: nothing, that each group has its own f16, or an i8 under an f16.
enum class Scales { any, halves, two_levels };

/// Codes where the packed matrix has them: of a tile of channels, or of `Tiles` that are read side by side.
template <class Lanes, class Field, Scales Known = Scales::any, int Tiles = 1>
class StreamSource {
public:
    static constexpr int tiles = Tiles;
    static constexpr bool is_panel = false;
    static constexpr Scales known = Known;
    /// Whether tiles of so many rows are worth versions of their own.
    static constexpr bool is_often(int rows) {
        return Lanes::few_rows > Lanes::tile_rows && rows == stream_tile_rows<Lanes>(Field::Steps::bits);
    }
    using Codes = Field;

    /// The tile of channel n, and those `span`, 2 * span, ... tiles behind it.
    StreamSource(const KernelCall& call, const Field& field, std::size_t n, std::size_t span = 1)
        : w_(call.w),
          span_(span),
          field_(field),
          places_(call.w, Field::Steps::step_elements, Field::Steps::step_bytes),
          tile_(call.w.codes + n / tile_channels * call.w.codes_stride_bytes) {}

    [[nodiscard]] const StreamPlaces& places() const { return places_; }
    // Of a group, for register c of the channels; `at`: where its parameters are.
    [[nodiscard]] typename Lanes::Floats scale(ParametersPlace at, int c) const {
        const auto scale = is_per_tensor() ? Lanes::broadcast(w_.scales, w_.scale) : parameter(at, 0, c);
        return field_.unit() == 1.0f ? scale : Lanes::multiply(scale, Lanes::set(field_.unit()));
    }
    [[nodiscard]] typename Lanes::Floats offset(ParametersPlace at, int c) const {
        return is_per_tensor() ? Lanes::broadcast(w_.offsets, w_.scale)
                               : parameter(at, places_.scales + places_.zeros, c);
    }
    [[nodiscard]] typename Lanes::Ints zero(ParametersPlace at, int c) const {
        const std::uint8_t* const p = tile(c) + at.group + places_.scales;
        const auto zero = w_.per_tensor              ? Lanes::set_int(w_.zeros[0] & ((1 << w_.bits) - 1))
                          : Field::Steps::field == 4 ? Lanes::nibbles_to_ints(p, channel(c))
                                                     : Lanes::bytes_to_ints(p + channel(c));
        return Lanes::add(zero, Lanes::set_int(Field::bias));
    }
    // Of scales and offsets of two levels: the upper ones, of the super-block of a group, and the group's own.
    [[nodiscard]] bool has_two_levels() const {
        return Known == Scales::two_levels || (Known == Scales::any && w_.super_groups != 0);
    }
    [[nodiscard]] typename Lanes::Floats upper_scale(ParametersPlace at, int c) const {
        const auto scale = upper(at, 0, c);
        return field_.unit() == 1.0f ? scale : Lanes::multiply(scale, Lanes::set(field_.unit()));
    }
    [[nodiscard]] typename Lanes::Floats lower_scale(ParametersPlace at, int c) const {
        return Lanes::load_signed(tile(c) + at.group + channel(c));
    }
    [[nodiscard]] typename Lanes::Floats upper_offset(ParametersPlace at, int c) const {
        return upper(at, places_.scales + places_.zeros, c);
    }
    // Of two groups, as words of 16 bits side by side.
    [[nodiscard]] typename Lanes::Ints lower_scales(ParametersPlace a, ParametersPlace b, int c) const {
        const std::uint8_t* const first = tile(c) + channel(c);
        return Lanes::load_signed_pairs(first + a.group, first + b.group);
    }
    [[nodiscard]] typename Lanes::Ints lower_offsets(ParametersPlace a, ParametersPlace b, int c) const {
        const std::uint8_t* const first = tile(c) + places_.scales + places_.zeros + channel(c);
        return Lanes::load_signed_pairs(first + a.group, first + b.group);
    }
    /// The code of 0 where groups have none of their own.
    [[nodiscard]] std::int32_t middle() const { return Field::bias + (w_.has_offsets ? 0 : w_.middle_code); }
    [[nodiscard]] const std::uint8_t* codes(std::size_t at) const { return tile_ + at; }
    /// From a tile to the one beside it: bytes of codes, and channels.
    [[nodiscard]] std::size_t apart() const { return span_ * w_.codes_stride_bytes; }
    [[nodiscard]] std::size_t across() const { return span_ * tile_channels; }
    /// use(address) of each line of the parameters before the codes at `codes`.
    void each_line_of(ParametersPlace at, std::size_t codes, auto&& use) const {
        for (std::size_t line = places_.begin(at); line < codes; line += vector_bytes) use(tile_ + line);
    }
    [[nodiscard]] const Field& field() const { return field_; }

private:
    /// Of register c: the first of its channels within their tile, and the tile.
    static std::size_t channel(int c) {
        return static_cast<std::size_t>(c % Lanes::registers) * Lanes::channels;
    }
    [[nodiscard]] const std::uint8_t* tile(int c) const {
        return tile_ + static_cast<std::size_t>(c / Lanes::registers) * (Tiles == 1 ? 0 : apart());
    }
    [[nodiscard]] bool is_per_tensor() const { return Known == Scales::any && w_.per_tensor; }
    /// The number of type `scale` that stands `before` bytes behind the first of its group; in super-blocks, times its factor.
    [[nodiscard]] typename Lanes::Floats parameter(ParametersPlace at, std::size_t before, int c) const {
        const std::uint8_t* const p = tile(c) + at.group + before;
        if (Known == Scales::halves) return Lanes::load(p, Scalar::f16, channel(c));
        if (Known == Scales::any && w_.super_groups == 0) return Lanes::load(p, w_.scale, channel(c));
        return Lanes::multiply(upper(at, before, c), Lanes::load_signed(p + channel(c)));
    }
    [[nodiscard]] typename Lanes::Floats upper(ParametersPlace at, std::size_t before, int c) const {
        return Lanes::load(tile(c) + at.super + before * scalar_bytes(Scalar::f16), Scalar::f16, channel(c));
    }

    const WeightsView& w_;
    std::size_t span_;
    const Field& field_;
    StreamPlaces places_;
    const std::uint8_t* tile_;
};

/// use(Constant of Scales), what a tile of `Rows` rows knows of those of w: only one row pays for versions of its own.
template <int Rows>
void with_scales_of(const WeightsView& w, auto&& use) {
    if constexpr (Rows == 1) {
        if (w.super_groups != 0) return use(Constant<Scales::two_levels>{});
        if (w.scale == Scalar::f16 && !w.per_tensor) return use(Constant<Scales::halves>{});
    }
    use(Constant<Scales::any>{});
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
