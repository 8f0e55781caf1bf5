// Definitions of saved_statistics.hpp.
#include "src/pipeline/saved_statistics.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <variant>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "fewbit/quantize/channel_scales.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

[[nodiscard]] Unexpected<Error> missing(const std::string& layer) {
    return fail(ErrorKind::bad_input, "the statistics have nothing about layer '", layer, "'");
}

[[nodiscard]] Result<void> check_channels(const TensorStatistics& statistics, const std::string& layer,
                                          std::size_t k) {
    if (statistics.channels() == k) return {};
    return fail(ErrorKind::bad_input, "the statistics of layer '", layer, "' are of ", statistics.channels(),
                " channels; it reads ", k);
}

/// x as it was divided before, now divided by `scales` instead.
[[nodiscard]] Result<TensorStatistics> divided_by(const TensorStatistics& before,
                                                  std::span<const float> scales, const std::string& layer) {
    std::vector<float> ratio(before.channels(), 1.0f);
    for (std::size_t k = 0; k < ratio.size(); ++k) {
        if (!scales.empty()) ratio[k] = scales[k];
        if (!before.channel_scales.empty()) ratio[k] /= before.channel_scales[k];
        if (!std::isnormal(ratio[k]))
            return fail(ErrorKind::bad_input, "the statistics of layer '", layer, "': channel ", k,
                        " was divided by ", before.channel_scales.empty() ? 1.0f : before.channel_scales[k],
                        ", which is too far from the scale that this run divides it by");
    }
    auto after = scaled_statistics(before, ratio);
    if (after) after->channel_scales.assign(scales.begin(), scales.end());
    return after;
}

}  // namespace

std::string float_block_name(std::string_view layer) { return text(layer, ".float_block"); }

Result<std::optional<SavedInput>> saved_input(const Statistics& saved, const std::string& layer,
                                              std::size_t k, std::span<const float> scales,
                                              const Method& method) {
    const TensorStatistics* found = saved.find(layer);
    if (found == nullptr) {
        if (needs_statistics(method)) return missing(layer);
        return std::optional<SavedInput>();
    }
    if (auto fits = check_channels(*found, layer, k); !fits) return Unexpected{std::move(fits).error()};
    SavedInput input{*found, {}};
    if (!std::ranges::equal(found->channel_scales, scales)) {
        auto divided = divided_by(*found, scales, layer);
        if (!divided) return Unexpected{std::move(divided).error()};
        input.statistics = *std::move(divided);
        input.note = text("tensor '", layer,
                          "': its statistics are of an input whose channels were scaled otherwise, and were "
                          "converted");
    }
    if (compensates_inputs(method) && input.statistics.asymmetry_sum.elements() == 0)
        input.note += text(input.note.empty() ? "" : "; ", "tensor '", layer,
                           "': its statistics do not tell what earlier layers lost, and nothing of that is "
                           "compensated");
    return std::optional(std::move(input));
}

Result<TensorStatistics> saved_input(const Statistics& saved, const Fold& fold) {
    const std::string& layer = fold.readers.front();
    const TensorStatistics* found = saved.find(float_block_name(layer));
    if (found == nullptr) found = saved.find(layer);
    if (found == nullptr) return missing(layer);
    if (auto fits = check_channels(*found, layer, fold.k); !fits) return Unexpected{std::move(fits).error()};
    if (found->channel_scales.empty()) return *found;
    return divided_by(*found, {}, layer);
}

}  // namespace fewbit::inline v0::pipeline
