// Definitions of quantize_model.hpp.
#include "src/cli/quantize_model.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "fewbit/io/safetensors.hpp"

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

/// Statistics of a rotated model say so under the same key as the model does.
constexpr const char* rotations_key = "rotations";

std::string rotations_of(const io::Metadata& metadata) {
    const auto found = metadata.find(rotations_key);
    return found == metadata.end() ? std::string() : found->second;
}

/// Throws Failure, which names the file: it holds no statistics, or those of a model that is rotated otherwise.
Statistics load_statistics(const std::string& path, const std::string& rotations) {
    const auto file = expect(io::load_tensors(path_of(path)));
    const std::string theirs = rotations_of(file.metadata);
    if (theirs != rotations)
        throw Failure(fmt::format("'{}' was saved from a model that was {}; this one is {} (--rotate)", path,
                                  theirs.empty() ? "not rotated" : fmt::format("rotated ({})", theirs),
                                  rotations.empty() ? "not" : fmt::format("({})", rotations)));
    auto statistics = from_tensors(file.tensors);
    if (!statistics) throw Failure(fmt::format("'{}': {}", path, statistics.error().message));
    return *std::move(statistics);
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

/// Shows how far calibration is. Layers count by their weights; what was resumed took no time.
class CalibrationProgress {
public:
    CalibrationProgress(const io::ModelFile& model,
                        const std::map<std::string, pipeline::LayerChoice>& choices)
        : model_(&model) {
        for (const auto& [layer, choice] : choices) total_ += weights_of(layer);
    }
    void replay(std::size_t done, std::size_t blocks) {
        if (!replay_) replay_.emplace("catching up");
        replay_->update(done, blocks, "the text runs through finished blocks");
    }
    void update(std::string_view layer, std::size_t done, std::size_t layers) {
        replay_.reset();
        if (!std::exchange(begun_, true) && done != 0) {
            note("{} of {} layers were finished by an earlier run.\n", done, layers);
            progress_.skip(done_ = total_ / layers * done);
        }
        done_ += std::exchange(running_, weights_of(std::string(layer)));
        progress_.update(done_, total_, layer);
    }

private:
    [[nodiscard]] std::size_t weights_of(const std::string& layer) const {
        const Linear& linear = model_->linears.at(layer);
        return linear.n() * linear.k();
    }

    const io::ModelFile* model_;
    Progress progress_{"quantizing"};
    std::optional<Progress> replay_;
    std::size_t total_ = 0, done_ = 0;
    std::size_t running_ = 0;  ///< weights of the layer that is being quantized
    bool begun_ = false;
};

}  // namespace

std::vector<std::vector<int>> calibration_tokens(const io::ModelFile& model,
                                                 const CalibrationText& calibration,
                                                 const model::Tokenizer& tokenizer,
                                                 const std::string& purpose) {
    return calibration_windows(calibration, tokenizer, std::min(longest_window, model.shape.context),
                               method_tokens, purpose);
}

QuantizedModel quantize_model(const io::ModelFile& model, const std::vector<PlannedLayer>& plan,
                              const MethodOptions& method, const CalibrationText& calibration,
                              FunctionRef<model::Tokenizer()> tokenizer, ExecutionContext context,
                              const CalibrationFiles& files) {
    const auto choices = choices_of(model, plan, method.method());
    QuantizedModel result;
    result.file = model;
    Outcomes outcomes;
    if (!method.calibrates() || choices.empty()) {
        outcomes = quantize_blindly(result.file, choices, context);
    } else {
        const std::string rotations = rotations_of(model.metadata);
        std::optional<Statistics> statistics;
        std::vector<std::vector<int>> windows;
        if (files.statistics.empty()) {
            windows = calibration_tokens(model, calibration, tokenizer(),
                                         method.smooth ? std::string("--smooth calibrates")
                                                       : fmt::format("--method {} calibrates", method.name));
            result.windows = windows.size();
            for (const auto& window : windows) result.tokens += window.size();
        } else {
            statistics = load_statistics(files.statistics, rotations);
        }
        CalibrationProgress progress(model, choices);
        pipeline::CalibratedOptions options;
        options.statistics = statistics ? &*statistics : nullptr;
        options.keep_statistics = !files.save_statistics.empty();
        options.memory_bytes = files.memory_bytes;
        options.scratch_folder = files.scratch_folder;
        options.checkpoint = files.checkpoint;
        options.resume = files.resume;
        if (method.smooth) options.smoothquant = SmoothQuantOptions{{}, *method.smooth};
        options.progress = [&](std::string_view layer, std::size_t done, std::size_t total) {
            progress.update(layer, done, total);
        };
        options.replay = [&](std::size_t done, std::size_t blocks) { progress.replay(done, blocks); };
        pipeline::CalibratedModel done =
            expect(pipeline::quantize_calibrated(model, choices, windows, options, context));
        if (options.keep_statistics)
            expect(io::save_tensors(
                path_of(files.save_statistics), expect(to_tensors(done.statistics)),
                rotations.empty() ? io::Metadata() : io::Metadata{{rotations_key, rotations}}));
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
