// `fewbit quantize`: weights in, weights out, with a report of what each layer lost.
#include <cmath>

#include "fewbit/io/model_safetensors.hpp"
#include "src/cli/load.hpp"
#include "src/cli/plan.hpp"

namespace fewbit::cli {
namespace {

struct Options {
    std::string model;
    std::string output;
    PlanOptions plan;
    bool dry_run = false;
};

/// Where the result goes. Checked before the work.
std::filesystem::path output_path(const Options& options) {
    const std::filesystem::path path = path_of(options.output);
    if (path.extension() == ".gguf")
        throw Failure(fmt::format("'{}': this version does not write GGUF files yet; choose .safetensors",
                                  options.output));
    if (path.extension() != ".safetensors")
        throw Failure(fmt::format("'{}': the output is a .safetensors file", options.output));
    std::error_code error;
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    if (!std::filesystem::is_directory(folder, error))
        throw Failure(fmt::format("'{}': there is no folder '{}'", options.output, io::path_text(folder)));
    if (std::filesystem::equivalent(path, path_of(options.model), error))
        throw Failure(fmt::format("'{}' is the model itself; write to another file", options.output));
    return path;
}

void print_plan(const io::ModelFile& model, const std::vector<PlannedLayer>& plan) {
    Table table({{"layer"}, {"shape", Table::Align::right}, {"now"}, {"becomes"}, {"because of"}});
    double bits = 0;
    for (const PlannedLayer& planned : plan) {
        const Linear& linear = model.linears.at(planned.name);
        bits += planned.format ? total_bits(*planned.format, linear.n(), linear.k()) : linear.total_bits();
        table.add({short_name(planned.name), fmt::format("{} x {}", linear.n(), linear.k()),
                   name(linear.weights.format()), planned.format ? name(*planned.format) : "stays",
                   shortened(planned.why, 22)});
    }
    for (const auto& [layer, values] : model.vectors) bits += 32.0 * static_cast<double>(values.size());
    say("{}\n", table.text());
    const ModelSize size = size_of(model);
    say("{} weights: {:.3f} bits per weight become {:.3f}, {} become {}\n", grouped(size.parameters),
        size.bits_per_weight(), bits / static_cast<double>(size.parameters), bytes_text(size.bits / 8),
        bytes_text(bits / 8));
    say("Nothing was written (--dry-run).\n");
}

std::string decibel(double value) { return std::isinf(value) ? "exact" : fmt::format("{:.2f}", value); }

void print_report(const QuantizedModel& quantized) {
    Table table({{"layer"},
                 {"format"},
                 {"bpw", Table::Align::right},
                 {"rel. error", Table::Align::right},
                 {"SQNR dB", Table::Align::right},
                 {"max error", Table::Align::right}});
    for (const LayerReport& layer : quantized.layers) {
        std::vector<std::string> cells{short_name(layer.name), name(layer.after),
                                       fmt::format("{:.3f}", layer.bits_per_weight)};
        if (layer.report) {
            cells.push_back(fmt::format("{:.4f}", layer.report->relative_error));
            cells.push_back(decibel(layer.report->sqnr_db));
            cells.push_back(fmt::format("{:.3g}", layer.report->max_abs_error));
        } else {
            cells.insert(cells.end(), {"stays", "", ""});
        }
        table.add(std::move(cells));
    }
    say("{}", table.text());
    for (const LayerReport& layer : quantized.layers)
        if (layer.report)
            for (const std::string& note : layer.report->notes)
                say("{}\n", wrapped(fmt::format("{}: {}", layer.name, note), 80, 2));
}

Json json_of(const LayerReport& layer, const std::string& why) {
    Json row{{"name", layer.name},
             {"n", layer.n},
             {"k", layer.k},
             {"format_before", name(layer.before)},
             {"format", name(layer.after)},
             {"because", why},
             {"bits_per_weight", layer.bits_per_weight},
             {"quantized", layer.report.has_value()}};
    const QuantizeReport report = layer.report.value_or(QuantizeReport{});
    const auto number = [&](double value) { return layer.report ? Json(value) : Json(); };
    row["relative_error"] = number(report.relative_error);
    row["sqnr_db"] = number(report.sqnr_db);
    row["max_abs_error"] = number(report.max_abs_error);
    row["mean_square_error"] = number(report.mean_square_error);
    row["groups"] = report.groups;
    row["zero_groups"] = report.zero_groups;
    row["constant_groups"] = report.constant_groups;
    row["subnormal_scales"] = report.subnormal_scales;
    row["flushed_groups"] = report.flushed_groups;
    row["notes"] = report.notes;
    return row;
}

Status run(const Options& options, Program& program) {
    const std::filesystem::path output = output_path(options);
    const io::ModelFile model = load_model(options.model);
    const std::vector<PlannedLayer> plan = make_plan(model, options.plan);
    const ModelSize before = size_of(model);
    Json body{{"model", options.model},          {"output", options.dry_run ? Json() : Json(options.output)},
              {"method", options.plan.method},   {"dry_run", options.dry_run},
              {"parameters", before.parameters}, {"bits_per_weight_before", before.bits_per_weight()}};
    Json layers = Json::array();
    if (options.dry_run) {
        print_plan(model, plan);
        double bits = 0;
        for (const PlannedLayer& planned : plan) {
            const Linear& linear = model.linears.at(planned.name);
            const Format format = planned.format.value_or(linear.weights.format());
            const double layer_bits =
                planned.format ? total_bits(format, linear.n(), linear.k()) : linear.total_bits();
            bits += layer_bits;
            const double count = static_cast<double>(linear.n()) * static_cast<double>(linear.k());
            layers.push_back(json_of({planned.name, linear.weights.format(), format, linear.n(), linear.k(),
                                      count == 0 ? 0 : layer_bits / count, std::nullopt},
                                     planned.why));
        }
        for (const auto& [name, values] : model.vectors) bits += 32.0 * static_cast<double>(values.size());
        body["bits_per_weight"] = bits / static_cast<double>(before.parameters);
        body["file_bytes"] = Json();
    } else {
        QuantizedModel quantized = quantize_model(model, plan, options.plan.method, program.context());
        quantized.file.metadata["method"] = options.plan.method;
        expect(io::write_safetensors_model(output, quantized.file));
        print_report(quantized);
        const ModelSize after = size_of(quantized.file);
        std::error_code error;
        const auto file_bytes = std::filesystem::file_size(output, error);
        say("\n{} weights: {:.3f} bits per weight became {:.3f}; '{}' has {}\n", grouped(before.parameters),
            before.bits_per_weight(), after.bits_per_weight(), options.output,
            bytes_text(static_cast<double>(file_bytes)));
        for (std::size_t i = 0; i < plan.size(); ++i)
            layers.push_back(json_of(quantized.layers[i], plan[i].why));
        body["bits_per_weight"] = after.bits_per_weight();
        body["file_bytes"] = file_bytes;
    }
    body["layers"] = std::move(layers);
    program.write_json("quantize/1", std::move(body));
    return Status::done;
}

}  // namespace

void add_quantize(CLI::App& app, Program& program) {
    auto options = std::make_shared<Options>();
    CLI::App* command = program.add(app, "quantize", "Store a model in few bits",
                                    [=, &program] { return run(*options, program); });
    add_model(*command, options->model);
    command
        ->add_option("-o,--output", options->output,
                     "The .safetensors file to write; it appears whole or not at all")
        ->required()
        ->type_name("FILE");
    add_plan_options(*command, options->plan, true);
    command->add_flag("--dry-run", options->dry_run,
                      "Print what would happen and the size, and write nothing");
}

}  // namespace fewbit::cli
