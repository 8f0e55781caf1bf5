// `fewbit quantize`: weights in, weights out, with a report of what each layer lost.
#include "src/cli/quantize.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>

#include "fewbit/io/model_folder.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "src/cli/load.hpp"

namespace fewbit::cli {
namespace {

/// The folder layout that --layout asks for; nothing for files.
std::optional<io::FolderLayout> folder_layout(const QuantizeOptions& options) {
    for (const io::FolderLayout layout : {io::FolderLayout::gptq, io::FolderLayout::compressed_tensors})
        if (options.layout == io::name(layout)) return layout;
    return std::nullopt;
}

/// Where the result goes. Checked before the work.
std::filesystem::path output_path(const QuantizeOptions& options) {
    std::filesystem::path path = path_of(options.output);
    const bool folder_wanted = folder_layout(options).has_value();
    if (folder_wanted && !path.has_filename()) path = path.parent_path();  // "folder/"
    if (folder_wanted && (path.extension() == ".safetensors" || path.extension() == ".gguf"))
        throw Failure(fmt::format("'{}': --layout {} writes a folder with model.safetensors and config.json",
                                  options.output, options.layout));
    if (!folder_wanted && path.extension() != ".safetensors" && path.extension() != ".gguf")
        throw Failure(
            fmt::format("'{}': the output is a .gguf or a .safetensors file (or a folder, with --layout)",
                        options.output));
    std::error_code error;
    if (folder_wanted && std::filesystem::exists(path, error) && !std::filesystem::is_directory(path, error))
        throw Failure(
            fmt::format("'{}' is a file; --layout {} writes a folder", options.output, options.layout));
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    if (!std::filesystem::is_directory(folder, error))
        throw Failure(fmt::format("'{}': there is no folder '{}'", options.output, io::path_text(folder)));
    if (std::filesystem::equivalent(path, path_of(options.model), error))
        throw Failure(fmt::format("'{}' is the model itself; write to another {}", options.output,
                                  folder_wanted ? "folder" : "file"));
    if (folder_wanted && std::filesystem::equivalent(path, path_of(options.model).parent_path(), error))
        throw Failure(fmt::format("the model itself lies in '{}'; write to another folder", options.output));
    return path;
}

std::vector<QuantizeRow> rows_of(const io::ModelFile& model, const std::vector<PlannedLayer>& plan) {
    std::vector<QuantizeRow> rows;
    for (const PlannedLayer& planned : plan) {
        const Linear& linear = model.linears.at(planned.name);
        QuantizeRow row{planned.name, name(linear.weights.format()), name(linear.weights.format()),
                        planned.why,  planned.format.has_value(),    linear.n(),
                        linear.k(),   linear.total_bits(),           linear.total_bits(),
                        std::nullopt};
        if (planned.format) {
            row.after = name(*planned.format);
            row.bits = total_bits(*planned.format, linear.n(), linear.k());
        }
        rows.push_back(std::move(row));
    }
    return rows;
}

Json calibration_json(const QuantizeOptions& options) {
    if (!options.plan.method.calibrates() && !options.allocation.target) return {};
    const auto file = [](const std::string& path) { return path.empty() ? Json() : Json(path); };
    const CalibrationFiles& files = options.files;
    return {{"text", !files.statistics.empty()          ? Json()
                     : options.calibration.text.empty() ? Json("synthetic corpus")
                                                        : Json(options.calibration.text)},
            {"split", options.calibration.split},
            {"statistics", file(files.statistics)},
            {"saved_statistics", file(files.save_statistics)}};
}

/// What the layers will be.
std::vector<io::FolderLayer> folder_layers_of(const io::ModelFile& model,
                                              const std::vector<PlannedLayer>& plan) {
    std::vector<io::FolderLayer> layers;
    for (const PlannedLayer& planned : plan) {
        const Linear& linear = model.linears.at(planned.name);
        layers.push_back(
            {planned.name, planned.format.value_or(linear.weights.format()), linear.n(), linear.k()});
    }
    return layers;
}

Status into_safetensors(const QuantizeOptions& options, const std::filesystem::path& output,
                        Program& program) {
    if (!options.importance.empty())
        throw Failure("--imatrix weighs errors in ggml's blocks; it needs a .gguf output");
    io::ModelFile model = load_model(options.model);
    const ModelSize before = size_of(model);
    const auto rotations = make_rotations(model, options.plan, options.model, program.context());
    const auto tokenizer = [&] { return load_tokenizer(options.tokenizer, model, options.model); };
    std::vector<PlannedLayer> plan = make_plan(model, options.plan);
    const auto allocation = allocate_formats(model, plan, options.plan, options.allocation,
                                             options.calibration, tokenizer, program.context());
    if (allocation) print_allocation(*allocation);
    const auto layout = folder_layout(options);
    if (const std::string& method = options.plan.method.name;
        layout && (method == "owq" || method == "llm-int8"))
        throw Failure(fmt::format("{}, for which the layout {} has no place; write a .safetensors file",
                                  options.plan.method.own_files_only(), options.layout));
    if (layout && rotations && rotations->down != 0)
        throw Failure(
            fmt::format("--rotate down rotates inputs while the model runs, for which the layout {} has no "
                        "place; --rotate residual,heads does without",
                        options.layout));
    if (layout) expect(io::check_layers(*layout, folder_layers_of(model, plan)));
    std::vector<QuantizeRow> rows = rows_of(model, plan);
    double bits = totals_of(rows).bits;
    for (const auto& [name, values] : model.vectors) bits += 32.0 * static_cast<double>(values.size());
    std::uintmax_t file_bytes = 0;
    if (options.dry_run) {
        print_plan(rows);
        say("Nothing was written (--dry-run).\n");
    } else {
        QuantizedModel quantized = quantize_model(model, plan, options.plan.method, options.calibration,
                                                  tokenizer, program.context(), options.files);
        quantized.file.metadata["method"] = options.plan.method.name;
        expect(layout ? io::write_model_folder(output, quantized.file, *layout)
                      : io::write_safetensors_model(output, quantized.file));
        finish_calibration_files(options.files);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            rows[i].outcome = quantized.layers[i].outcome;
            rows[i].bits = quantized.layers[i].bits_per_weight * rows[i].weights();
        }
        print_report(rows);
        print_calibration(quantized, options.files);
        if (rotations) say("{}\n", wrapped(fmt::format("Rotated first: {}.", rotations->text()), 80));
        const ModelSize after = size_of(quantized.file);
        bits = after.bits;
        std::error_code error;
        file_bytes = std::filesystem::file_size(layout ? output / "model.safetensors" : output, error);
        say("\n{}\n",
            wrapped(fmt::format("{} weights: {:.3f} bits per weight became {:.3f}; '{}' has {}",
                                grouped(before.parameters), before.bits_per_weight(), after.bits_per_weight(),
                                options.output, bytes_text(static_cast<double>(file_bytes))),
                    80));
    }
    Json body = quantize_json(options, rows);
    body["rotations"] = rotations ? Json(rotations->text()) : Json();
    body["parameters"] = before.parameters;
    body["bits_per_weight_before"] = before.bits_per_weight();
    body["bits_per_weight"] = bits / static_cast<double>(before.parameters);
    body["file_bytes"] = options.dry_run ? Json() : Json(file_bytes);
    body["estimated_seconds"] = Json();
    body["allocation"] = allocation_json(allocation);
    program.write_json("quantize/1", std::move(body));
    return Status::done;
}

Status run(const QuantizeOptions& given, Program& program) {
    QuantizeOptions options = given;
    const std::filesystem::path output = output_path(options);
    if (!options.dry_run) place_calibration_files(options.files, options.plan.method, options.model, output);
    return output.extension() == ".gguf" ? quantize_into_gguf(options, output, program)
                                         : into_safetensors(options, output, program);
}

}  // namespace

void print_calibration(const QuantizedModel& quantized, const CalibrationFiles& files) {
    if (quantized.windows != 0)
        say("{}\n", wrapped(fmt::format("Calibrated with {} tokens in {} windows; 'output err.' is what the "
                                        "layer's outputs lost on them.",
                                        grouped(quantized.tokens), grouped(quantized.windows)),
                            80));
    else if (!files.statistics.empty())
        say("{}\n",
            wrapped(fmt::format("Quantized with the statistics in '{}'; 'output err.' is what the layer's "
                                "outputs lost on their tokens.",
                                files.statistics),
                    80));
    else
        return;
    if (!files.save_statistics.empty())
        say("The statistics are in '{}'; --statistics takes them.\n", files.save_statistics);
    const auto scaled = std::ranges::count_if(quantized.layers, [](const LayerReport& layer) {
        return layer.outcome && !layer.outcome->scales.empty();
    });
    if (scaled != 0)
        say("The input channels of {} layers were scaled first, and what writes them divided.\n", scaled);
}

Json quantize_json(const QuantizeOptions& options, const std::vector<QuantizeRow>& rows) {
    return {{"model", options.model},
            {"output", options.dry_run ? Json() : Json(options.output)},
            {"layout", options.layout},
            {"method", options.plan.method.name},
            {"method_options", method_json(options.plan.method)},
            {"smooth", options.plan.method.smooth ? Json(*options.plan.method.smooth) : Json()},
            {"calibration", calibration_json(options)},
            {"dry_run", options.dry_run},
            {"layers", json_of(rows)}};
}

void add_quantize(CLI::App& app, Program& program) {
    auto options = std::make_shared<QuantizeOptions>();
    CLI::App* command = program.add(app, "quantize", "Store a model in few bits, or as it is in another file",
                                    [=, &program] { return run(*options, program); });
    add_model(*command, options->model);
    command
        ->add_option(
            "-o,--output", options->output,
            "The .gguf or .safetensors file to write, or the folder of --layout; files appear whole or "
            "not at all")
        ->required()
        ->type_name("PATH");
    add_plan_options(*command, options->plan, false);
    add_rotate_option(*command, options->plan);
    add_allocation_options(*command, options->allocation);
    add_calibration_text(*command, options->calibration);
    add_calibration_files(*command, options->files);
    command
        ->add_option(
            "--layout", options->layout,
            "fewbit: the file OUT; gptq, compressed-tensors: the folder OUT with model.safetensors and "
            "config.json, as Hugging Face's libraries and vLLM load it")
        ->check(CLI::IsMember({"fewbit", "gptq", "compressed-tensors"}))
        ->capture_default_str();
    command
        ->add_option("--imatrix", options->importance,
                     "Importance matrix (.dat or .gguf) by which ggml's types weigh errors")
        ->type_name("FILE");
    add_tokenizer(*command, options->tokenizer);
    command->add_flag("--dry-run", options->dry_run,
                      "Print what would happen, the size, the time and the memory, and write nothing");
}

}  // namespace fewbit::cli
