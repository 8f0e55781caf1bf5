// Which layer of a model gets which format.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>

#include "src/cli/plan.hpp"

#include "fewbit/io/model_gguf.hpp"
#include "src/cli/options.hpp"

namespace fewbit::cli {
namespace {

struct Override {
    std::string text;
    LayerPattern layers;
    Format format;
    std::size_t matches = 0;
};

Override parse_override(const std::string& text) {
    const std::size_t equals = text.rfind('=');
    if (equals == std::string::npos)
        throw Failure(
            fmt::format("--tensor-format: '{}' is not REGEX=FORMAT, as in 'down_proj=int8-channel'", text));
    return {text, LayerPattern("--tensor-format", text.substr(0, equals)),
            expect(parse_format(text.substr(equals + 1)))};
}

pipeline::RotationOptions parse_rotations(const std::string& text) {
    pipeline::RotationOptions options;
    if (text == "all") return options;
    const std::pair<std::string_view, bool*> places[] = {
        {"residual", &options.residual}, {"heads", &options.heads}, {"down", &options.down}};
    for (const auto& [name, wanted] : places) *wanted = false;
    for (std::size_t first = 0; first <= text.size();) {
        const std::size_t comma = std::min(text.find(',', first), text.size());
        const std::string part = text.substr(first, comma - first);
        const auto* const place =
            std::ranges::find(places, part, [](const auto& each) { return each.first; });
        if (place == std::end(places))
            throw CLI::ValidationError(
                "--rotate",
                fmt::format("'{}' is no place; there are residual, heads and down, and all for all of them",
                            part));
        *place->second = true;
        first = comma + 1;
    }
    return options;
}

}  // namespace

LayerPattern::LayerPattern(std::string_view option, const std::string& text) try {
    if (!text.empty()) regex_.emplace(text, std::regex::ECMAScript);
} catch (const std::regex_error& error) {
    throw Failure(fmt::format("{}: '{}' is not a regular expression ({})", option, text, error.what()));
}

bool LayerPattern::operator()(std::string_view layer) const {
    return regex_ && std::regex_search(layer.begin(), layer.end(), *regex_);
}

void add_plan_options(CLI::App& command, PlanOptions& options, bool format_required) {
    command
        .add_option_function<std::string>(
            "--format",
            [&options](const std::string& text) {
                options.mix = pipeline::find_mix(text);
                if (options.mix != nullptr) return;
                const auto format = parse_format(text);
                if (!format) throw CLI::ValidationError("--format", format.error().message);
                options.format = *format;
            },
            "Format of the layers, as in int4-g128, int8-channel, int3-g64-asym, q4_0, or a mix: q4_k_m")
        ->type_name("NAME")
        ->required(format_required);
    add_method_options(command, options.method);
    command
        .add_option("--tensor-format", options.overrides,
                    "Another format for layers whose name contains REGEX; repeat it at will: of those that "
                    "match, the one that matches the fewest layers counts, before --keep")
        ->type_name("REGEX=FORMAT")
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    command
        .add_option("--keep", options.keep,
                    "Layers whose name contains REGEX stay as they are; '' keeps none. The default is the "
                    "embedding and the head, and with a mix none")
        ->type_name("REGEX");
}

void add_rotate_option(CLI::App& command, PlanOptions& options) {
    command
        .add_option_function<std::string>(
            "--rotate", [&options](const std::string& text) { options.rotations = parse_rotations(text); },
            "Before the method: rotate the residual stream, attention heads and what down_proj reads, so "
            "that no "
            "channel stands out; all, or a list: residual,heads,down (down works while the model runs)")
        ->type_name("PLACES");
}

void add_outliers_option(CLI::App& command, PlanOptions& options) {
    command
        .add_option("--outliers", options.outliers,
                    "Make outliers in the float models first, 1 % of the channels times F; what they compute "
                    "stays the same")
        ->type_name("F");
}

std::optional<pipeline::OutlierReport> make_outliers(io::ModelFile& model, const PlanOptions& options,
                                                     const std::string& path) {
    if (!options.outliers) return std::nullopt;
    auto report = pipeline::add_outliers(model, *options.outliers);
    if (!report) throw Failure(report.error().within(fmt::format("'{}'", path)).message);
    return *std::move(report);
}

std::optional<pipeline::RotationReport> make_rotations(io::ModelFile& model, const PlanOptions& options,
                                                       const std::string& path, ExecutionContext context) {
    if (!options.rotations) return std::nullopt;
    auto report = pipeline::rotate(model, *options.rotations, context);
    if (!report) throw Failure(report.error().within(fmt::format("'{}'", path)).message);
    return *std::move(report);
}

std::optional<std::string> PlanOptions::format_name() const {
    if (mix != nullptr) return std::string(mix->name);
    return format ? std::optional(name(*format)) : std::nullopt;
}

std::vector<PlannedLayer> make_plan(const std::vector<PlannableTensor>& tensors,
                                    const pipeline::MixModel& model, const PlanOptions& options) {
    std::vector<Override> overrides;
    for (const std::string& text : options.overrides) overrides.push_back(parse_override(text));
    for (Override& override : overrides) {
        for (const PlannableTensor& tensor : tensors) override.matches += override.layers(tensor.name);
        if (override.matches == 0)
            throw Failure(
                fmt::format("--tensor-format {}: no layer of the model has such a name", override.text));
    }
    const LayerPattern keep("--keep", options.keep.value_or(options.mix != nullptr ? "" : default_keep));
    std::vector<pipeline::MixChoice> mixed;
    if (options.mix != nullptr) {
        std::vector<pipeline::MixTensor> names;
        for (const PlannableTensor& tensor : tensors) names.push_back(tensor.gguf);
        mixed = pipeline::choose_formats(*options.mix, model, names);
    }
    std::vector<PlannedLayer> plan;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const PlannableTensor& tensor = tensors[i];
        PlannedLayer planned{tensor.name, options.format, options.format ? "--format" : "no --format"};
        if (options.mix != nullptr) planned = {tensor.name, mixed[i].format, mixed[i].why};
        if (!pipeline::is_quantizable(tensor.gguf))
            planned = {tensor.name, std::nullopt, "no weight matrix"};
        else if (keep(tensor.name))
            planned = {tensor.name, std::nullopt, "--keep"};
        const Override* best = nullptr;
        for (const Override& override : overrides)
            if (override.layers(tensor.name) && (best == nullptr || override.matches <= best->matches))
                best = &override;
        if (best != nullptr) planned = {tensor.name, best->format, best->text};
        if (planned.format)
            if (auto fits = validate_columns(*planned.format, tensor.gguf.k); !fits)
                throw Failure(fmt::format("'{}': {}; --tensor-format gives it another format", tensor.name,
                                          fits.error().message));
        plan.push_back(std::move(planned));
    }
    return plan;
}

pipeline::MixModel mix_model(const io::ModelShape& shape) {
    return {shape.layers, shape.heads, shape.kv_heads, 0};
}

std::vector<PlannedLayer> make_plan(const io::ModelFile& model, const PlanOptions& options) {
    std::vector<PlannableTensor> tensors;
    for (const auto& [layer, linear] : model.linears)
        tensors.push_back(
            {layer, {io::gguf_name_of_layer(layer).value_or(layer) + ".weight", linear.k(), 2}});
    return make_plan(tensors, mix_model(model.shape), options);
}

}  // namespace fewbit::cli
