// What makes a ModelFile consistent: checked by the reader (files lie) and by the writer (so that ours do
// not).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::io::detail {

/// All counts zero: a bag of layers, not a decoder.
[[nodiscard]] bool no_architecture(const ModelShape& shape) noexcept;

/// Counts in range and fitting each other; no_architecture() passes too.
[[nodiscard]] Result<void> check_shape(const ModelShape& shape);

/// Words between single dots ("model.layers.0.mlp.up_proj"): no path, no NUL, no white space.
[[nodiscard]] Result<void> check_module_name(std::string_view name);

/// Parts of a layer against each other and against their ranges.
[[nodiscard]] Result<void> check_linear(std::string_view name, const Linear& linear);

/// Names of the architecture against its shape (layers that it does not know pass), matrices and vectors by
/// one name.
[[nodiscard]] Result<void> check_model(const ModelFile& model);

/// A matrix of the architecture against its shape, before anything of it is read.
[[nodiscard]] Result<void> check_matrix(const ModelShape& shape, std::string_view name, std::size_t rows,
                                        std::size_t cols);

/// Whether the architecture knows this layer name (of any layer number).
[[nodiscard]] bool known_name(std::string_view name);

/// For q_proj and k_proj: row r of the file is row order[r] of the ModelFile. Empty: the same order.
/// Error: n is not heads * head_dim.
[[nodiscard]] Result<std::vector<std::size_t>> rotary_row_order(const ModelShape& shape,
                                                                std::string_view name, std::size_t n);

}  // namespace fewbit::inline v0::io::detail
