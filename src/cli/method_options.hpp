// How codes are chosen: --method and what some methods ask besides.
#pragma once

#include <optional>
#include <string>

#include "fewbit/quantize/quantize.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

struct MethodOptions {
    std::string name = "rtn";
    GptqOptions gptq;  ///< of owq too
    std::size_t awq_rows = AwqOptions{}.rows;
    double extra_bits = OwqOptions{}.extra_bits;
    double threshold = LlmInt8Options{}.threshold;
    std::optional<double> smooth;  ///< alpha of SmoothQuant, before the method

    /// The method with its options.
    [[nodiscard]] Method method() const;
    /// It wants a calibration text.
    [[nodiscard]] bool calibrates() const { return smooth || needs_statistics(method()); }
    /// Why only fewbit's own files hold what it makes; empty: others may, too.
    [[nodiscard]] std::string own_files_only() const;
};

/// --method, --smooth; --column-order, --grid, --static-groups, --damping, --asymmetry; --awq-rows; --extra-bits;
/// --threshold.
void add_method_options(CLI::App& command, MethodOptions& options);

/// The options that the method reads, as JSON; null for methods without.
[[nodiscard]] Json method_json(const MethodOptions& options);

}  // namespace fewbit::cli
