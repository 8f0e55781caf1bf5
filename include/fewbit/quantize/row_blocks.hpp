// How methods cut a matrix into tasks: blocks of whole rows, by shape alone. Partial sums are kept per block
// and added in block order, so that the number of threads cannot change a result.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::detail {

struct RowBlocks {
    static constexpr std::size_t elements = 16384;  // enough work to be worth handing to a thread

    RowBlocks(std::size_t rows_, std::size_t cols)
        : rows(rows_),
          per_block(std::max<std::size_t>(1, elements / std::max<std::size_t>(1, cols))),
          count(ceil_div(rows_, per_block)) {}

    [[nodiscard]] std::size_t first(std::size_t block) const noexcept { return block * per_block; }
    [[nodiscard]] std::size_t last(std::size_t block) const noexcept {
        return std::min(rows, (block + 1) * per_block);
    }

    std::size_t rows;
    std::size_t per_block;
    std::size_t count;
};

/// "tensor 'name': ", or nothing for an empty name: how error sentences of this room begin.
[[nodiscard]] inline std::string tensor_prefix(std::string_view tensor) {
    return tensor.empty() ? std::string() : text("tensor '", tensor, "': ");
}

}  // namespace fewbit::inline v0::detail
