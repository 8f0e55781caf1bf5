// The factor of an inverse that error feedback runs on: U, upper triangular, with H^-1 = U^T U.
//
// GPTQ's reference factors H, inverts it and factors the inverse again. Read from its last row and column to its
// first, H has a factor L L^T whose inverse is U read backwards: one factorization and one triangular inverse, half of
// the work and fewer roundings.
#pragma once

#include <cstddef>
#include <span>

#include "fewbit/core/executor.hpp"

namespace fewbit::inline v0::detail {

/// Turns the symmetric H (k, k), whose upper triangle is read, into U in place; below the diagonal U has zeros. False,
/// and `h` is of no use: H is not positive definite. The bits depend on H alone.
[[nodiscard]] bool invert_to_factor(std::span<double> h, std::size_t k, ExecutionContext context);

}  // namespace fewbit::inline v0::detail
