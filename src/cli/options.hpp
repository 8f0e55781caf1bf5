// Options that several commands have: formats, activations, fallback policy. Bad names are refused while the
// command line is parsed, with the library's own sentence.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/matmul/kernel.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

/// A count from `least` to `most`: digits only, so that -1 is refused and not taken for 18446744073709551615.
[[nodiscard]] std::size_t parse_count(const std::string& option, const std::string& text, std::size_t least,
                                      std::size_t most);
CLI::Option* add_count(CLI::App& command, const std::string& option, std::size_t& value,
                       const std::string& description, std::size_t least = 0, std::size_t most = SIZE_MAX);

/// --format NAME (or another option name).
CLI::Option* add_format(CLI::App& command, const std::string& option, std::optional<Format>& format,
                        const std::string& description);
/// The same for a list: separated by commas or given several times.
CLI::Option* add_formats(CLI::App& command, const std::string& option, std::vector<Format>& formats,
                         const std::string& description);
/// Whether a command finds the ranges that static activations need (pipeline/static_ranges.hpp). Where it
/// does not, their names are refused.
enum class StaticActivations : std::uint8_t { refused, calibrated };
/// The format that `name` stands for; otherwise CLI11's error with the reason.
[[nodiscard]] ActivationFormat parse_activations(const std::string& option, const std::string& name,
                                                 StaticActivations ranges);
/// --activations NAME; `activations` holds the default, which the help shows.
CLI::Option* add_activations(CLI::App& command, ActivationFormat& activations,
                             StaticActivations ranges = StaticActivations::refused);
/// The same for a list: separated by commas or given several times.
CLI::Option* add_activation_list(CLI::App& command, std::vector<ActivationFormat>& activations,
                                 StaticActivations ranges = StaticActivations::refused);
/// --fallback refuse|allow; `fallback` holds the default, which the help shows.
CLI::Option* add_fallback(CLI::App& command, Fallback& fallback);

}  // namespace fewbit::cli
