// Definitions of evaluate/curves.hpp.
#include "fewbit/evaluate/curves.hpp"

#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/evaluate/metrics.hpp"
#include "fewbit/quantize/mse.hpp"
#include "fewbit/quantize/rtn.hpp"

namespace fewbit::inline v0::evaluate {

std::string_view name(Variant variant) noexcept {
    switch (variant) {
        case Variant::symmetric: return "symmetric";
        case Variant::asymmetric: return "asymmetric";
        case Variant::mse: return "mse";
        case Variant::narrow: break;
    }
    return "narrow";
}

std::string CurveSetting::grouping() const {
    switch (format.granularity) {
        case Granularity::tensor: return "tensor";
        case Granularity::channel: return "channel";
        case Granularity::group: break;
    }
    return text("g", format.group);
}

std::vector<CurveSetting> curve_settings() {
    std::vector<CurveSetting> settings;
    for (const std::size_t group : {0, 1, 128, 64, 32})  // 0: tensor, 1: channel
        for (const Variant variant :
             {Variant::symmetric, Variant::asymmetric, Variant::mse, Variant::narrow}) {
            if (variant == Variant::narrow && group != 1) continue;
            for (int bits = min_bits; bits <= max_bits; ++bits) {
                CurveSetting setting;
                setting.variant = variant;
                setting.format.bits = bits;
                setting.format.granularity = group == 0   ? Granularity::tensor
                                             : group == 1 ? Granularity::channel
                                                          : Granularity::group;
                if (group > 1) setting.format.group = group;
                setting.format.narrow = variant == Variant::narrow;
                setting.format.offset = variant == Variant::asymmetric || variant == Variant::mse
                                            ? Offset::integer
                                            : Offset::none;
                setting.format.scale = default_scale(setting.format.granularity);
                settings.push_back(setting);
            }
        }
    return settings;
}

Result<Linear> quantize_for_curve(MatrixView<const float> w, const CurveSetting& setting,
                                  std::string_view tensor, ExecutionContext context) {
    RtnOptions rtn;
    MseOptions mse;
    rtn.tensor = mse.tensor = tensor;
    auto quantized = setting.variant == Variant::mse ? quantize_mse(w, setting.format, mse, context)
                                                     : quantize_rtn(w, setting.format, rtn, context);
    if (!quantized) return Unexpected{std::move(quantized).error()};
    return std::move(quantized->linear);
}

Result<CurveModel> quantize_model_for_curve(const io::ModelFile& file, const CurveSetting& setting,
                                            FunctionRef<bool(std::string_view layer)> keep,
                                            ExecutionContext context) {
    CurveModel out;
    out.file = file;
    ErrorAccumulator error;
    double quantized_bits = 0, bits = 0;
    for (auto& [layer, linear] : out.file.linears) {
        const std::size_t count = linear.n() * linear.k();
        out.parameters += count + linear.bias.size();
        if (keep(layer)) {
            bits += linear.total_bits();
            continue;
        }
        const auto w = plain_floats(linear, layer, "curves start from a float model");
        if (!w) return Unexpected{w.error()};
        auto quantized = quantize_for_curve(*w, setting, layer, context);
        if (!quantized) return Unexpected{std::move(quantized).error()};
        quantized->bias = std::move(linear.bias);
        linear = *std::move(quantized);
        std::vector<float> row(w->cols());
        for (std::size_t r = 0; r < w->rows(); ++r) {
            linear.weights.dequantize(r, 0, row);
            error.add(w->row(r), row);
        }
        out.quantized_weights += count;
        quantized_bits += total_bits(linear.weights.format(), linear.n(), linear.k());
        bits += linear.total_bits();
    }
    for (const auto& [norm, gains] : out.file.vectors) {
        out.parameters += gains.size();
        bits += 32.0 * static_cast<double>(gains.size());
    }
    const auto per = [](double sum, std::size_t count) {
        return count == 0 ? 0 : sum / static_cast<double>(count);
    };
    out.quantized_bits_per_weight = per(quantized_bits, out.quantized_weights);
    out.bits_per_weight = per(bits, out.parameters);
    out.sqnr_db = error.metrics().sqnr_db;
    return out;
}

}  // namespace fewbit::inline v0::evaluate
