// Which layer of a model gets which format.
#include "src/cli/plan.hpp"

#include "src/cli/options.hpp"

namespace fewbit::cli {
namespace {

struct Override {
    std::string text;
    LayerPattern layers;
    Format format;
    bool matched = false;
};

Override parse_override(const std::string& text) {
    const std::size_t equals = text.rfind('=');
    if (equals == std::string::npos)
        throw Failure(
            fmt::format("--tensor-format: '{}' is not REGEX=FORMAT, as in 'down_proj=int8-channel'", text));
    return {text, LayerPattern("--tensor-format", text.substr(0, equals)),
            expect(parse_format(text.substr(equals + 1)))};
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
    add_format(command, "--format", options.format,
               "Format of the layers, as in int4-g128, int8-channel, int3-g64-asym")
        ->required(format_required);
    command
        .add_option_function<std::string>(
            "--method",
            [&options](const std::string& text) {
                const auto method = parse_method(text);
                if (!method) throw CLI::ValidationError("--method", method.error().message);
                options.method = text;
            },
            fmt::format("How codes are chosen: {}", fmt::join(method_names(), ", ")))
        ->type_name("NAME")
        ->default_str(options.method);
    command
        .add_option("--tensor-format", options.overrides,
                    "Another format for layers whose name contains REGEX; repeat it at will: of those that "
                    "match, the last counts, "
                    "before --keep")
        ->type_name("REGEX=FORMAT")
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    command
        .add_option("--keep", options.keep,
                    "Layers whose name contains REGEX stay as they are; '' keeps none. The default is the "
                    "embedding and the head")
        ->type_name("REGEX")
        ->capture_default_str();
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

std::vector<PlannedLayer> make_plan(const io::ModelFile& model, const PlanOptions& options) {
    std::vector<Override> overrides;
    for (const std::string& text : options.overrides) overrides.push_back(parse_override(text));
    const LayerPattern keep("--keep", options.keep);
    std::vector<PlannedLayer> plan;
    for (const auto& [layer, linear] : model.linears) {
        PlannedLayer planned{layer, options.format, "--format"};
        if (keep(layer)) planned = {layer, std::nullopt, "--keep"};
        for (Override& override : overrides)
            if (override.layers(layer)) {
                override.matched = true;
                planned = {layer, override.format, override.text};
            }
        plan.push_back(std::move(planned));
    }
    for (const Override& override : overrides)
        if (!override.matched)
            throw Failure(
                fmt::format("--tensor-format {}: no layer of the model has such a name", override.text));
    return plan;
}

QuantizedModel quantize_model(const io::ModelFile& model, const std::vector<PlannedLayer>& plan,
                              const std::string& method_name, ExecutionContext context) {
    const Method method = expect(parse_method(method_name));
    QuantizedModel result;
    result.file.shape = model.shape;
    result.file.vectors = model.vectors;
    result.file.metadata = model.metadata;
    result.file.type = model.type;
    Progress progress("quantizing");
    std::size_t done = 0, total = 0;
    for (const auto& [layer, linear] : model.linears) total += linear.n() * linear.k();
    for (const PlannedLayer& planned : plan) {
        const Linear& source = model.linears.at(planned.name);
        const Format before = source.weights.format();
        Linear linear = source;
        LayerReport report{planned.name, before, before, source.n(), source.k(), source.bits_per_weight(),
                           std::nullopt};
        if (planned.format && !(*planned.format == before)) {
            if (!before.is_float())
                throw Failure(
                    fmt::format("layer '{}' is {} already; start from the float model, or the report would "
                                "hide a part of the error",
                                planned.name, name(before)));
            Matrix w(source.n(), source.k());
            for (std::size_t r = 0; r < w.rows(); ++r) source.weights.dequantize(r, 0, w.row(r));
            Quantized quantized = expect(quantize(std::as_const(w).view(), {}, *planned.format,
                                                  for_tensor(method, planned.name), context));
            linear.weights = std::move(quantized.linear.weights);
            report.after = linear.weights.format();
            report.bits_per_weight = linear.bits_per_weight();
            report.report = std::move(quantized.report);
        }
        result.file.linears.emplace(planned.name, std::move(linear));
        result.layers.push_back(std::move(report));
        done += source.n() * source.k();
        progress.update(done, total, planned.name);
    }
    return result;
}

}  // namespace fewbit::cli
