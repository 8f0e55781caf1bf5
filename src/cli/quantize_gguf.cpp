// `fewbit quantize` into GGUF: any tensor of a GGUF file, or those of a llama from another file, piece by piece.
#include <algorithm>
#include <chrono>
#include <map>

#include "fewbit/io/imatrix.hpp"
#include "fewbit/io/model_gguf.hpp"
#include "fewbit/pipeline/gguf_quantizer.hpp"
#include "src/cli/gguf_model.hpp"
#include "src/cli/load.hpp"
#include "src/cli/quantize.hpp"

namespace fewbit::cli {
namespace {

/// The importance of a tensor's input channels, expert after expert; empty where the matrix has none.
std::vector<float> importance_of(const io::ImportanceMatrix& matrix, const pipeline::GgufInput& input) {
    const auto found = matrix.entries.find(input.source.name);
    if (found == matrix.entries.end()) return {};
    const io::ImportanceEntry& entry = found->second;
    if (entry.k() != input.k() || input.rows() % std::max<std::size_t>(1, entry.experts()) != 0)
        throw Failure(
            fmt::format("--imatrix has {} values for each of {} matrices of '{}', which has {} rows of {}",
                        entry.k(), entry.experts(), input.source.name, input.rows(), input.k()));
    std::vector<float> values;
    for (std::size_t e = 0; e < entry.experts(); ++e) {
        const std::vector<float> mean = entry.mean(e);
        if (mean.empty()) return {};  // an expert that the text never reached: nothing is known about it
        values.insert(values.end(), mean.begin(), mean.end());
    }
    return values;
}

/// One tensor on its way.
struct Work {
    const pipeline::GgufInput* input;
    std::optional<Format> format;
    std::vector<float> importance;
    pipeline::LayerOutcome outcome;
};

/// The tensors that the plan changes, as calibration makes them; by their names in GGUF.
struct CalibratedTensors {
    QuantizedModel model;
    std::map<std::string, std::pair<pipeline::GgufInput, pipeline::LayerOutcome>, std::less<>> tensors;
    std::map<std::string, pipeline::GgufInput, std::less<>>
        folded;  ///< the others, where channels were scaled
};

std::string tensor_of(const std::string& layer) {
    return io::gguf_name_of_layer(layer).value_or(layer) + ".weight";
}

/// The same plan by the names of a ModelFile.
std::vector<PlannedLayer> layers_of(const io::ModelFile& model, const std::vector<PlannedLayer>& plan) {
    std::vector<PlannedLayer> layers;
    for (const auto& [layer, linear] : model.linears) {
        const auto found = std::ranges::find(plan, tensor_of(layer), &PlannedLayer::name);
        if (found != plan.end()) layers.push_back({layer, found->format, found->why});
    }
    return layers;
}

/// --target-bpw, among types that GGUF has.
std::optional<AllocationReport> allocate(const QuantizeOptions& options, std::vector<PlannedLayer>& plan,
                                         ExecutionContext context) {
    if (!options.allocation.target) return std::nullopt;
    AllocationOptions allocation = options.allocation;
    if (allocation.candidates.empty() && options.plan.format) {
        allocation.candidates = family_of(*options.plan.format);
        std::erase_if(allocation.candidates,
                      [](const Format& format) { return !pipeline::gguf_type_of(format); });
    }
    const io::ModelFile model = load_model(options.model);
    std::vector<PlannedLayer> layers = layers_of(model, plan);
    const auto planned =
        std::ranges::count_if(plan, [](const PlannedLayer& each) { return each.format.has_value(); });
    if (planned != std::ranges::count_if(layers, [](const auto& each) { return each.format.has_value(); }))
        throw Failure(
            "--target-bpw measures layers of the model, and the plan has others; --keep or --tensor-format "
            "can "
            "leave them as they are");
    const auto report = allocate_formats(
        model, layers, options.plan, allocation, options.calibration,
        [&] { return load_tokenizer(options.tokenizer, model, options.model); }, context);
    for (const PlannedLayer& layer : layers) {
        const auto found = std::ranges::find(plan, tensor_of(layer.name), &PlannedLayer::name);
        found->format = layer.format;
        found->why = layer.why;
    }
    return report;
}

CalibratedTensors calibrate(const QuantizeOptions& options, const std::vector<PlannedLayer>& plan,
                            ExecutionContext context) {
    const io::ModelFile model = load_model(options.model);
    const std::vector<PlannedLayer> layers = layers_of(model, plan);
    CalibratedTensors result;
    result.model = quantize_model(
        model, layers, options.plan.method, options.calibration,
        [&] { return load_tokenizer(options.tokenizer, model, options.model); }, context, options.files);
    const bool scaled = std::ranges::any_of(result.model.layers, [](const LayerReport& layer) {
        return layer.outcome && !layer.outcome->scales.empty();
    });
    for (pipeline::GgufInput& input : expect(pipeline::gguf_inputs(result.model.file))) {
        const auto report = std::ranges::find_if(result.model.layers, [&](const LayerReport& layer) {
            return tensor_of(layer.name) == input.source.name;
        });
        std::string name = input.source.name;
        if (report == result.model.layers.end() || !report->outcome) {
            if (scaled) result.folded.emplace(std::move(name), std::move(input));
            continue;
        }
        result.tensors.emplace(std::move(name), std::pair(std::move(input), *report->outcome));
    }
    return result;
}

std::vector<QuantizeRow> rows_of(const std::vector<Work>& works, const std::vector<PlannedLayer>& plan,
                                 const std::vector<io::GgufSource>& sources) {
    std::vector<QuantizeRow> rows;
    for (std::size_t i = 0; i < works.size(); ++i) {
        const pipeline::GgufInput& input = *works[i].input;
        QuantizeRow row;
        row.name = input.source.name;
        row.n = input.rows();
        row.k = input.k();
        row.before = input.source.type->name;
        row.after = sources[i].type->name;
        row.why = plan[i].why;
        row.changes = works[i].format.has_value();
        const auto bits = [&](const io::GgufTensorType& type) {
            return 8.0 * row.weights() / static_cast<double>(type.elements) * static_cast<double>(type.bytes);
        };
        row.bits_before = bits(*input.source.type);
        row.bits = bits(*sources[i].type);
        rows.push_back(std::move(row));
    }
    return rows;
}

/// Encodes up to 1 Mi weights of a tensor of every pair of types, and scales the time up.
QuantizeCost cost_of(const std::vector<Work>& works, const std::vector<io::GgufSource>& sources,
                     const io::GgufMetadata& metadata, const QuantizeOptions& options, Program& program) {
    QuantizeCost cost;
    cost.file_bytes = expect(io::gguf_file_bytes(metadata, sources));
    // Pieces of 16 MiB as floats, their source and codes, and the program: 100 MiB where it was measured. A tensor
    // that is passed on is mapped whole while it is written.
    constexpr std::uint64_t pieces = 112u << 20, rest = 16u << 20;
    cost.memory_bytes = pieces;
    const Method method = options.plan.method.method();
    std::map<std::string, double> seconds_per_weight;
    for (std::size_t i = 0; i < works.size(); ++i) {
        const pipeline::GgufInput& input = *works[i].input;
        const std::size_t rows = input.rows(), k = input.k();
        const std::uint64_t held =
            works[i].format ? pieces + 12 * k
                            : rest + rows * k / input.source.type->elements * input.source.type->bytes;
        cost.memory_bytes = std::max(cost.memory_bytes, held);
        if (!works[i].format || rows == 0 || k == 0) continue;
        const std::string kind = fmt::format("{} {}", input.source.type->name, sources[i].type->name);
        if (!seconds_per_weight.contains(kind)) {
            const std::size_t some = std::clamp<std::size_t>((std::size_t{1} << 20) / k, 1, rows);
            const auto start = std::chrono::steady_clock::now();
            Matrix w(some, k);
            for (std::size_t r = 0; r < some; ++r) input.decode(r, w.row(r));
            expect(quantize(std::as_const(w).view(), {}, *works[i].format,
                            for_tensor(method, input.source.name), program.context()));
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
            seconds_per_weight[kind] = took.count() / (static_cast<double>(some) * static_cast<double>(k));
        }
        cost.seconds += seconds_per_weight[kind] * static_cast<double>(rows) * static_cast<double>(k);
    }
    return cost;
}

}  // namespace

Status quantize_into_gguf(const QuantizeOptions& options, const std::filesystem::path& output,
                          Program& program) {
    if (options.plan.rotations)
        throw Failure(
            "--rotate leaves what GGUF has no place for (an untied head, inputs that are rotated while the "
            "model runs); write a .safetensors file");
    if (const std::string why = options.plan.method.own_files_only(); !why.empty())
        throw Failure(why + ", for which GGUF has no place; write a .safetensors file");
    GgufModel input = read_gguf_model(options);
    std::optional<io::ImportanceMatrix> importance;
    if (!options.importance.empty()) importance = expect(io::read_imatrix(path_of(options.importance)));

    std::vector<PlannableTensor> tensors;
    for (const pipeline::GgufInput& tensor : input.tensors) {
        std::vector<std::size_t> sizes = tensor.source.sizes;
        while (sizes.size() > 1 && sizes.back() == 1) sizes.pop_back();
        tensors.push_back({tensor.source.name, {tensor.source.name, tensor.k(), sizes.size()}});
    }
    std::vector<PlannedLayer> plan = make_plan(tensors, input.model, options.plan);
    const auto allocation = allocate(options, plan, program.context());
    if (allocation) print_allocation(*allocation);

    const Method method = options.plan.method.method();
    const bool calibrates = options.plan.method.calibrates();
    if (calibrates && importance)
        throw Failure(
            fmt::format("--imatrix weighs what rtn and mse round; --method {} calibrates with a text of its "
                        "own (--calibration)",
                        options.plan.method.name));
    CalibratedTensors calibrated;
    if (calibrates && !options.dry_run) {
        for (const PlannedLayer& planned : plan)
            if (planned.format) expect(pipeline::gguf_type_of(*planned.format));
        calibrated = calibrate(options, plan, program.context());
    }
    std::vector<Work> works;
    works.reserve(input.tensors.size());  // reports are filled in later, by address
    std::vector<io::GgufSource> sources;
    std::size_t unweighed = 0;
    for (std::size_t i = 0; i < input.tensors.size(); ++i) {
        const pipeline::GgufInput& tensor = input.tensors[i];
        Work& work = works.emplace_back(Work{&tensor, plan[i].format, {}, {}});
        if (work.format && expect(pipeline::gguf_type_of(*work.format)) == tensor.source.type)
            work.format.reset();  // it is that already
        if (!work.format) {
            const auto changed = calibrated.folded.find(tensor.source.name);
            sources.push_back(changed == calibrated.folded.end() ? tensor.source : changed->second.source);
            continue;
        }
        if (!tensor.is_float())
            throw Failure(
                fmt::format("'{}' is {} already; start from the float model, or the report would hide a "
                            "part of the error (--keep '{}' passes it on)",
                            tensor.source.name, tensor.source.type->name, tensor.source.name));
        if (calibrates && !options.dry_run) {
            const auto found = calibrated.tensors.find(tensor.source.name);
            if (found == calibrated.tensors.end())
                throw Failure(
                    fmt::format("'{}' is no layer of the model that calibration runs; --keep or "
                                "--tensor-format can leave it as it is",
                                tensor.source.name));
            work.outcome = found->second.second;
            sources.push_back(found->second.first.source);
            continue;
        }
        if (importance) {
            work.importance = importance_of(*importance, tensor);
            unweighed += work.importance.empty();
        }
        sources.push_back(expect(pipeline::quantized_source(
            tensor, {*work.format, method, work.importance, program.context()}, work.outcome.report)));
    }
    if (unweighed != 0)
        say("--imatrix has nothing about {} of the matrices; they are encoded without.\n", unweighed);
    describe(input.metadata, sources, options.plan.mix, importance ? &*importance : nullptr, options);

    std::vector<QuantizeRow> rows = rows_of(works, plan, sources);
    const QuantizeTotals totals = totals_of(rows);
    QuantizeCost cost;
    std::uintmax_t file_bytes = 0;
    if (options.dry_run) {
        cost.file_bytes = expect(io::gguf_file_bytes(input.metadata, sources));
        if (!calibrates) cost = cost_of(works, sources, input.metadata, options, program);
        file_bytes = cost.file_bytes;
        print_plan(rows);
        print_cost(cost);
        say("Nothing was written (--dry-run).\n");
    } else {
        Progress progress("quantizing");
        double done = 0;
        for (std::size_t i = 0; i < sources.size(); ++i)
            sources[i].produce = [&, i, produce = std::move(sources[i].produce)](auto sink) {
                auto result = produce(sink);
                done += rows[i].weights();
                progress.update(static_cast<std::size_t>(done), static_cast<std::size_t>(totals.weights),
                                rows[i].name);
                return result;
            };
        expect(io::write_gguf(output, input.metadata, sources));
        finish_calibration_files(options.files);
        for (std::size_t i = 0; i < rows.size(); ++i)
            if (works[i].format) rows[i].outcome = works[i].outcome;
        print_report(rows);
        print_calibration(calibrated.model, options.files);
        std::error_code error;
        file_bytes = std::filesystem::file_size(output, error);
        say("\n{}\n", wrapped(fmt::format("{} weights: {:.3f} bits per weight became {:.3f}; '{}' has {}",
                                          grouped(static_cast<std::size_t>(totals.weights)),
                                          totals.bits_per_weight_before(), totals.bits_per_weight(),
                                          options.output, bytes_text(static_cast<double>(file_bytes))),
                              80));
    }
    Json body = quantize_json(options, rows);
    body["rotations"] = Json();
    body["parameters"] = static_cast<std::size_t>(totals.weights);
    body["bits_per_weight_before"] = totals.bits_per_weight_before();
    body["bits_per_weight"] = totals.bits_per_weight();
    body["file_bytes"] = file_bytes;
    body["estimated_seconds"] = options.dry_run && !calibrates ? Json(cost.seconds) : Json();
    body["allocation"] = allocation_json(allocation);
    program.write_json("quantize/1", std::move(body));
    return Status::done;
}

}  // namespace fewbit::cli
