// Definitions of pipeline/static_ranges.hpp.
#include "fewbit/pipeline/static_ranges.hpp"

#include <optional>
#include <utility>

#include "fewbit/calibrate/observers.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/model/transformer.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

/// Everything that the rules may ask of one layer's inputs.
class LayerRange {
public:
    LayerRange(std::string_view layer, const Linear& linear, const StaticRangeOptions& options)
        : linear_(&linear),
          rule_(options.rule),
          min_max_(std::string(layer)),
          average_(std::string(layer), options.momentum),
          histogram_(std::string(layer)) {}

    [[nodiscard]] Result<void> observe(MatrixView<const float> x) {
        const Matrix read = codes_read(*linear_, x);
        x = read.view();
        switch (rule_) {
            case RangeRule::min_max: return min_max_.observe(x);
            case RangeRule::moving_average: return average_.observe(x);
            default: return histogram_.observe(x);
        }
    }

    [[nodiscard]] StaticRange range(const ActivationFormat& format, double tail) const {
        Range found;
        switch (rule_) {
            case RangeRule::min_max:
                if (!min_max_.ranges().empty()) found = min_max_.ranges()[0];
                break;
            case RangeRule::moving_average:
                if (const auto ranges = average_.ranges(); !ranges.empty()) found = ranges[0];
                break;
            case RangeRule::percentile: found = histogram_.percentile(tail); break;
            case RangeRule::mse: found = histogram_.mse(format.bits, !format.asymmetric); break;
        }
        return {found.min, found.max};
    }

private:
    const Linear* linear_;
    RangeRule rule_;
    MinMaxObserver min_max_;
    MovingAverageObserver average_;
    HistogramObserver histogram_;
};

}  // namespace

Result<StaticRanges> calibrate_static_ranges(const io::ModelFile& file,
                                             std::span<const std::vector<int>> windows,
                                             const ActivationFormat& format,
                                             const StaticRangeOptions& options, ExecutionContext context) {
    if (auto valid = validate(format); !valid) return Unexpected{std::move(valid).error()};
    if (format.element != ActivationElement::int8)
        return fail(ErrorKind::bad_input, name(format), " activations have no ranges to calibrate");
    if (windows.empty()) return fail(ErrorKind::bad_input, "there are no tokens to calibrate with");
    if (!(options.tail >= 0 && options.tail < 0.5))
        return fail(ErrorKind::bad_input, "a share of ", options.tail,
                    " cannot be left outside at each end; it is at least 0 and below 0.5");

    // The weights as they will run, the activations exact.
    model::ModelOptions exact;
    exact.fallback = Fallback::allow;
    const auto transformer = model::Transformer::create(file, exact, context);
    if (!transformer) return Unexpected{transformer.error()};

    std::map<std::string, LayerRange, std::less<>> layers;
    std::optional<Error> first_error;  // an observer cannot return it
    const model::LayerObserver observer = [&](std::string_view layer, MatrixView<const float> x) {
        if (first_error) return;
        auto found = layers.find(layer);
        if (found == layers.end()) {
            const bool head_is_embedding = layer == "lm_head" && file.shape.tied_head;
            const auto linear =
                file.linears.find(head_is_embedding ? "model.embed_tokens" : std::string(layer));
            if (linear == file.linears.end() || linear->second.weights.format().is_float()) return;
            found = layers.try_emplace(std::string(layer), layer, linear->second, options).first;
        }
        if (auto seen = found->second.observe(x); !seen) first_error = std::move(seen).error();
    };
    for (std::size_t i = 0; i < windows.size(); ++i) {
        const std::string which = text("calibration window ", i);
        auto cache = model::KvCache::create(file.shape, windows[i].size());
        if (!cache) return Unexpected{std::move(cache).error().within(which)};
        Matrix logits(windows[i].size(), file.shape.vocabulary);  // without them the head is not run
        if (auto done = transformer->forward(windows[i], *cache, logits, context, observer); !done)
            return Unexpected{std::move(done).error().within(which)};
        if (first_error) return Unexpected{std::move(*first_error).within(which)};
    }
    StaticRanges ranges;
    for (const auto& [layer, seen] : layers) ranges[layer] = seen.range(format, options.tail);
    return ranges;
}

}  // namespace fewbit::inline v0::pipeline
