// What `fewbit curves` measures of methods: models that a method made, at equal formats, and remedies for outliers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fewbit/io/model_file.hpp"
#include "src/cli/method_options.hpp"
#include "src/cli/plan.hpp"

namespace fewbit::cli {

/// A curve: a method with its options, and what is done to the model before.
struct MethodCurve {
    std::string name;  ///< "gptq", "gptq, rotated"
    MethodOptions method;
    bool rotates = false;

    /// Its format of so many bits: int4-g64; with a real offset for hqq.
    [[nodiscard]] Format format(int bits) const;
};

/// Those that --methods may name, in the order of the picture: rtn, mse, hqq, awq, gptq, gptq-rotated, owq.
[[nodiscard]] const std::vector<MethodCurve>& method_curves();

/// W8A8 with outliers is rescued by what moves them, keeps them in float, or spreads them.
struct Remedy {
    std::string name;  ///< "SmoothQuant", "LLM.int8()", "rotated"
    MethodCurve how;
};
[[nodiscard]] const std::vector<Remedy>& remedies();

struct MethodModel {
    io::ModelFile file;
    double bits_per_weight = 0;            ///< whole model, per weight of the model as it came
    double quantized_bits_per_weight = 0;  ///< of the matrices that were quantized
};

/// A float model with every matrix quantized that `keep` does not match. `windows`: of calibration. Throws Failure.
[[nodiscard]] MethodModel quantize_for_method(const io::ModelFile& file, const MethodCurve& curve,
                                              const Format& format, const LayerPattern& keep,
                                              const std::vector<std::vector<int>>& windows,
                                              ExecutionContext context);

}  // namespace fewbit::cli
