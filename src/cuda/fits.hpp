// What operators ask of the matrices that they are given.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/cuda/matmul.hpp"
#include "kernels/operators/cuda/launch.hpp"
#include "src/cuda/number.hpp"

namespace fewbit::inline v0::cuda {

namespace operators = kernels::operators_cuda;

inline constexpr std::size_t most_positions = std::size_t{1} << 30;
inline constexpr std::size_t most_rows_of_views = std::size_t{1} << 20;

inline std::string shape_of(const View& view) {
    return text("(", view.rows, ", ", view.cols, ") of ", name(view.type), " with a stride of ", view.stride);
}
/// Error: not (rows, cols) of numbers in rows that do not overlap.
inline Result<void> fits(std::string_view what, const View& view, std::size_t rows, std::size_t cols) {
    if (view.rows == rows && view.cols == cols && view.stride >= cols && is_number(view.type) &&
        rows <= most_rows_of_views && cols <= most_positions)
        return {};
    return fail(ErrorKind::bad_input, what, " is ", shape_of(view), "; it has to be (", rows, ", ", cols,
                ") of f32, f16 or bf16, with at most ", most_rows_of_views, " rows");
}
template <class... Results>
Result<void> first_error(Results&&... results) {
    Result<void> out;
    const auto take = [&](Result<void>& result) {
        if (out && !result) static_cast<void>(out = std::move(result));
    };
    (take(results), ...);
    return out;
}

}  // namespace fewbit::inline v0::cuda
