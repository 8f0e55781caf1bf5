// Making a Transformer out of a ModelFile: everything is checked here, so that running need not.
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/model/transformer.hpp"

namespace fewbit::inline v0::model {
namespace {

[[nodiscard]] Result<void> check_shape(const io::ModelShape& s) {
    const auto bad = [](const auto&... why) {
        return fail(ErrorKind::bad_input, "the model's shape cannot be right: ", why...);
    };
    if (s.dim == 0 || s.hidden == 0 || s.heads == 0 || s.kv_heads == 0 || s.head_dim == 0 ||
        s.vocabulary == 0 || s.context == 0)
        return bad("dim ", s.dim, ", hidden ", s.hidden, ", heads ", s.heads, ", kv_heads ", s.kv_heads,
                   ", head_dim ", s.head_dim, ", vocabulary ", s.vocabulary, ", context ", s.context);
    if (s.heads % s.kv_heads != 0)
        return bad(s.kv_heads, " key-value heads do not divide ", s.heads, " query heads");
    if (s.head_dim % 2 != 0) return bad("heads of ", s.head_dim, " elements cannot be rotated in pairs");
    if (!checked_product({s.heads, s.head_dim}))
        return bad(s.heads, " heads of ", s.head_dim, " elements overflow");
    if (s.vocabulary > INT32_MAX) return bad("a vocabulary of ", s.vocabulary, " is beyond 32-bit token ids");
    if (!(std::isfinite(s.rope_base) && s.rope_base > 0)) return bad("rotary base ", s.rope_base);
    if (!(std::isfinite(s.norm_epsilon) && s.norm_epsilon >= 0)) return bad("norm epsilon ", s.norm_epsilon);
    return {};
}

[[nodiscard]] Result<const Linear*> find_linear(const io::ModelFile& file, const std::string& name,
                                                std::size_t n, std::size_t k) {
    const auto found = file.linears.find(name);
    if (found == file.linears.end())
        return fail(ErrorKind::bad_input, "the ", file.type, " model has no matrix '", name, "'");
    const Linear& linear = found->second;
    if (linear.n() != n || linear.k() != k)
        return fail(ErrorKind::bad_input, "matrix '", name, "' is ", linear.n(), " x ", linear.k(),
                    "; the model's shape asks for ", n, " x ", k);
    return &linear;
}

[[nodiscard]] Result<std::vector<float>> find_vector(const io::ModelFile& file, const std::string& name,
                                                     std::size_t length) {
    const auto found = file.vectors.find(name);
    if (found == file.vectors.end())
        return fail(ErrorKind::bad_input, "the ", file.type, " model has no vector '", name, "'");
    if (found->second.size() != length)
        return fail(ErrorKind::bad_input, "vector '", name, "' has ", found->second.size(),
                    " elements; the model's shape asks for ", length);
    return found->second;
}

}  // namespace

Transformer::Transformer(const io::ModelShape& shape, const ModelOptions& options, QuantizedMatrix embedding,
                         std::vector<Block> blocks, std::vector<float> norm, Layer head)
    : shape_(shape),
      options_(options),
      embedding_(std::move(embedding)),
      blocks_(std::move(blocks)),
      norm_(std::move(norm)),
      head_(std::move(head)) {}

Result<Transformer> Transformer::create(const io::ModelFile& file, const ModelOptions& options,
                                        ExecutionContext context) {
    const io::ModelShape& s = file.shape;
    if (auto valid = check_shape(s); !valid) return Unexpected{std::move(valid).error()};
    const auto pack_layer = [&](const std::string& name, const std::string& source, std::size_t n,
                                std::size_t k) -> Result<Layer> {
        const auto linear = find_linear(file, source, n, k);
        if (!linear) return Unexpected{linear.error()};
        std::optional<StaticRange> range;
        if (const auto found = options.static_ranges.find(name); found != options.static_ranges.end())
            range = found->second;
        const ActivationFormat& activations = options.activations;
        if (activations.element == ActivationElement::int8 && activations.is_static && !range &&
            !(*linear)->weights.format().is_float())
            return fail(ErrorKind::bad_input, "layer '", name, "' has no range for ",
                        fewbit::name(activations), " activations; calibration finds them");
        auto packed = PackedLinear::create(**linear, activations, options.fallback, context, range);
        if (!packed) return Unexpected{std::move(packed).error().within(name)};
        return Layer{name, *std::move(packed)};
    };

    const std::string embedding_name = "model.embed_tokens";
    const auto embedding = find_linear(file, embedding_name, s.vocabulary, s.dim);
    if (!embedding) return Unexpected{embedding.error()};
    if (!(*embedding)->transform.empty() || !(*embedding)->columns.empty() || !(*embedding)->bias.empty())
        return fail(ErrorKind::unsupported, "'", embedding_name,
                    "' has an input transform, float columns or a bias; rows of an embedding cannot");
    auto norm = find_vector(file, "model.norm", s.dim);
    if (!norm) return Unexpected{std::move(norm).error()};
    auto head = pack_layer("lm_head", s.tied_head ? embedding_name : "lm_head", s.vocabulary, s.dim);
    if (!head) return Unexpected{std::move(head).error()};

    std::vector<Block> blocks;
    const std::size_t q_dim = s.heads * s.head_dim, kv_dim = s.kv_heads * s.head_dim;
    for (std::size_t i = 0; i < s.layers; ++i) {
        const std::string prefix = text("model.layers.", i, ".");
        auto attention_norm = find_vector(file, prefix + "input_layernorm", s.dim);
        auto mlp_norm = find_vector(file, prefix + "post_attention_layernorm", s.dim);
        for (auto* vector : {&attention_norm, &mlp_norm})
            if (!*vector) return Unexpected{std::move(*vector).error()};
        const auto layer = [&](const char* name, std::size_t n, std::size_t k) {
            return pack_layer(prefix + name, prefix + name, n, k);
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
        blocks.push_back({*std::move(attention_norm), *std::move(mlp_norm), *std::move(q), *std::move(k),
                          *std::move(v), *std::move(o), *std::move(gate), *std::move(up), *std::move(down)});
    }
    return Transformer(s, options, (*embedding)->weights, std::move(blocks), *std::move(norm),
                       *std::move(head));
}

template <class Visit>
void Transformer::for_each_layer(Visit&& visit) const {
    for (const Block& block : blocks_)
        for (const Layer* layer :
             {&block.q, &block.k, &block.v, &block.o, &block.gate, &block.up, &block.down})
            visit(*layer);
    visit(head_);
}

std::vector<KernelUse> Transformer::kernels() const {
    std::vector<KernelUse> uses;
    for_each_layer([&](const Layer& layer) {
        const Kernel& kernel = layer.linear.kernel();
        for (KernelUse& use : uses)
            if (use.kernel == kernel.name() && use.weights == layer.linear.format() &&
                use.activations == kernel.activations() &&
                use.fallback_reason.empty() == kernel.fallback_reason().empty())
                return use.layers.push_back(layer.name);
        std::string note;
        if (!(kernel.activations() == options_.activations))
            note = text("float weights take f32 activations, not ", name(options_.activations));
        uses.push_back({kernel.name(),
                        kernel.isa(),
                        layer.linear.format(),
                        kernel.activations(),
                        kernel.fallback_reason(),
                        note,
                        {layer.name}});
    });
    return uses;
}

std::size_t Transformer::bytes_per_token() const noexcept {
    std::size_t bytes = shape_.vocabulary == 0 ? 0 : embedding_.size_bytes() / shape_.vocabulary;
    for_each_layer([&](const Layer& layer) { bytes += layer.linear.size_bytes(); });
    return bytes;
}

}  // namespace fewbit::inline v0::model
