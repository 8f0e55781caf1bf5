// Scalars as kernels of weights name them.
#pragma once

#include "fewbit/core/scalar_type.hpp"
#include "kernels/int_grouped/cuda/weights.hpp"

namespace fewbit::inline v0::cuda {

/// Precondition: f32, f16, bf16 or e8m0.
inline kernels::int_grouped_cuda::Number number_of(Scalar type) {
    using kernels::int_grouped_cuda::Number;
    switch (type) {
        case Scalar::f32: return Number::f32;
        case Scalar::f16: return Number::f16;
        case Scalar::bf16: return Number::bf16;
        default: return Number::e8m0;
    }
}

/// Of zero points and offsets.
inline kernels::int_grouped_cuda::Zero zero_of(const Format& format) {
    using kernels::int_grouped_cuda::Zero;
    return format.offset == Offset::none      ? Zero::middle
           : format.offset == Offset::integer ? Zero::integer
                                              : Zero::real;
}

/// Whether x or y may be of a type.
inline bool is_number(Scalar type) {
    return type == Scalar::f32 || type == Scalar::f16 || type == Scalar::bf16;
}

}  // namespace fewbit::inline v0::cuda
