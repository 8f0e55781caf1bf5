// Making a DecoderBlock out of a ModelFile: everything is checked here, so that running need not.
#include <optional>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/model/decoder_block.hpp"
#include "src/model/find_parts.hpp"

namespace fewbit::inline v0::model {

Result<Layer> Layer::create(const io::ModelFile& file, const std::string& name, const std::string& source,
                            std::size_t n, std::size_t k, const ModelOptions& options,
                            ExecutionContext context) {
    const auto linear = find_linear(file, source, n, k);
    if (!linear) return Unexpected{linear.error()};
    std::optional<StaticRange> range;
    if (const auto found = options.static_ranges.find(name); found != options.static_ranges.end())
        range = found->second;
    const ActivationFormat& activations = options.activations;
    if (activations.element == ActivationElement::int8 && activations.is_static && !range &&
        !(*linear)->weights.format().is_float())
        return fail(ErrorKind::bad_input, "layer '", name, "' has no range for ", fewbit::name(activations),
                    " activations; calibration finds them");
    auto packed = PackedLinear::create(**linear, activations, options.fallback, context, range);
    if (!packed) return Unexpected{std::move(packed).error().within(name)};
    return Layer{name, *std::move(packed)};
}

DecoderBlock::DecoderBlock(const io::ModelShape& shape, std::vector<float> attention_norm,
                           std::vector<float> mlp_norm, std::array<Layer, 7> layers)
    : heads_(shape.heads),
      kv_heads_(shape.kv_heads),
      norm_epsilon_(shape.norm_epsilon),
      attention_norm_(std::move(attention_norm)),
      mlp_norm_(std::move(mlp_norm)),
      q_(std::move(layers[0])),
      k_(std::move(layers[1])),
      v_(std::move(layers[2])),
      o_(std::move(layers[3])),
      gate_(std::move(layers[4])),
      up_(std::move(layers[5])),
      down_(std::move(layers[6])) {}

Result<DecoderBlock> DecoderBlock::create(const io::ModelFile& file, std::size_t index,
                                          const ModelOptions& options, ExecutionContext context) {
    const io::ModelShape& s = file.shape;
    const std::size_t q_dim = s.heads * s.head_dim, kv_dim = s.kv_heads * s.head_dim;
    const std::string prefix = text("model.layers.", index, ".");
    auto attention_norm = find_vector(file, prefix + "input_layernorm", s.dim);
    auto mlp_norm = find_vector(file, prefix + "post_attention_layernorm", s.dim);
    for (auto* vector : {&attention_norm, &mlp_norm})
        if (!*vector) return Unexpected{std::move(*vector).error()};
    const auto layer = [&](const char* name, std::size_t n, std::size_t k) {
        return Layer::create(file, prefix + name, prefix + name, n, k, options, context);
    };
    auto q = layer("self_attn.q_proj", q_dim, s.dim);
    auto k = layer("self_attn.k_proj", kv_dim, s.dim);
    auto v = layer("self_attn.v_proj", kv_dim, s.dim);
    auto o = layer("self_attn.o_proj", s.dim, q_dim);
    auto gate = layer("mlp.gate_proj", s.hidden, s.dim);
    auto up = layer("mlp.up_proj", s.hidden, s.dim);
    auto down = layer("mlp.down_proj", s.dim, s.hidden);
    for (auto* result : {&q, &k, &v, &o, &gate, &up, &down})
        if (!*result) return Unexpected{std::move(*result).error()};
    return DecoderBlock(s, *std::move(attention_norm), *std::move(mlp_norm),
                        {*std::move(q), *std::move(k), *std::move(v), *std::move(o), *std::move(gate),
                         *std::move(up), *std::move(down)});
}

}  // namespace fewbit::inline v0::model
