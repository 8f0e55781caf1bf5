// How far a kernel may be from reference::matmul().
//
// u = 2^-24. Kernels sum T rounded terms whose magnitudes add up to at most S = sum |x||w| +
// |bias| (reference::matmul returns it); any order of summation errs by at most (T + c) u S / (1 - (T + c)
// u). f32 and bf16 activations: T = K, c = 4 (dequantization rounds up to three times, the bias once). bf16 (the reference
// has x rounded): tuned kernels round weights to bf16 too, each by at most 2^-8 of it. int8: the
// integer sums are exact; T = pieces between two scales, c = 6, doubled for a real offset, which adds a term
// per piece. Asymmetric int8: S counts |code| + |zero|; the correction adds one rounding to f32, and those of
// its doubles, groups * 2^-53, are less than another: c = 8.
#pragma once

#include <cstddef>

#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/matmul/reference.hpp"

namespace fewbit::testing {

/// `magnitude`: S.
inline double tolerance(Isa isa, const Format& format, const ActivationFormat& activations, std::size_t k,
                        double magnitude) {
    double terms = static_cast<double>(k) + 4;
    if (activations.element == ActivationElement::int8) {
        const double pieces =
            static_cast<double>(format.groups_per_row(k) + activations.groups_per_row(k) + k / 1024);
        terms = (format.offset == Offset::real ? 2 : 1) * pieces + (activations.asymmetric ? 8 : 6);
    }
    const double error = terms * 0x1p-24;
    return (error / (1 - error) + reference::weight_rounding(isa, format, activations)) * magnitude +
           static_cast<double>(k + 1) * 0x1p-149;
}

}  // namespace fewbit::testing
