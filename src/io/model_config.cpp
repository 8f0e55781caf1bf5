// Hugging Face's config.json: what would change the arithmetic without our knowing it is refused.
#include <utility>

#include "fewbit/core/text.hpp"
#include "src/io/config_values.hpp"
#include "src/io/model_metadata.hpp"
#include "src/io/model_rules.hpp"

namespace fewbit::inline v0::io::detail {

Result<ModelConfig> parse_config(std::string_view json) {
    auto parsed = parse_config_values(json);
    if (!parsed) return Unexpected{std::move(parsed).error()};
    Config& config = *parsed;

    config.one_of("model_type", {"llama"});
    config.one_of("hidden_act", {"silu"});
    for (const char* key : {"rope_scaling.type", "rope_scaling.rope_type", "rope_parameters.rope_type"})
        config.one_of(key, {"default"});
    ModelShape shape;
    shape.dim = config.count("hidden_size");
    shape.hidden = config.count("intermediate_size");
    shape.layers = config.count("num_hidden_layers");
    shape.heads = config.count("num_attention_heads");
    shape.kv_heads = config.count("num_key_value_heads", shape.heads);
    if (!config.has("head_dim") && shape.heads != 0 && shape.dim % shape.heads != 0)
        config.complain(
            text("'hidden_size' ", shape.dim, " is not a multiple of 'num_attention_heads' ", shape.heads));
    shape.head_dim = config.count("head_dim", shape.heads == 0 ? 0 : shape.dim / shape.heads);
    shape.vocabulary = config.count("vocab_size");
    shape.context = config.count("max_position_embeddings");
    shape.norm_epsilon = config.number("rms_norm_eps");
    shape.rope_base = config.number(
        config.has("rope_parameters.rope_theta") ? "rope_parameters.rope_theta" : "rope_theta", 10000.0f);
    shape.tied_head = config.flag("tie_word_embeddings", false);
    if (!config.problem().empty()) return unexpected(ErrorKind::bad_input, config.problem());
    if (no_architecture(shape)) return fail(ErrorKind::bad_input, "all its sizes are 0");
    if (auto fine = check_shape(shape); !fine) return Unexpected{std::move(fine).error()};
    ModelConfig out{shape, {}};
    if (!config.has_below("quantization_config.")) return out;
    auto quantization = get_quantization(Config(config.below("quantization_config.")));
    if (!quantization) return Unexpected{std::move(quantization).error().within("'quantization_config'")};
    out.quantization = *std::move(quantization);
    return out;
}

}  // namespace fewbit::inline v0::io::detail
