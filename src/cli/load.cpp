// Models, tokenizers and texts from the command line.
#include "src/cli/load.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <system_error>

#include "fewbit/evaluate/embedded_vocabulary.hpp"
#include "fewbit/io/llama2c.hpp"
#include "fewbit/io/model_gguf.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "src/cli/embedded_model.hpp"
#include "src/cli/evaluate_text.hpp"

namespace fewbit::cli {

CLI::Option* add_model(CLI::App& command, std::string& path) {
    return command
        .add_option("MODEL", path,
                    "embedded, a llama2.c .bin, a .safetensors or .gguf file, or a folder with "
                    "model.safetensors and config.json")
        ->required()
        ->type_name("");
}

CLI::Option* add_tokenizer(CLI::App& command, std::string& path) {
    return command
        .add_option("--tokenizer", path,
                    "The model's tokenizer, as llama2.c writes it (tokenizer.bin); of GGUF files their own")
        ->type_name("FILE");
}

ModelKind kind_of_model(const std::string& path) {
    if (path == "embedded") return ModelKind::embedded;
    const std::filesystem::path file = path_of(path);
    std::string extension = file.extension().string();
    std::ranges::transform(extension, extension.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    if (extension == ".gguf") return ModelKind::gguf;
    std::error_code error;
    if (extension == ".safetensors" || std::filesystem::is_directory(file, error))
        return ModelKind::safetensors;
    if (extension == ".bin") return ModelKind::llama2c;
    if (!std::filesystem::exists(file, error)) throw Failure(fmt::format("there is no file '{}'", path));
    throw Failure(
        fmt::format("'{}': a model ends in .bin (llama2.c), .safetensors or .gguf, or is a folder with "
                    "model.safetensors in it",
                    path));
}

io::ModelFile load_model(const std::string& path) {
    switch (kind_of_model(path)) {
        case ModelKind::llama2c: return expect(io::read_llama2c(path_of(path)));
        case ModelKind::safetensors: {
            io::ModelFile model = expect(io::read_safetensors_model(path_of(path)));
            if (const auto warning = model.metadata.find("warning"); warning != model.metadata.end())
                note("'{}' has a warning: {}\n", path, quoted_head(warning->second, 300));
            return model;
        }
        case ModelKind::gguf: return expect(io::read_gguf_model(path_of(path)));
        case ModelKind::embedded: break;
    }
    if (embedded_model().empty())
        throw Failure("this build carries no embedded model; `fewbit train` makes one, or name a model file");
    const auto file = expect(io::parse_safetensors(embedded_model(), nullptr, "the embedded model"));
    io::ModelFile model = expect(io::read_safetensors_model(file, {}));
    model.metadata["tokenizer"] = embedded_tokenizer_mark;
    return model;
}

model::Tokenizer load_tokenizer(const std::string& path, const io::ModelFile& model,
                                const std::string& model_path) {
    const auto mark = model.metadata.find("tokenizer");
    if (path == "embedded" ||
        (path.empty() && mark != model.metadata.end() && mark->second == embedded_tokenizer_mark)) {
        auto tokenizer = expect(model::Tokenizer::create(evaluate::embedded_vocabulary()));
        if (tokenizer.size() != model.shape.vocabulary)
            throw Failure(fmt::format("the embedded tokenizer has {} tokens, the model a vocabulary of {}",
                                      tokenizer.size(), model.shape.vocabulary));
        return tokenizer;
    }
    if (path.empty() && kind_of_model(model_path) == ModelKind::gguf) {
        auto vocabulary = io::read_gguf_vocabulary(expect(io::open_gguf(path_of(model_path))));
        if (!vocabulary)
            throw Failure(vocabulary.error().message +
                          "\n--tokenizer FILE names another, as llama2.c writes it.");
        return expect(model::Tokenizer::create(*std::move(vocabulary)));
    }
    if (path.empty())
        throw Failure(
            fmt::format("{} model files hold no tokenizer; name it with --tokenizer FILE", model.type));
    return expect(model::Tokenizer::read_llama2c(path_of(path), model.shape.vocabulary));
}

std::uintmax_t model_bytes(const std::string& path) {
    if (path == "embedded") return embedded_model().size();
    std::error_code error;
    std::filesystem::path file = path_of(path);
    if (std::filesystem::is_directory(file, error)) file /= "model.safetensors";
    const std::uintmax_t bytes = std::filesystem::file_size(file, error);
    return error ? 0 : bytes;
}

bool is_embedded_tokenizer(const model::Tokenizer& tokenizer) {
    return tokenizer.vocabulary().pieces == evaluate::embedded_vocabulary().pieces;
}

std::string_view Text::view() const {
    const auto bytes = file->bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Text load_text(const std::string& path) { return {expect(io::MappedFile::open(path_of(path)))}; }

ModelSize size_of(const io::ModelFile& model) {
    ModelSize size;
    for (const auto& [name, linear] : model.linears) {
        size.parameters += linear.n() * linear.k() + linear.bias.size();
        size.bits += linear.total_bits();
    }
    for (const auto& [name, values] : model.vectors) {
        size.parameters += values.size();
        size.bits += 32.0 * static_cast<double>(values.size());
    }
    return size;
}

std::string short_name(std::string_view layer) {
    return shortened(layer.starts_with("model.") ? layer.substr(6) : layer, 34);
}

model::Transformer make_transformer(const io::ModelFile& model, const model::ModelOptions& options,
                                    ExecutionContext context) {
    auto transformer = model::Transformer::create(model, options, context);
    if (!transformer && transformer.error().kind == ErrorKind::no_kernel &&
        options.fallback == Fallback::refuse)
        throw Failure(transformer.error().message + "\n--fallback allow lets it run all the same, slowly.");
    return expect(std::move(transformer));
}

std::vector<KernelRow> kernel_rows(const model::Transformer& transformer) {
    std::vector<KernelRow> rows;
    for (const model::KernelUse& use : transformer.kernels())
        rows.push_back({std::string(use.kernel),
                        {},
                        std::string(name(use.isa)),
                        name(use.weights),
                        name(use.activations),
                        use.note,
                        use.fallback_reason,
                        use.layers});
    return rows;
}

std::string kernels_text(const std::vector<KernelRow>& kernels) {
    std::string out;
    for (const KernelRow& row : kernels) {
        out += fmt::format(
            "kernel  {}: {} weights, {} activations, {}\n", row.kernel, row.weights, row.activations,
            row.layers.size() == 1 ? row.layers.front() : fmt::format("{} layers", row.layers.size()));
        if (!row.prompt_kernel.empty()) out += fmt::format("        prompts: {}\n", row.prompt_kernel);
        if (!row.note.empty()) out += "        " + wrapped(row.note, 80, 8) + '\n';
        if (!row.fallback_reason.empty())
            out += "        " + wrapped("FALLBACK: " + row.fallback_reason, 80, 8) + '\n';
    }
    return out;
}

Json kernels_json(const std::vector<KernelRow>& kernels) {
    Json rows = Json::array();
    for (const KernelRow& row : kernels)
        rows.push_back({{"kernel", row.kernel},
                        {"isa", row.isa},
                        {"format", row.weights},
                        {"activations", row.activations},
                        {"layers", row.layers},
                        {"fallback", !row.fallback_reason.empty()},
                        {"reason", row.fallback_reason},
                        {"note", row.note}});
    return rows;
}

}  // namespace fewbit::cli
