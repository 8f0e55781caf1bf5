// Which layer of a model gets which format.
#pragma once

#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/formats/format.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/pipeline/mixes.hpp"
#include "fewbit/pipeline/outliers.hpp"
#include "fewbit/pipeline/rotations.hpp"
#include "src/cli/command.hpp"
#include "src/cli/method_options.hpp"

namespace fewbit::cli {

/// The layers whose name contains a regular expression (ECMAScript); an empty one matches none.
class LayerPattern {
public:
    /// Throws Failure, which names the option: no regular expression.
    LayerPattern(std::string_view option, const std::string& text);
    [[nodiscard]] bool operator()(std::string_view layer) const;

private:
    std::optional<std::regex> regex_;
};

/// What the options of a command say about quantizing.
struct PlanOptions {
    std::optional<Format> format;
    const pipeline::Mix* mix = nullptr;  ///< --format named one instead
    MethodOptions method;
    std::vector<std::string> overrides;  ///< REGEX=FORMAT
    std::optional<std::string>
        keep;  ///< nothing: default_keep, and none with a mix, which has rules of its own
    std::optional<double> outliers;  ///< factor; only where there is an --outliers
    std::optional<pipeline::RotationOptions> rotations;

    /// Anything at all is to be quantized.
    [[nodiscard]] bool any() const { return format || mix != nullptr || !overrides.empty(); }
    /// "int4-g128", "q4_k_m"; nothing where only --tensor-format says what.
    [[nodiscard]] std::optional<std::string> format_name() const;
};
/// The embedding and the head, by their names in both kinds of files.
inline constexpr const char* default_keep = "embed_tokens|lm_head|token_embd|^output\\.";
/// --format, --tensor-format, --keep, and those of the method.
void add_plan_options(CLI::App& command, PlanOptions& options, bool format_required);
/// --outliers, for commands that only measure: a file is not to carry made outliers on.
void add_outliers_option(CLI::App& command, PlanOptions& options);
/// Does to a float model what --outliers asks for, before anything is quantized; nothing without it. `path`
/// names the model in messages.
std::optional<pipeline::OutlierReport> make_outliers(io::ModelFile& model, const PlanOptions& options,
                                                     const std::string& path);

/// --rotate, for commands that quantize without training.
void add_rotate_option(CLI::App& command, PlanOptions& options);
/// Does to a float model what --rotate asks for, before anything is planned; nothing without it.
std::optional<pipeline::RotationReport> make_rotations(io::ModelFile& model, const PlanOptions& options,
                                                       const std::string& path, ExecutionContext context);

/// What was decided for one layer.
struct PlannedLayer {
    std::string name;
    std::optional<Format> format;  ///< nothing: stays as it is
    std::string why;  ///< "--format", "--keep", the REGEX=FORMAT of --tensor-format, "q4_k_m: output"
};

/// A tensor as the plan sees it: patterns look at `name`, mixes at its name in GGUF.
struct PlannableTensor {
    std::string name;
    pipeline::MixTensor gguf;
};

/// A decision for every tensor, in their order. Of several --tensor-format that match, the one that matches the
/// fewest tensors counts (of equals the last), and it outweighs --keep. Throws Failure: an override that is
/// malformed or matches nothing, a format that a tensor's K does not fit.
[[nodiscard]] std::vector<PlannedLayer> make_plan(const std::vector<PlannableTensor>& tensors,
                                                  const pipeline::MixModel& model,
                                                  const PlanOptions& options);
/// For the matrices of a model, in order of names.
[[nodiscard]] std::vector<PlannedLayer> make_plan(const io::ModelFile& model, const PlanOptions& options);
/// What mixes ask about a model.
[[nodiscard]] pipeline::MixModel mix_model(const io::ModelShape& shape);

}  // namespace fewbit::cli
