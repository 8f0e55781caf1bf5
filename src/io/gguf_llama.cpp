// Names of a llama's layers, here and in GGUF files: one table for both directions.
#include "src/io/gguf_llama.hpp"

#include <optional>
#include <string>

#include "fewbit/core/text.hpp"
#include "fewbit/io/model_gguf.hpp"

namespace fewbit::inline v0::io {
namespace {

enum class Extent { none, dim, hidden, query, key, vocabulary };

struct Row {
    std::string_view gguf, layer;
    Extent n, k;  // k none: a vector
};
constexpr Row ends[] = {
    {"token_embd", "model.embed_tokens", Extent::vocabulary, Extent::dim},
    {"output_norm", "model.norm", Extent::dim, Extent::none},
    {"output", "lm_head", Extent::vocabulary, Extent::dim},
};
constexpr Row block[] = {
    {"attn_norm", "input_layernorm", Extent::dim, Extent::none},
    {"attn_q", "self_attn.q_proj", Extent::query, Extent::dim},
    {"attn_k", "self_attn.k_proj", Extent::key, Extent::dim},
    {"attn_v", "self_attn.v_proj", Extent::key, Extent::dim},
    {"attn_output", "self_attn.o_proj", Extent::dim, Extent::query},
    {"ffn_norm", "post_attention_layernorm", Extent::dim, Extent::none},
    {"ffn_gate", "mlp.gate_proj", Extent::hidden, Extent::dim},
    {"ffn_up", "mlp.up_proj", Extent::hidden, Extent::dim},
    {"ffn_down", "mlp.down_proj", Extent::dim, Extent::hidden},
};
constexpr std::string_view gguf_prefix = "blk.", layer_prefix = "model.layers.";

std::size_t size_of(Extent extent, const ModelShape& s) noexcept {
    switch (extent) {
        case Extent::none: break;
        case Extent::dim: return s.dim;
        case Extent::hidden: return s.hidden;
        case Extent::query: return s.heads * s.head_dim;
        case Extent::key: return s.kv_heads * s.head_dim;
        case Extent::vocabulary: return s.vocabulary;
    }
    return 0;
}

std::optional<std::string> translated(std::string_view name, std::string_view Row::*from,
                                      std::string_view Row::*to, std::string_view from_prefix,
                                      std::string_view to_prefix) {
    for (const Row& row : ends)
        if (row.*from == name) return std::string(row.*to);
    if (!name.starts_with(from_prefix)) return std::nullopt;
    const std::string_view rest = name.substr(from_prefix.size());
    const std::size_t dot = rest.find('.');
    std::size_t index = 0;
    if (dot == std::string_view::npos || !fewbit::detail::parse_number(rest.substr(0, dot), index) ||
        text(index) != rest.substr(0, dot))
        return std::nullopt;
    for (const Row& row : block)
        if (row.*from == rest.substr(dot + 1)) return text(to_prefix, index, ".", row.*to);
    return std::nullopt;
}

}  // namespace

std::optional<std::string> gguf_name_of_layer(std::string_view layer) {
    return translated(layer, &Row::layer, &Row::gguf, layer_prefix, gguf_prefix);
}
std::optional<std::string> layer_of_gguf_name(std::string_view name) {
    return translated(name, &Row::gguf, &Row::layer, gguf_prefix, layer_prefix);
}

namespace detail {

std::vector<LlamaLayer> llama_ends(const ModelShape& shape) {
    std::vector<LlamaLayer> layers;
    for (const Row& row : ends)
        if (row.layer != "lm_head" || !shape.tied_head)
            layers.push_back({std::string(row.gguf), std::string(row.layer), size_of(row.n, shape),
                              size_of(row.k, shape)});
    return layers;
}

std::vector<LlamaLayer> llama_block(const ModelShape& shape, std::size_t index) {
    std::vector<LlamaLayer> layers;
    for (const Row& row : block)
        layers.push_back({text(gguf_prefix, index, ".", row.gguf), text(layer_prefix, index, ".", row.layer),
                          size_of(row.n, shape), size_of(row.k, shape)});
    return layers;
}

}  // namespace detail
}  // namespace fewbit::inline v0::io
