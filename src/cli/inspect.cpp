// `fewbit inspect`: what a model file holds, what it costs, whether its numbers are numbers, and who can read
// it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>

#include "fewbit/io/model_safetensors.hpp"
#include "fewbit/io/safetensors.hpp"
#include "src/cli/inspect.hpp"

namespace fewbit::cli {

void note_bad(BadNumbers& bad, double value, std::vector<std::size_t> index) {
    if (std::isfinite(value)) return;
    if (bad.count++ == 0) {
        bad.index = std::move(index);
        bad.value = std::isnan(value) ? "NaN" : value > 0 ? "+infinity" : "-infinity";
    }
}

namespace {

BadNumbers scan(const std::string& name, const QuantizedMatrix& matrix) {
    BadNumbers bad{name, {}, {}, 0};
    std::vector<float> row(matrix.k());
    for (std::size_t r = 0; r < matrix.n(); ++r) {
        matrix.dequantize(r, 0, row);
        for (std::size_t c = 0; c < row.size(); ++c) note_bad(bad, static_cast<double>(row[c]), {r, c});
    }
    return bad;
}

Findings inspect_model(const std::string& path, ExecutionContext context) {
    const io::ModelFile model = load_model(path);
    Findings found;
    found.type = model.type;
    if (model.shape.layers != 0) found.shape = model.shape;
    found.metadata = model.metadata;
    found.size = size_of(model);
    bool all_float = true;
    std::vector<const std::pair<const std::string, Linear>*> linears;
    for (const auto& entry : model.linears) {
        const Linear& linear = entry.second;
        found.tensors.push_back(
            {entry.first, {linear.n(), linear.k()}, name(linear.weights.format()), linear.total_bits()});
        all_float = all_float && linear.weights.format().is_float();
        linears.push_back(&entry);
    }
    std::vector<BadNumbers> bad(linears.size());
    Progress progress("looking for NaN");
    context.parallel_for(linears.size(), [&](std::size_t i, std::size_t) {
        bad[i] = scan(linears[i]->first, linears[i]->second.weights);
    });
    for (const auto& [name, values] : model.vectors) {
        found.tensors.push_back({name, {values.size()}, "f32", 32.0 * static_cast<double>(values.size())});
        bad.push_back({name, {}, {}, 0});
        for (std::size_t i = 0; i < values.size(); ++i)
            note_bad(bad.back(), static_cast<double>(values[i]), {i});
    }
    for (BadNumbers& one : bad)
        if (one.count != 0) found.bad.push_back(std::move(one));
    if (kind_of_model(path) == ModelKind::llama2c)
        found.readers = {"llama2.c (run.c; runq.c for version 2) and its ports"};
    else if (kind_of_model(path) == ModelKind::embedded)
        found.readers = {"fewbit, which carries it; `fewbit quantize embedded -o FILE` writes it to a file"};
    else if (all_float)
        found.readers = {"Hugging Face transformers", "vLLM and others that read its llama models",
                         "every safetensors library"};
    else
        found.readers = {
            "every safetensors library, as plain tensors; the meaning of quantized layers only fewbit "
            "(docs/files.md)"};
    return found;
}

/// A safetensors file that is no model: its tensors, nothing else.
Findings inspect_tensors(const io::SafetensorsFile& file) {
    Findings found;
    found.type = "safetensors, no model that fewbit knows";
    found.readers = {"every safetensors library"};
    for (const auto& [key, value] : file.metadata()) found.metadata[key] = value;
    for (const auto& [name, entry] : file.entries()) {
        found.tensors.push_back({name, entry.shape, std::string(io::name(entry.type)),
                                 8.0 * static_cast<double>(entry.size_bytes)});
        found.size.parameters += static_cast<std::size_t>(found.tensors.back().elements());
        found.size.bits += found.tensors.back().bits;
        const auto type = io::scalar(entry.type);
        if (!type || (*type != Scalar::f32 && *type != Scalar::f16 && *type != Scalar::bf16)) continue;
        BadNumbers bad{name, {}, {}, 0};
        const auto bytes = file.bytes(entry);
        const std::size_t element = size_bytes(*type);
        for (std::size_t i = 0; i * element < bytes.size(); ++i)
            note_bad(bad, static_cast<double>(load_float(*type, bytes.data() + i * element)), {i});
        if (bad.count != 0) found.bad.push_back(std::move(bad));
    }
    return found;
}

Findings inspect(const std::string& path, ExecutionContext context) {
    if (kind_of_model(path) == ModelKind::gguf) return inspect_gguf(path, context);
    if (kind_of_model(path) == ModelKind::safetensors) {
        std::error_code error;
        const std::filesystem::path given = path_of(path);
        const bool folder = std::filesystem::is_directory(given, error);
        const std::filesystem::path directory = folder ? given : given.parent_path();
        if (!folder && !std::filesystem::exists(directory / "config.json", error)) {
            const auto file = expect(io::open_safetensors(given));
            if (!file.metadata().count("fewbit.version")) return inspect_tensors(file);
        }
    }
    return inspect_model(path, context);
}

std::string index_text(const std::vector<std::size_t>& index) {
    return fmt::format("[{}]", fmt::join(index, ", "));
}

void print_text(const std::string& path, double file_bytes, const Findings& found) {
    say("{}\n{}, {}, {} weights, {:.3f} bits per weight\n", path, found.type, bytes_text(file_bytes),
        grouped(found.size.parameters), found.size.bits_per_weight());
    if (found.shape) {
        const io::ModelShape& s = *found.shape;
        say("Llama: dim {}, hidden {}, {} layers, {} heads of {}, {} KV heads, vocabulary {},\ncontext {}, "
            "RoPE base {}, norm epsilon {}, {} head\n",
            s.dim, s.hidden, s.layers, s.heads, s.head_dim, s.kv_heads, s.vocabulary, s.context, s.rope_base,
            s.norm_epsilon, s.tied_head ? "tied" : "own");
    }
    for (const std::string& line : found.lines) say("{}\n", line);
    Table table({{"tensor"},
                 {"shape", Table::Align::right},
                 {"format"},
                 {"bpw", Table::Align::right},
                 {"size", Table::Align::right}});
    for (const TensorRow& row : found.tensors)
        table.add({short_name(row.name), fmt::format("{}", fmt::join(row.shape, " x ")), row.format,
                   fmt::format("{:.3f}", row.bits_per_weight()), bytes_text(row.bits / 8)});
    say("\n{}\n", table.text());
    for (const BadNumbers& bad : found.bad)
        say("tensor '{}': {} at {}{}\n", bad.tensor, bad.value, index_text(bad.index),
            bad.count == 1 ? "" : fmt::format(" and {} more that are not finite", grouped(bad.count - 1)));
    if (found.bad.empty()) say("All numbers are finite.\n");
    say("{}\n", wrapped(fmt::format("Read by {}.", fmt::join(found.readers, "; ")), 80));
}

Json json_of(const std::string& path, std::uintmax_t file_bytes, const Findings& found) {
    Json tensors = Json::array(), bad = Json::array(), shape;
    for (const TensorRow& row : found.tensors)
        tensors.push_back({{"name", row.name},
                           {"shape", row.shape},
                           {"format", row.format},
                           {"bits_per_weight", row.bits_per_weight()},
                           {"bits", row.bits}});
    for (const BadNumbers& one : found.bad)
        bad.push_back(
            {{"tensor", one.tensor}, {"index", one.index}, {"value", one.value}, {"count", one.count}});
    if (found.shape) {
        const io::ModelShape& s = *found.shape;
        shape = {{"dim", s.dim},
                 {"hidden", s.hidden},
                 {"layers", s.layers},
                 {"heads", s.heads},
                 {"kv_heads", s.kv_heads},
                 {"head_dim", s.head_dim},
                 {"vocabulary", s.vocabulary},
                 {"context", s.context},
                 {"rope_base", s.rope_base},
                 {"norm_epsilon", s.norm_epsilon},
                 {"tied_head", s.tied_head}};
    }
    return {{"model", path},
            {"type", found.type},
            {"file_bytes", file_bytes},
            {"shape", shape},
            {"parameters", found.size.parameters},
            {"bits_per_weight", found.size.bits_per_weight()},
            {"tensors", tensors},
            {"not_finite", bad},
            {"readers", found.readers},
            {"metadata", found.metadata}};
}

Status run(const std::string& path, Program& program) {
    const Findings found = inspect(path, program.context());
    const std::uintmax_t bytes = model_bytes(path);
    print_text(path, static_cast<double>(bytes), found);
    program.write_json("inspect/1", json_of(path, bytes, found));
    return found.bad.empty() ? Status::done : Status::no;
}

}  // namespace

void add_inspect(CLI::App& app, Program& program) {
    auto path = std::make_shared<std::string>();
    CLI::App* command = program.add(app, "inspect", "Show what a model file holds",
                                    [=, &program] { return run(*path, program); });
    add_model(*command, *path);
    command->footer("Exit status 1: some numbers are NaN or infinite.");
}

}  // namespace fewbit::cli
