// Definitions of quantize_model.hpp.
#include "src/cli/quantize_model.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace fewbit::cli {
namespace {

/// Tokens that methods calibrate with, unless told.
constexpr std::size_t method_tokens = 65536, longest_window = 2048;

using Outcomes = std::map<std::string, pipeline::LayerOutcome, std::less<>>;

/// Layers that the plan changes. Throws Failure: one of them is quantized already.
std::map<std::string, pipeline::LayerChoice> choices_of(const io::ModelFile& model,
                                                        const std::vector<PlannedLayer>& plan,
                                                        const Method& method) {
    std::map<std::string, pipeline::LayerChoice> choices;
    for (const PlannedLayer& planned : plan) {
        const Format before = model.linears.at(planned.name).weights.format();
        if (!planned.format || *planned.format == before) continue;
        if (!before.is_float())
            throw Failure(
                fmt::format("layer '{}' is {} already; start from the float model, or the report would hide "
                            "a part of the error",
                            planned.name, name(before)));
        choices.insert({planned.name, {*planned.format, method}});
    }
    return choices;
}

Outcomes quantize_blindly(io::ModelFile& file, const std::map<std::string, pipeline::LayerChoice>& choices,
                          ExecutionContext context) {
    Outcomes outcomes;
    Progress progress("quantizing");
    std::size_t done = 0, total = 0;
    for (const auto& [layer, choice] : choices)
        total += file.linears.at(layer).n() * file.linears.at(layer).k();
    for (const auto& [layer, choice] : choices) {
        Linear& linear = file.linears.at(layer);
        const Matrix w = dequantized(linear);
        Quantized quantized =
            expect(quantize(w.view(), {}, choice.format, for_tensor(choice.method, layer), context));
        linear.weights = std::move(quantized.linear.weights);
        outcomes[layer].report = std::move(quantized.report);
        done += linear.n() * linear.k();
        progress.update(done, total, layer);
    }
    return outcomes;
}

}  // namespace

QuantizedModel quantize_model(const io::ModelFile& model, const std::vector<PlannedLayer>& plan,
                              const MethodOptions& method, const CalibrationText& calibration,
                              FunctionRef<model::Tokenizer()> tokenizer, ExecutionContext context) {
    const auto choices = choices_of(model, plan, method.method());
    QuantizedModel result;
    result.file = model;
    Outcomes outcomes;
    if (!method.calibrates() || choices.empty()) {
        outcomes = quantize_blindly(result.file, choices, context);
    } else {
        const auto windows = calibration_windows(
            calibration, tokenizer(), std::min(longest_window, model.shape.context), method_tokens,
            method.smooth ? std::string("--smooth calibrates")
                          : fmt::format("--method {} calibrates", method.name));
        result.windows = windows.size();
        for (const auto& window : windows) result.tokens += window.size();
        Progress progress("quantizing");
        pipeline::CalibratedOptions options;
        if (method.smooth) options.smoothquant = SmoothQuantOptions{{}, *method.smooth};
        options.progress = [&](std::string_view layer, std::size_t done, std::size_t total) {
            progress.update(done, total, layer);
        };
        pipeline::CalibratedModel done =
            expect(pipeline::quantize_calibrated(model, choices, windows, options, context));
        result.file = std::move(done.file);
        outcomes = std::move(done.layers);
    }
    for (const PlannedLayer& planned : plan) {
        const Linear &before = model.linears.at(planned.name), &after = result.file.linears.at(planned.name);
        LayerReport report{planned.name,
                           before.weights.format(),
                           after.weights.format(),
                           after.n(),
                           after.k(),
                           after.bits_per_weight(),
                           std::nullopt};
        if (const auto found = outcomes.find(planned.name); found != outcomes.end())
            report.outcome = std::move(found->second);
        result.layers.push_back(std::move(report));
    }
    return result;
}

}  // namespace fewbit::cli
