// How codes are chosen: --method and what some methods ask besides.
#pragma once

#include <optional>
#include <string>

#include "fewbit/quantize/quantize.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

struct MethodOptions {
    std::string name = "rtn";
    GptqOptions gptq;
    std::optional<double> smooth;  ///< alpha of SmoothQuant, before the method

    /// The method with its options.
    [[nodiscard]] Method method() const;
    /// It wants a calibration text.
    [[nodiscard]] bool calibrates() const { return smooth || needs_statistics(method()); }
};

/// --method, --smooth; --column-order, --grid, --damping, --asymmetry.
void add_method_options(CLI::App& command, MethodOptions& options);

/// The options that the method reads, as JSON; null for methods without.
[[nodiscard]] Json method_json(const MethodOptions& options);

}  // namespace fewbit::cli
