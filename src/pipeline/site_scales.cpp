// Definitions of site_scales.hpp.
#include "src/pipeline/site_scales.hpp"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

namespace fewbit::inline v0::pipeline {
namespace {

using Plan = std::map<std::string, LayerChoice>;

/// The options of awq where all readers are quantized with it, those of the last one; null otherwise.
[[nodiscard]] const AwqOptions* awq_of(const Fold& fold, const Plan& plan) {
    const AwqOptions* options = nullptr;
    for (const std::string& reader : fold.readers) {
        const auto choice = plan.find(reader);
        options = choice == plan.end() ? nullptr : std::get_if<AwqOptions>(&choice->second.method);
        if (options == nullptr) return nullptr;
    }
    return options;
}

[[nodiscard]] bool is_smooth(const Fold& fold, const Plan& plan,
                             const std::optional<SmoothQuantOptions>& smoothquant) {
    return smoothquant &&
           std::ranges::all_of(fold.readers, [&](const auto& reader) { return plan.contains(reader); });
}

}  // namespace

bool has_scales(const Fold& fold, const Plan& plan, const std::optional<SmoothQuantOptions>& smoothquant) {
    return awq_of(fold, plan) != nullptr || is_smooth(fold, plan, smoothquant);
}

Result<ChannelScales> scales_of(const Fold& fold, const io::ModelFile& file, const Plan& plan,
                                const std::optional<SmoothQuantOptions>& smoothquant,
                                const TensorStatistics& statistics, ExecutionContext context) {
    std::vector<Matrix> weights;
    std::vector<MatrixView<const float>> readers;
    for (const std::string& reader : fold.readers) {
        weights.push_back(dequantized(file.linears.at(reader)));
    }
    for (const Matrix& w : weights) readers.push_back(w.view());
    if (is_smooth(fold, plan, smoothquant)) {
        SmoothQuantOptions options = *smoothquant;
        options.tensor = fold.readers.front();
        return smoothquant_scales(readers, statistics, options, fold.source);
    }
    AwqOptions options = *awq_of(fold, plan);
    options.tensor = fold.readers.front();
    return awq_scales(readers, statistics, plan.at(fold.readers.front()).format, options, fold.source,
                      context);
}

}  // namespace fewbit::inline v0::pipeline
