// Work on rows that do not depend on each other, over the lanes of an executor.
#pragma once

#include <algorithm>
#include <cstddef>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/executor.hpp"

namespace fewbit::inline v0::model {

/// body(row) for all rows: here if there is little to do, else in blocks over the lanes. `row_cost`: element operations.
template <class Body>
void for_rows(ExecutionContext context, std::size_t rows, std::size_t row_cost, Body&& body) {
    constexpr std::size_t worth_a_region = 8192;  // below which waking other threads costs more
    const std::size_t per_task =
        std::max<std::size_t>(1, worth_a_region / (4 * std::max<std::size_t>(row_cost, 1)));
    const std::size_t tasks = ceil_div(rows, per_task);
    if (context.workers() == 1 || tasks <= 4) {
        for (std::size_t row = 0; row < rows; ++row) body(row);
        return;
    }
    context.parallel_for(tasks, [&](std::size_t task, std::size_t) {
        for (std::size_t row = task * per_task; row < std::min(rows, (task + 1) * per_task); ++row) body(row);
    });
}

}  // namespace fewbit::inline v0::model
