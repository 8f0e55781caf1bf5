// What products ask of y and of their workspace.
#pragma once

#include <cstddef>

#include "fewbit/core/text.hpp"
#include "fewbit/cuda/matmul.hpp"
#include "src/cuda/number.hpp"

namespace fewbit::inline v0::cuda {

/// Error: y is not (rows, n) of numbers.
inline Result<void> check_y(const View& y, std::size_t rows, std::size_t n) {
    if (y.rows == rows && y.cols == n && y.stride >= y.cols && is_number(y.type)) return {};
    return fail(ErrorKind::bad_input, "y is (", y.rows, ", ", y.cols, ") of ", name(y.type),
                " with a stride of ", y.stride, "; this product gives (", rows, ", ", n,
                ") in f32, f16 or bf16");
}

/// Error: the product needs more.
inline Result<void> check_workspace(const WorkspaceSize& has, const WorkspaceSize& needed) {
    if (has.counters >= needed.counters && has.bytes >= needed.bytes) return {};
    return fail(ErrorKind::bad_input, "the workspace has ", has.bytes, " bytes and ", has.counters,
                " counters; this product needs ", needed.bytes, " and ", needed.counters);
}

}  // namespace fewbit::inline v0::cuda
