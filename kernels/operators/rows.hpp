// Operators on one row: templates over the registers of an instruction set (Lanes, README.md). They have
// internal linkage, because Lanes lies in the unnamed namespace of a kernel file.
#pragma once

#include <cmath>
#include <cstddef>

#include "kernels/operators/exponential.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// body(first, count) for runs of a register; count is less than one in the last run alone.
template <class V, class Whole, class Part>
void for_registers(std::size_t count, Whole&& whole, Part&& part) {
    std::size_t i = 0;
    for (; i + V::lanes <= count; i += V::lanes) whole(i);
    if (i < count) part(i, count - i);
}

template <class V>
void rms_norm_row(const float* x, const float* gain, float epsilon, float* y, std::size_t count) noexcept {
    typename V::Squares squares;
    for_registers<V>(
        count, [&](std::size_t i) { squares.add(V::load(x + i)); },
        [&](std::size_t i, std::size_t n) { squares.add(V::load_part(x + i, n)); });
    const double mean = squares.total() / static_cast<double>(count == 0 ? 1 : count);
    const V scale = V::set(static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(epsilon))));
    for_registers<V>(
        count, [&](std::size_t i) { (V::load(x + i) * scale * V::load(gain + i)).store(y + i); },
        [&](std::size_t i, std::size_t n) {
            (V::load_part(x + i, n) * scale * V::load_part(gain + i, n)).store_part(y + i, n);
        });
}

template <class V>
void rope_row(float* x, const float* turns, std::size_t heads, std::size_t head_dim) noexcept {
    const std::size_t paired = head_dim / 2 * 2;
    for (std::size_t head = 0; head < heads; ++head, x += head_dim)
        for_registers<V>(
            paired, [&](std::size_t i) { rotate(V::load(x + i), V::load(turns + i)).store(x + i); },
            [&](std::size_t i, std::size_t n) {
                rotate(V::load_part(x + i, n), V::load_part(turns + i, n)).store_part(x + i, n);
            });
}

template <class V>
void silu_multiply_row(float* gate, const float* up, std::size_t count) noexcept {
    // Where the exponential no longer grows the result is nearer to 0 than any normal float is to 1.
    const auto both = [](V g, V u) {
        const V silu = g / (V::set(1.0f) + exponential(V::set(0.0f) - g));
        return zero_below(g, V::set(-88.3f), silu) * u;
    };
    for_registers<V>(
        count, [&](std::size_t i) { both(V::load(gate + i), V::load(up + i)).store(gate + i); },
        [&](std::size_t i, std::size_t n) {
            both(V::load_part(gate + i, n), V::load_part(up + i, n)).store_part(gate + i, n);
        });
}

template <class V>
void add_row(float* x, const float* y, std::size_t count) noexcept {
    for_registers<V>(
        count, [&](std::size_t i) { (V::load(x + i) + V::load(y + i)).store(x + i); },
        [&](std::size_t i, std::size_t n) {
            (V::load_part(x + i, n) + V::load_part(y + i, n)).store_part(x + i, n);
        });
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
