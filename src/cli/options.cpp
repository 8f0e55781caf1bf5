// Options that several commands have.
#include "src/cli/options.hpp"

#include <CLI/CLI.hpp>
#include <charconv>

namespace fewbit::cli {
namespace {

/// A parsed name, or CLI11's error, which main turns into a message.
template <class T>
T accepted(const std::string& option, Result<T> parsed) {
    if (!parsed) throw CLI::ValidationError(option, parsed.error().message);
    return *std::move(parsed);
}

const char* activation_grammar(StaticActivations ranges) {
    return ranges == StaticActivations::refused ? "int<2..8>-<row|g<n>|tensor>[-asym]"
                                                : "int<2..8>-<row|g<n>|tensor>[-asym][-static]";
}

}  // namespace

std::size_t parse_count(const std::string& option, const std::string& text, std::size_t least,
                        std::size_t most) {
    const char* end = text.data() + text.size();
    std::size_t number = 0;
    const auto parsed = std::from_chars(text.data(), end, number);
    if (parsed.ec == std::errc() && parsed.ptr == end && number >= least && number <= most) return number;
    const std::string range =
        most == SIZE_MAX ? fmt::format("from {} up", least) : fmt::format("from {} to {}", least, most);
    throw CLI::ValidationError(option, fmt::format("'{}' is not a number {}", text, range));
}

CLI::Option* add_count(CLI::App& command, const std::string& option, std::size_t& value,
                       const std::string& description, std::size_t least, std::size_t most) {
    return command
        .add_option_function<std::string>(
            option,
            [option, &value, least, most](const std::string& text) {
                value = parse_count(option, text, least, most);
            },
            description)
        ->type_name("N");
}

CLI::Option* add_format(CLI::App& command, const std::string& option, std::optional<Format>& format,
                        const std::string& description) {
    return command
        .add_option_function<std::string>(
            option,
            [option, &format](const std::string& name) { format = accepted(option, parse_format(name)); },
            description)
        ->type_name("FORMAT");
}

CLI::Option* add_formats(CLI::App& command, const std::string& option, std::vector<Format>& formats,
                         const std::string& description) {
    return command
        .add_option_function<std::vector<std::string>>(
            option,
            [option, &formats](const std::vector<std::string>& names) {
                formats.clear();
                for (const std::string& name : names) formats.push_back(accepted(option, parse_format(name)));
            },
            description)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("FORMAT,...");
}

ActivationFormat parse_activations(const std::string& option, const std::string& name,
                                   StaticActivations ranges) {
    const ActivationFormat format = accepted(option, parse_activation_format(name));
    if (format.is_static && ranges == StaticActivations::refused)
        throw CLI::ValidationError(
            option, fmt::format("'{}' needs the ranges of every layer's inputs, and this command does not "
                                "calibrate them; formats without -static find theirs in x",
                                name));
    return format;
}

CLI::Option* add_activations(CLI::App& command, ActivationFormat& activations, StaticActivations ranges) {
    return command
        .add_option_function<std::string>(
            "--activations",
            [&activations, ranges](const std::string& name) {
                activations = parse_activations("--activations", name, ranges);
            },
            fmt::format(
                "How activations enter the products: f32 (exact), bf16 or {}, as in int8-row, int8-g32",
                activation_grammar(ranges)))
        ->type_name("NAME")
        ->default_str(name(activations));
}

CLI::Option* add_activation_list(CLI::App& command, std::vector<ActivationFormat>& activations,
                                 StaticActivations ranges) {
    std::string defaults = activations.empty() ? "int8 as it suits the weights" : "";
    for (const ActivationFormat& format : activations)
        defaults += (defaults.empty() ? "" : ",") + name(format);
    return command
        .add_option_function<std::vector<std::string>>(
            "--activations",
            [&activations, ranges](const std::vector<std::string>& names) {
                activations.clear();
                for (const std::string& name : names)
                    activations.push_back(parse_activations("--activations", name, ranges));
            },
            fmt::format(
                "How activations enter the products: f32 (exact), bf16 or {}, as in int8-row, int8-g32; "
                "float weights take f32 where integers are asked for",
                activation_grammar(ranges)))
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("NAME,...")
        ->default_str(defaults);
}

CLI::Option* add_fallback(CLI::App& command, Fallback& fallback) {
    return command
        .add_option_function<std::string>(
            "--fallback",
            [&fallback](const std::string& word) {
                if (word != "refuse" && word != "allow")
                    throw CLI::ValidationError(
                        "--fallback", fmt::format("'{}' is not known; known are refuse and allow", word));
                fallback = word == "allow" ? Fallback::allow : Fallback::refuse;
            },
            "What to do where only a slow kernel fits: refuse or allow")
        ->type_name("POLICY")
        ->default_str(fallback == Fallback::allow ? "allow" : "refuse");
}

}  // namespace fewbit::cli
