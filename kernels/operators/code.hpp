// The table of one build, from its registers.
#pragma once

#include "fewbit/model/operator_code.hpp"
#include "kernels/operators/attention.hpp"
#include "kernels/operators/rows.hpp"

namespace fewbit::inline v0::kernels {
namespace {

template <class V>
constexpr model::OperatorCode operators_of(Isa isa) {
    return {isa,        rms_norm_row<V>, rope_row<V>,     silu_multiply_row<V>,
            add_row<V>, attend_keys<V>,  attend_values<V>};
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
