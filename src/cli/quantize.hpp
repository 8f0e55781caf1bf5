// What the two halves of `fewbit quantize` share: into safetensors (quantize.cpp) and into GGUF
// (quantize_gguf.cpp).
#pragma once

#include <filesystem>
#include <string>

#include "src/cli/allocation.hpp"
#include "src/cli/quantize_model.hpp"
#include "src/cli/quantize_report.hpp"

namespace fewbit::cli {

struct QuantizeOptions {
    std::string model;
    std::string output;
    std::string tokenizer;
    std::string layout = "fewbit";  ///< of --layout
    std::string importance;         ///< file of --imatrix; empty: none
    PlanOptions plan;
    AllocationOptions allocation;
    CalibrationText calibration;
    CalibrationFiles files;
    bool dry_run = false;
};

/// What was calibrated with; nothing where nothing was.
void print_calibration(const QuantizedModel& quantized, const CalibrationFiles& files);

/// The part of the JSON that both write.
[[nodiscard]] Json quantize_json(const QuantizeOptions& options, const std::vector<QuantizeRow>& rows);

Status quantize_into_gguf(const QuantizeOptions& options, const std::filesystem::path& output,
                          Program& program);

}  // namespace fewbit::cli
