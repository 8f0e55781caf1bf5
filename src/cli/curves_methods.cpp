// Definitions of curves_methods.hpp.
#include "src/cli/curves_methods.hpp"

#include <map>
#include <utility>

#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "src/cli/load.hpp"

namespace fewbit::cli {
namespace {

MethodCurve curve_of(std::string name, std::string method, bool rotates = false) {
    MethodCurve curve;
    curve.name = std::move(name);
    curve.method.name = std::move(method);
    curve.rotates = rotates;
    return curve;
}

}  // namespace

Format MethodCurve::format(int bits) const {
    return expect(parse_format(fmt::format("int{}-g64{}", bits, method.name == "hqq" ? "-fzero" : "")));
}

const std::vector<MethodCurve>& method_curves() {
    static const std::vector<MethodCurve> curves{
        curve_of("rtn", "rtn"), curve_of("mse", "mse"),   curve_of("hqq", "hqq"),
        curve_of("awq", "awq"), curve_of("gptq", "gptq"), curve_of("gptq-rotated", "gptq", true),
        curve_of("owq", "owq"),
    };
    return curves;
}

const std::vector<Remedy>& remedies() {
    static const std::vector<Remedy> all = [] {
        std::vector<Remedy> out{{"SmoothQuant", curve_of("", "rtn")},
                                {"LLM.int8()", curve_of("", "llm-int8")},
                                {"rotated", curve_of("", "rtn", true)}};
        out[0].how.method.smooth = 0.5;
        return out;
    }();
    return all;
}

MethodModel quantize_for_method(const io::ModelFile& file, const MethodCurve& curve, const Format& format,
                                const LayerPattern& keep, const std::vector<std::vector<int>>& windows,
                                ExecutionContext context) {
    MethodModel out;
    out.file = file;
    if (curve.rotates) (void)expect(pipeline::rotate(out.file, {}, context));
    const Method method = curve.method.method();
    std::map<std::string, pipeline::LayerChoice> plan;
    for (const auto& [layer, linear] : out.file.linears)
        if (!keep(layer)) plan.insert({layer, {format, method}});
    if (curve.method.calibrates()) {
        pipeline::CalibratedOptions options;
        if (curve.method.smooth) options.smoothquant = SmoothQuantOptions{{}, *curve.method.smooth};
        out.file = expect(pipeline::quantize_calibrated(out.file, plan, windows, options, context)).file;
    } else {
        for (const auto& [layer, choice] : plan) {
            Linear& linear = out.file.linears.at(layer);
            const Matrix w = dequantized(linear);
            linear.weights =
                expect(quantize(w.view(), {}, format, for_tensor(method, layer), context)).linear.weights;
        }
    }
    double bits = 0, weights = 0;
    for (const auto& [layer, choice] : plan) {
        const Linear& linear = out.file.linears.at(layer);
        bits += linear.total_bits();
        weights += static_cast<double>(linear.n()) * static_cast<double>(linear.k());
    }
    out.quantized_bits_per_weight = weights == 0 ? 0 : bits / weights;
    out.bits_per_weight = size_of(out.file).bits / static_cast<double>(size_of(file).parameters);
    return out;
}

}  // namespace fewbit::cli
