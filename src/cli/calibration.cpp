// Definitions of calibration.hpp.
#include "src/cli/calibration.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

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

constexpr std::size_t range_windows = 64;  ///< for ranges, unless told

std::string name_of(pipeline::RangeRule rule) {
    for (const auto& [name, value] : rules)
        if (value == rule) return name;
    return "?";
}

}  // namespace

void add_calibration_text(CLI::App& command, CalibrationText& options) {
    command
        .add_option("--calibration", options.text,
                    "Text for methods that calibrate, and for -static activations; default: training "
                    "documents of the "
                    "synthetic corpus")
        ->type_name("FILE");
    command
        .add_option("--calibration-split", options.split,
                    "What stands between documents of it; default: it is one document")
        ->type_name("MARK");
    command
        .add_option_function<std::size_t>(
            "--calibration-windows", [&options](std::size_t windows) { options.windows = windows; },
            "Windows of it to run; default: 65,536 tokens for methods, 64 windows for ranges")
        ->type_name("N")
        ->check(CLI::PositiveNumber);
}

std::vector<std::vector<int>> calibration_windows(const CalibrationText& options,
                                                  const model::Tokenizer& tokenizer, std::size_t context,
                                                  std::size_t tokens, const std::string& purpose) {
    std::vector<evaluate::Window> windows;
    if (!options.text.empty()) {
        const Text text = load_text(options.text);
        evaluate::DocumentOptions cut;
        cut.split = options.split;
        cut.context = context;
        windows = expect(evaluate::cut_windows(text.view(), cut, tokenizer));
    } else if (is_embedded_tokenizer(tokenizer)) {
        evaluate::CorpusOptions corpus;
        corpus.part = evaluate::CorpusPart::training;
        corpus.documents = options.windows.value_or(tokens / 16 + 1);  // documents have about 32 tokens
        corpus.context = context;
        windows = expect(evaluate::corpus_windows(corpus, tokenizer));
    } else {
        throw Failure(fmt::format("{}: name a text to calibrate with, --calibration FILE", purpose));
    }
    std::vector<std::vector<int>> out;
    std::size_t count = 0;
    for (evaluate::Window& window : windows) {
        if (options.windows ? out.size() == *options.windows : count >= tokens) break;
        count += window.tokens.size();
        out.push_back(std::move(window.tokens));
    }
    if (out.empty())
        throw Failure(fmt::format("{}: '{}' has no tokens to calibrate with", purpose, options.text));
    return out;
}

void add_calibration_options(CLI::App& command, CalibrationOptions& options) {
    add_calibration_text(command, options.source);
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
    CalibrationText source = options.source;
    source.windows = source.windows.value_or(range_windows);
    const auto tokens = calibration_windows(source, tokenizer, std::min<std::size_t>(512, file.shape.context),
                                            0, fmt::format("{} activations need ranges", name(activations)));
    return expect(pipeline::calibrate_static_ranges(file, tokens, activations, options.ranges, context));
}

std::string calibration_text(const CalibrationOptions& options) {
    return fmt::format(
        "{} of {} windows of {}", name_of(options.ranges.rule),
        options.source.windows.value_or(range_windows),
        options.source.text.empty() ? "the synthetic corpus, training documents" : options.source.text);
}

Json calibration_json(const CalibrationOptions& options) {
    return {{"text", options.source.text.empty() ? "synthetic corpus" : options.source.text},
            {"windows", options.source.windows.value_or(range_windows)},
            {"rule", name_of(options.ranges.rule)}};
}

}  // namespace fewbit::cli
