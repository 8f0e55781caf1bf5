// What loops over panels and tiles share (int8.hpp, floats.hpp): parts of K, numbers that are known when a tile is
// compiled, and weights that are fetched ahead.
#pragma once

#include "kernels/tile16/constants.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// A value that is known when a tile is compiled, because branches on it would cost registers.
template <auto Value>
struct Constant {
    constexpr operator decltype(Value)() const { return Value; }
};

/// A where it is so, else B.
template <bool, class A, class B>
struct Either {
    using Type = A;
};
template <class A, class B>
struct Either<false, A, B> {
    using Type = B;
};

/// use(Constant of count), for a count of 1 to Most that is known when it runs.
template <int Most>
void with_constant(std::size_t count, auto&& use) {
    if constexpr (Most > 1) {
        if (count != Most) return with_constant<Most - 1>(count, use);
    }
    use(Constant<Most>{});
}

/// use(Constant of i) for each i below Count.
template <int Count, int I = 0>
[[gnu::always_inline]] inline void for_each(auto&& use) {
    if constexpr (I < Count) {
        use(Constant<I>{});
        for_each<Count, I + 1>(use);
    }
}

/// Whether all rows of the call (not of a part of it) are few: they run straight from the stream.
template <class Lanes>
bool is_few(const KernelCall& call) {
    return call.x.m <= static_cast<std::size_t>(Lanes::few_rows);
}

/// The length of equal parts of `whole`: a multiple of `unit`, `most` (which is one) or less.
constexpr std::size_t equal_part(std::size_t whole, std::size_t most, std::size_t unit) {
    const std::size_t parts = (whole + most - 1) / most;
    return smaller(most, ((whole + parts - 1) / parts + unit - 1) / unit * unit);
}

/// Weights that a tile fetches while there is nothing but arithmetic: `lines` of them with every fetch_steps of its steps.
/// (Left to the first reads of the next panel, memory would be waited for.)
struct Ahead {
    const std::uint8_t* next = nullptr;
    const std::uint8_t* end = nullptr;
    std::size_t lines = 0;

    template <class Lanes>
    [[gnu::always_inline]] void fetch() {
        for (std::size_t i = 0; i < lines && next < end; ++i, next += vector_bytes) Lanes::fetch_ahead(next);
    }
};
constexpr std::size_t fetch_steps = 32;

/// The codes of the panel that follows, dealt out to the tiles that run over this one.
class NextPanel {
public:
    NextPanel() = default;  ///< none follows
    /// [begin, end): its codes; `tiles`: how many share in fetching them.
    NextPanel(const std::uint8_t* begin, const std::uint8_t* end, std::size_t tiles)
        : next_(begin),
          end_(end),
          lines_((static_cast<std::size_t>(end - begin) + tiles * vector_bytes - 1) /
                 (tiles * vector_bytes)) {}

    /// What the next tile fetches, in `steps` steps.
    Ahead of_tile(std::size_t steps) {
        const std::uint8_t* const first = next_;
        next_ += smaller(lines_ * vector_bytes, static_cast<std::size_t>(end_ - next_));
        return {first, next_, (lines_ * fetch_steps + steps - 1) / steps};
    }

private:
    const std::uint8_t *next_ = nullptr, *end_ = nullptr;
    std::size_t lines_ = 0;  ///< for each tile
};

/// All codes of the panel after the one of `channels` at n, for tiles of `tile_rows` rows and `chunk` elements of K.
inline NextPanel next_panel(const KernelCall& call, const Rectangle& part, std::size_t n,
                            std::size_t channels, std::size_t tile_rows, std::size_t chunk) {
    if (n + channels >= part.n_end) return {};
    const std::size_t first = (n + channels) / tile_channels,
                      last = tiles_of(smaller(n + 2 * channels, part.n_end));
    return {call.w.codes + first * call.w.codes_stride_bytes, call.w.codes + last * call.w.codes_stride_bytes,
            ((part.m_end - part.m_begin + tile_rows - 1) / tile_rows) * ((call.w.k + chunk - 1) / chunk)};
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
