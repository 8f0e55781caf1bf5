// q4_0 to q8_0 without importance: the scale from the extremes of a block, codes by rounding. Extremes need no order, so
// neighbours of a block go side by side here; blocks do so only for what is computed once per block. Kernel files
// include this header; see lanes.hpp.
#pragma once

#include "fewbit/formats/ggml/lane_job.hpp"
#include "fewbit/formats/ggml/lanes.hpp"

namespace fewbit::inline v0::ggml::detail {

/// 1 / d, and 0 where that is no number: then all codes are those of zero.
template <class F>
[[nodiscard]] F inverse_of_scale(F d) noexcept {
    constexpr float largest_float = 3.4028234663852886e38f;
    const F inverse = F(1.0f) / d;
    return select(abs(inverse) <= F(largest_float), inverse, F(0.0f));
}

/// F::lanes blocks of a job; those beyond the last repeat it.
template <class F>
class OnePassBatch {
public:
    static constexpr std::size_t lanes = F::lanes, n = 32;

    OnePassBatch(const LaneJob& job, std::size_t first) noexcept : job_(job) {
        for (std::size_t l = 0; l < lanes; ++l) {
            block_[l] = first + l < job.groups ? first + l : job.groups - 1;
            row_[l] = job.x + block_[l] * n;
        }
        find_extremes();
    }

    void run() noexcept {
        const auto most = static_cast<float>(job_.most);
        switch (job_.task) {
            case LaneTask::to_end: return to_end(most);
            case LaneTask::range: return range(most);
            default: return q8_0();
        }
    }

private:
    using V = typename F::Part;
    static constexpr std::size_t width = V::lanes, parts = n / width, columns = width < 4 ? 4 : width;

    void find_extremes() noexcept {
        float high[lanes][columns], low[lanes][columns];
        for (std::size_t l = 0; l < lanes; ++l)
            for (std::size_t c = 0; c < columns; c += width) {
                V most = V::load(row_[l] + c), least = most;
                for (std::size_t i = c + columns; i < n; i += columns) {
                    const V x = V::load(row_[l] + i);
                    most = max(x, most);
                    least = min(x, least);
                }
                most.store(high[l] + c);
                least.store(low[l] + c);
            }
        F each[columns];
        for (std::size_t c = 0; c < columns; c += 4)
            F::load4([&](std::size_t l) { return high[l] + c; }, each + c);
        high_ = each[0];
        for (std::size_t c = 1; c < columns; ++c) high_ = max(each[c], high_);
        for (std::size_t c = 0; c < columns; c += 4)
            F::load4([&](std::size_t l) { return low[l] + c; }, each + c);
        low_ = each[0];
        for (std::size_t c = 1; c < columns; ++c) low_ = min(each[c], low_);
    }

    /// The weight of largest magnitude is code 0, and x * inverse >= -most but for a rounding.
    void to_end(float most) noexcept {
        const F size = F(-0.0f) - low_;
        F m = select(high_ < size, low_, high_);
        if (any(high_ == size, m)) m = first_of_largest(m);
        const F d = m / F(-most);
        put_half(d, 0);
        put_codes(inverse_of_scale(d), F(0.0f),
                  [half = V(most + 0.5f), last = V(2 * most - 1)](V x, V inverse, V) {
                      return truncate(min(x * inverse + half, last));
                  });
    }
    /// From the smallest to the largest weight.
    void range(float most) noexcept {
        if (any(low_ == F(0.0f), low_)) first_zeros();
        const F d = (high_ - low_) / F(most);
        put_half(d, 0);
        put_half(low_, 2);
        put_codes(inverse_of_scale(d), low_, [last = V(most)](V x, V inverse, V low) {
            // No number, where the range overflows, becomes 0.
            return truncate(min(max((x - low) * inverse + V(0.5f), V(0.0f)), last));
        });
    }
    /// To the nearest integer, halves away from zero: the largest float below 1/2 is added before the fraction is cut
    /// off; where x * inverse ends in 1/2, that sum rounds up. Nothing exceeds 127 by more than a rounding.
    void q8_0() noexcept {
        const F d = max(high_, F(0.0f) - low_) / F(127.0f);
        put_half(d, 0);
        put_codes(inverse_of_scale(d), F(0.0f), [](V x, V inverse, V) {
            const V v = x * inverse;
            return v + copysign(V(0.49999997f), v);
        });
    }

    /// Where both signs reach the largest magnitude, the first one counts; nothing but zeros: +0.
    [[nodiscard]] F first_of_largest(F m) const noexcept {
        float each[lanes];
        m.store(each);
        for (std::size_t l = 0; l < lanes; ++l) {
            const float size = each[l] < 0 ? -each[l] : each[l];
            std::size_t i = 0;
            while (i + 1 < n && row_[l][i] != size && row_[l][i] != -size) ++i;
            each[l] = size == 0 ? 0.0f : row_[l][i];
        }
        return F::load(each);
    }
    /// The sign of a zero is that of the first one.
    void first_zeros() noexcept {
        float low[lanes], high[lanes];
        low_.store(low);
        high_.store(high);
        for (std::size_t l = 0; l < lanes; ++l) {
            if (low[l] != 0) continue;
            std::size_t i = 0;
            while (i + 1 < n && row_[l][i] != 0) ++i;
            low[l] = row_[l][i];
            if (high[l] == 0) high[l] = low[l];
        }
        low_ = F::load(low);
        high_ = F::load(high);
    }

    void put_half(F values, std::size_t at) const noexcept {
        std::uint16_t each[lanes];
        values.store_halves(each);
        for (std::size_t l = 0; l < lanes; ++l) {
            std::uint8_t* const to = job_.halves + block_[l] * job_.half_stride + at;
            to[0] = static_cast<std::uint8_t>(each[l]);
            to[1] = static_cast<std::uint8_t>(each[l] >> 8);
        }
    }
    template <class Code>
    void put_codes(F inverses, F shifts, Code code) const noexcept {
        float inverse[lanes], shift[lanes];
        inverses.store(inverse);
        shifts.store(shift);
        for (std::size_t l = 0; l < lanes; ++l) {
            const V by = inverse[l], from = shift[l];
            std::uint8_t* const out = job_.codes + block_[l] * job_.code_stride;
            V codes[parts];
            for (std::size_t j = 0; j < parts; ++j) codes[j] = code(V::load(row_[l] + width * j), by, from);
            if (job_.nibbles) {
                for (std::size_t j = 0; j < parts / 2; ++j)
                    codes[j] = codes[j] + V(16.0f) * codes[parts / 2 + j];
                V::store_row(codes, parts / 2, out);
            } else {
                V::store_row(codes, parts, out);
            }
        }
    }

    const LaneJob& job_;
    std::size_t block_[lanes];
    const float* row_[lanes];
    F high_, low_;
};

}  // namespace fewbit::inline v0::ggml::detail
