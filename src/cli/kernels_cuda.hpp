// The part of `fewbit kernels` that tells what there is for CUDA.
#pragma once

#include <span>

#include "fewbit/formats/format.hpp"
#include "src/cli/command.hpp"
#include "src/cli/print.hpp"

namespace fewbit::cli {

void print_cuda_kernels();
/// The kernels, and which of `formats` they are chosen for.
[[nodiscard]] Json cuda_kernels_json(std::span<const Format> formats);

}  // namespace fewbit::cli
