// e^x and 2^x, within 2 units in the last place where the result is normal; tested against libm in double.
//
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by a polynomial of degree 6 whose error is 4e-9 (a least maximum,
// with the first two coefficients held at 1 so that e^0 is 1); 2^n by its exponent bits. What is below 2^-126
// is 0, so that masked scores weigh nothing. NaN stays NaN: it is the second operand of min and max.
#pragma once

#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
constexpr float integer_shift = 12582912.0f;

/// e^r * 2^n, where `shifted` is n + integer_shift.
template <class V>
[[nodiscard]] inline V scaled_exponential(V r, V shifted) {
    V p = V::set(0.0013814597623422742f);
    p = fma(p, r, V::set(0.008368716575205326f));
    p = fma(p, r, V::set(0.04166838899254799f));
    p = fma(p, r, V::set(0.1666652113199234f));
    p = fma(p, r, V::set(0.4999999403953552f));
    p = fma(p, r, V::set(1.0f));
    p = fma(p, r, V::set(1.0f));
    return p * power_of_two(shifted);
}

template <class V>
[[nodiscard]] inline V exponential(V x) {
    const V smallest = V::set(-87.33654f), largest = V::set(88.3f);
    const V inside = min(largest, max(smallest, x));
    const V shifted = fma(inside, V::set(1.44269504f), V::set(integer_shift));
    const V n = shifted - V::set(integer_shift);
    // ln 2 in two parts; the product of the first with n is exact even without a fused operation.
    const V r = fma(n, V::set(2.12194440e-4f), fma(n, V::set(-0.693359375f), inside));
    return zero_below(x, smallest, scaled_exponential(r, shifted));
}

/// For x <= 0.
template <class V>
[[nodiscard]] inline V power_of_two_of(V x) {
    const V smallest = V::set(-126.0f);
    const V inside = max(smallest, x);
    const V shifted = inside + V::set(integer_shift);
    const V r = (inside - (shifted - V::set(integer_shift))) * V::set(0.69314718f);
    return zero_below(x, smallest, scaled_exponential(r, shifted));
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
