// Definitions of calibration.hpp.
#include "src/cli/calibration.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "fewbit/evaluate/corpus_windows.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"

namespace fewbit::cli {
namespace {

constexpr std::pair<const char*, pipeline::RangeRule> rules[] = {
    {"min-max", pipeline::RangeRule::min_max},
    {"moving-average", pipeline::RangeRule::moving_average},
    {"percentile", pipeline::RangeRule::percentile},
    {"mse", pipeline::RangeRule::mse}};

std::string name_of(pipeline::RangeRule rule) {
    for (const auto& [name, value] : rules)
        if (value == rule) return name;
    return "?";
}

}  // namespace

void add_calibration_options(CLI::App& command, CalibrationOptions& options) {
    command
        .add_option("--calibration", options.text,
                    "Text from which -static activations get their ranges; default: training documents of "
                    "the synthetic corpus")
        ->type_name("FILE");
    add_count(command, "--calibration-windows", options.windows, "Windows of it to run", 1)
        ->default_str("64");
    command
        .add_option_function<std::string>(
            "--range",
            [&options](const std::string& name) {
                for (const auto& [known, rule] : rules)
                    if (name == known) {
                        options.ranges.rule = rule;
                        return;
                    }
                throw CLI::ValidationError("--range", fmt::format("'{}' is not known; known are min-max, "
                                                                  "moving-average, percentile and mse",
                                                                  name));
            },
            "How ranges are chosen: min-max, moving-average, percentile, mse")
        ->type_name("RULE")
        ->default_str("min-max");
}

pipeline::StaticRanges calibrate(const io::ModelFile& file, const model::Tokenizer& tokenizer,
                                 const ActivationFormat& activations, const CalibrationOptions& options,
                                 ExecutionContext context) {
    if (!activations.is_static) return {};
    std::vector<evaluate::Window> windows;
    if (!options.text.empty()) {
        const Text text = load_text(options.text);
        evaluate::DocumentOptions cut;
        cut.context = std::min<std::size_t>(512, file.shape.context);
        windows = expect(evaluate::cut_windows(text.view(), cut, tokenizer));
    } else if (is_embedded_tokenizer(tokenizer)) {
        windows = expect(evaluate::corpus_windows({.part = evaluate::CorpusPart::training,
                                                   .documents = options.windows,
                                                   .context = file.shape.context},
                                                  tokenizer));
    } else {
        throw Failure(
            fmt::format("{} activations need ranges: name a text to calibrate with, --calibration "
                        "FILE",
                        name(activations)));
    }
    windows.resize(std::min(windows.size(), options.windows));
    std::vector<std::vector<int>> tokens;
    for (evaluate::Window& window : windows) tokens.push_back(std::move(window.tokens));
    return expect(pipeline::calibrate_static_ranges(file, tokens, activations, options.ranges, context));
}

std::string calibration_text(const CalibrationOptions& options) {
    return fmt::format("{} of {} windows of {}", name_of(options.ranges.rule), options.windows,
                       options.text.empty() ? "the synthetic corpus, training documents" : options.text);
}

Json calibration_json(const CalibrationOptions& options) {
    return {{"text", options.text.empty() ? "synthetic corpus" : options.text},
            {"windows", options.windows},
            {"rule", name_of(options.ranges.rule)}};
}

}  // namespace fewbit::cli
