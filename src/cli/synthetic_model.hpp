// A llama of random weights in memory, for timing: nothing to download, and there in seconds.
#pragma once

#include "fewbit/core/executor.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::cli {

/// All matrices in `format`. A few Gaussian rows are quantized (rtn) and repeated. Matrices of one shape share
/// their bytes where `activations` choose a kernel whose layout is packed, and so copied, by a Transformer anyway.
[[nodiscard]] io::ModelFile synthetic_model(const io::ModelShape& shape, const Format& format,
                                            const ActivationFormat& activations, ExecutionContext context);

/// Elements of the matrices that every token is multiplied with, and of the head.
struct LinearElements {
    double layers = 0;
    double head = 0;
};
[[nodiscard]] LinearElements linear_elements(const io::ModelShape& shape);

}  // namespace fewbit::cli
