// Making a Transformer out of a ModelFile: everything is checked here, so that running need not.
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/model/transformer.hpp"
#include "src/model/check_call.hpp"
#include "src/model/find_parts.hpp"

namespace fewbit::inline v0::model {

Transformer::Transformer(const io::ModelShape& shape, const ModelOptions& options, QuantizedMatrix embedding,
                         std::vector<DecoderBlock> blocks, std::vector<float> norm, Layer head)
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
    const std::string embedding_name = "model.embed_tokens";
    const auto embedding = find_linear(file, embedding_name, s.vocabulary, s.dim);
    if (!embedding) return Unexpected{embedding.error()};
    if (!(*embedding)->transform.empty() || !(*embedding)->columns.empty() || !(*embedding)->bias.empty())
        return fail(ErrorKind::unsupported, "'", embedding_name,
                    "' has an input transform, float columns or a bias; rows of an embedding cannot");
    auto norm = find_vector(file, "model.norm", s.dim);
    if (!norm) return Unexpected{std::move(norm).error()};
    auto head = Layer::create(file, "lm_head", s.tied_head ? embedding_name : "lm_head", s.vocabulary, s.dim,
                              options, context);
    if (!head) return Unexpected{std::move(head).error()};

    std::vector<DecoderBlock> blocks;
    for (std::size_t i = 0; i < s.layers; ++i) {
        auto block = DecoderBlock::create(file, i, options, context);
        if (!block) return Unexpected{std::move(block).error()};
        blocks.push_back(*std::move(block));
    }
    return Transformer(s, options, (*embedding)->weights, std::move(blocks), *std::move(norm),
                       *std::move(head));
}

template <class Visit>
void Transformer::for_each_layer(Visit&& visit) const {
    for (const DecoderBlock& block : blocks_)
        for (const Layer* layer : block.layers()) visit(*layer);
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
