// Definitions of model/quantized_training.hpp.
#include "fewbit/model/quantized_training.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fewbit/qat/fake_activations.hpp"

namespace fewbit::inline v0::model {
namespace {

template <class T>
MatrixView<T> matrix(std::span<T> values, const ParameterSlot& slot) {
    return {values.data() + slot.first, slot.rows, slot.cols};
}

float rounded(float value, Scalar type) noexcept {
    std::byte bytes[8];
    store_float(type, value, bytes);
    return load_float(type, bytes);
}

/// The first error of tasks that ran side by side: that of the first layer.
template <class Body>
Result<void> for_layers(std::size_t count, ExecutionContext context, Body&& body) {
    std::vector<Result<void>> results(count);
    context.parallel_for(count, [&](std::size_t i, std::size_t) { results[i] = body(i); });
    for (Result<void>& result : results)
        if (!result) return std::move(result);
    return {};
}

}  // namespace

Result<QuantizedWeights> QuantizedWeights::create(const ParameterTable& table,
                                                  std::span<const float> parameters,
                                                  const FormatOfLayer& format,
                                                  const LearnedScaleOptions& options,
                                                  ExecutionContext context) {
    QuantizedWeights made(options, context);
    for (const ParameterSlot& slot : table.slots()) {
        const Format wanted = slot.is_vector ? float_format(Scalar::f32) : format(slot.name);
        if (wanted.is_float()) {
            if (const Scalar type = element_scalar(wanted); type != Scalar::f32)
                made.floats_.push_back({slot, type});
            continue;
        }
        auto grids = qat::LearnedGrids::make(matrix(parameters, slot), wanted, options.initial);
        if (!grids) return Unexpected{std::move(grids).error().within(slot.name)};
        Layer layer{slot, *std::move(grids), {}, {}, {}, {}};
        const std::size_t count = layer.grids.scales().size() + layer.grids.offsets().size();
        layer.units.assign(layer.grids.scales().begin(), layer.grids.scales().end());
        layer.units.resize(count);
        std::copy_n(layer.units.begin(), layer.grids.offsets().size(),
                    layer.units.begin() + static_cast<std::ptrdiff_t>(layer.grids.scales().size()));
        layer.gradients.resize(count);
        layer.first.resize(count);
        layer.second.resize(count);
        made.layers_.push_back(std::move(layer));
    }
    auto mask = Buffer<qat::Place>::zeros(table.size(), "places of weights on their grids");
    if (!mask) return Unexpected{std::move(mask).error()};
    made.mask_ = *std::move(mask);
    return made;
}

Result<void> QuantizedWeights::forward(std::span<const float> parameters, std::span<float> effective) {
    std::ranges::copy(parameters, effective.begin());
    for (const FloatLayer& layer : floats_)
        for (float& weight : effective.subspan(layer.slot.first, layer.slot.size()))
            weight = rounded(weight, layer.type);
    return for_layers(layers_.size(), context_, [&](std::size_t i) -> Result<void> {
        Layer& layer = layers_[i];
        auto done = layer.grids.forward(matrix(parameters, layer.slot), matrix(effective, layer.slot),
                                        matrix(mask_.span(), layer.slot));
        if (!done) return Unexpected{std::move(done).error().within(layer.slot.name)};
        return {};
    });
}

Result<void> QuantizedWeights::backward(std::span<const float> parameters, std::span<float> gradients) {
    return for_layers(layers_.size(), context_, [&](std::size_t i) -> Result<void> {
        Layer& layer = layers_[i];
        std::ranges::fill(layer.gradients, 0.0f);
        const std::span<float> parts(layer.gradients);
        const std::size_t scales = layer.grids.scales().size();
        const MatrixView<float> d = matrix(gradients, layer.slot);
        return layer.grids.backward(d, matrix(parameters, layer.slot), matrix(mask_.span(), layer.slot), d,
                                    parts.first(scales), parts.subspan(scales));
    });
}

void QuantizedWeights::update(std::uint64_t step, double rate, double) {
    // Adam divides by the gradient's own size, so clipping and LSQ's factor do not matter here; a step is a
    // share of the first value of the scale.
    constexpr double beta1 = 0.9, beta2 = 0.99, epsilon = 1e-12;
    const double share = options_.relative_rate * rate / options_.peak;
    const double unbias1 = 1 / (1 - std::pow(beta1, static_cast<double>(step)));
    const double unbias2 = 1 / (1 - std::pow(beta2, static_cast<double>(step)));
    context_.parallel_for(layers_.size(), [&](std::size_t i, std::size_t) {
        Layer& layer = layers_[i];
        const std::size_t scales = layer.grids.scales().size();
        for (std::size_t j = 0; j < layer.gradients.size(); ++j) {
            const double g = static_cast<double>(layer.gradients[j]);
            const double m = beta1 * static_cast<double>(layer.first[j]) + (1 - beta1) * g;
            const double v = beta2 * static_cast<double>(layer.second[j]) + (1 - beta2) * g * g;
            layer.first[j] = static_cast<float>(m);
            layer.second[j] = static_cast<float>(v);
            float& value = j < scales ? layer.grids.scales()[j] : layer.grids.offsets()[j - scales];
            value -= static_cast<float>(share * static_cast<double>(layer.units[j]) * m * unbias1 /
                                        (std::sqrt(v * unbias2) + epsilon));
        }
        layer.grids.project();
    });
}

Result<io::ModelFile> QuantizedWeights::model_file(const ParameterTable& table,
                                                   std::span<const float> parameters) const {
    auto file = to_model_file(table, parameters, Scalar::f32);
    if (!file) return file;
    for (const auto& [slot, type] : floats_) {
        auto stored = float_matrix(matrix(parameters, slot), type);
        if (!stored) return Unexpected{std::move(stored).error().within(slot.name)};
        file->linears[slot.name].weights = *std::move(stored);
    }
    for (const Layer& layer : layers_) {
        auto stored = layer.grids.to_quantized(matrix(parameters, layer.slot));
        if (!stored) return Unexpected{std::move(stored).error().within(layer.slot.name)};
        file->linears[layer.slot.name].weights = *std::move(stored);
    }
    return file;
}

Result<QuantizedInputs> QuantizedInputs::create(const ActivationFormat& format) {
    float nothing = 0;
    const MatrixView<float> one(&nothing, 1, 1);
    if (auto possible = qat::fake_quantize_dynamic(one, format, one, {}); !possible)
        return Unexpected{std::move(possible).error()};
    return QuantizedInputs(format);
}

void QuantizedInputs::forward(std::size_t, MatrixView<float> x, ExecutionContext context) {
    context.parallel_for(row_blocks(x.rows), [&](std::size_t block, std::size_t) {
        const std::size_t first = block * gradient_block_rows;
        const MatrixView<float> part = x.rows_from(first, std::min(gradient_block_rows, x.rows - first));
        // Fails where x is not finite: left as it is, the loss will be NaN and the step refused.
        static_cast<void>(qat::fake_quantize_dynamic(part, format_, part, {}));
    });
}

}  // namespace fewbit::inline v0::model
