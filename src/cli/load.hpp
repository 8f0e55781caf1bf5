// Models, tokenizers and texts from the command line, and the report of what ran.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fewbit/io/mapped_file.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fewbit/model/transformer.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

/// MODEL, as the user wrote it. `--tokenizer` where a command needs words.
CLI::Option* add_model(CLI::App& command, std::string& path);
CLI::Option* add_tokenizer(CLI::App& command, std::string& path);

/// What a MODEL argument names, told from its spelling and, for folders, from the disk.
enum class ModelKind { llama2c, safetensors, gguf, embedded };
[[nodiscard]] ModelKind kind_of_model(const std::string& path);

/// Reads a llama2.c `.bin`, a `.safetensors` file, a folder with one, a `.gguf`, or the embedded model.
[[nodiscard]] io::ModelFile load_model(const std::string& path);
/// Size of the file behind a MODEL argument; 0 where there is none.
[[nodiscard]] std::uintmax_t model_bytes(const std::string& path);

/// Models of the synthetic corpus say so in their metadata, under "tokenizer".
inline constexpr const char* embedded_tokenizer_mark = "fewbit embedded";
[[nodiscard]] bool is_embedded_tokenizer(const model::Tokenizer& tokenizer);

/// `path` may be "embedded", or empty: then the model must say so itself or, in GGUF, bring its tokenizer
/// (`model_path` is where it came from), or the message says how to name one.
[[nodiscard]] model::Tokenizer load_tokenizer(const std::string& path, const io::ModelFile& model,
                                              const std::string& model_path);
/// The whole file, mapped; the view lives as long as `file`.
struct Text {
    std::shared_ptr<const io::MappedFile> file;
    [[nodiscard]] std::string_view view() const;
};
[[nodiscard]] Text load_text(const std::string& path);

/// Bits of a whole model over its weights: embedding, head and norm gains counted.
struct ModelSize {
    std::size_t parameters = 0;
    double bits = 0;

    [[nodiscard]] double bits_per_weight() const {
        return parameters == 0 ? 0 : bits / static_cast<double>(parameters);
    }
};
[[nodiscard]] ModelSize size_of(const io::ModelFile& model);

/// For the eye: "model.layers.0.mlp.up_proj" without the "model." that all layers share.
[[nodiscard]] std::string short_name(std::string_view layer);

/// Transformer::create; where it fails because only fallbacks fit, the message says how to allow them.
[[nodiscard]] model::Transformer make_transformer(const io::ModelFile& model,
                                                  const model::ModelOptions& options,
                                                  ExecutionContext context);

/// A kernel and the layers that it runs, wherever it runs them.
struct KernelRow {
    std::string kernel, prompt_kernel;  ///< for one token; for prompts, where that is another
    std::string isa, weights, activations;
    std::string note, fallback_reason;
    std::vector<std::string> layers;
};
[[nodiscard]] std::vector<KernelRow> kernel_rows(const model::Transformer& transformer);
/// One line per kernel, fallbacks marked with their reason. For stdout or stderr.
[[nodiscard]] std::string kernels_text(const std::vector<KernelRow>& kernels);
[[nodiscard]] Json kernels_json(const std::vector<KernelRow>& kernels);

}  // namespace fewbit::cli
