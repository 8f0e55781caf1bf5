// Matrices drawn from known distributions, on which theory says what a quantizer can reach
// (evaluate/theory.hpp). Seeded: the same numbers in every run of one build. (Across C libraries log, sin and
// cos may differ in the last bit.)
#pragma once

#include <cstddef>
#include <cstdint>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/tensor.hpp"

namespace fewbit::inline v0::evaluate {

/// (rows, cols) independent standard normal numbers. Every row has its own stream of the seed.
[[nodiscard]] FEWBIT_API Matrix gaussian_matrix(std::size_t rows, std::size_t cols, std::uint64_t seed,
                                                ExecutionContext context = {});

/// The same from Student's t with `degrees` degrees of freedom (at least 3, or there is no variance), not
/// rescaled: the variance is degrees / (degrees - 2). Heavy tails: with 5 degrees the kurtosis is 9, a
/// Gaussian's is 3.
[[nodiscard]] FEWBIT_API Matrix student_t_matrix(std::size_t rows, std::size_t cols, int degrees,
                                                 std::uint64_t seed, ExecutionContext context = {});

/// How far Shannon's lower bound for Student's t lies above the Gaussian's, in dB of SQNR: no quantizer of R
/// bits per sample exceeds 6.02 R dB plus this. 10 log10(2 pi e variance / exp(2 h)), h the differential
/// entropy in nats.
[[nodiscard]] FEWBIT_API double student_t_bound_db(int degrees) noexcept;

}  // namespace fewbit::inline v0::evaluate
