#include "src/io/model_folder_config.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/io/compressed_tensors.hpp"

namespace fewbit::inline v0::io::detail {
namespace {

using Json = nlohmann::ordered_json;

/// The double that is spelled like the float: 1e-05, not 9.99999974737875e-06.
double spelled_alike(float value) {
    const std::string digits = text(value);
    double out = value;
    std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return out;
}

Json group_size(const Format& format) {
    return format.granularity == Granularity::group ? Json(format.group) : Json(-1);
}

/// The layers of the decoder's blocks that stay floats, which readers would otherwise take for quantized.
std::vector<std::string> float_layers(const ModelFile& model) {
    std::vector<std::string> out;
    for (const auto& [name, linear] : model.linears)
        if (name != "model.embed_tokens" && name != "lm_head" && linear.weights.format().is_float())
            out.push_back(name);
    return out;
}

bool has_quantized_head(const ModelFile& model) {
    const auto head = model.linears.find("lm_head");
    return head != model.linears.end() && !head->second.weights.format().is_float();
}

Json gptq_json(const ModelFile& model, GptqVersion version) {
    Format format;
    bool reordered = false;
    for (const auto& [name, linear] : model.linears) {
        if (linear.weights.format().is_float()) continue;
        format = linear.weights.format();
        reordered = reordered || !linear.transform.permutation.empty();
    }
    Json out = {{"quant_method", "gptq"},
                {"bits", format.bits},
                {"group_size", group_size(format)},
                {"desc_act", reordered},
                {"sym", format.offset == Offset::none},
                {"lm_head", has_quantized_head(model)},
                {"checkpoint_format", version == GptqVersion::v1 ? "gptq" : "gptq_v2"},
                {"pack_dtype", "int32"},
                {"meta", {{"quantizer", Json::array({text("fewbit:", FEWBIT_VERSION_STRING)})}}}};
    Json left_out = Json::object();
    for (std::string name : float_layers(model)) {
        for (std::size_t i = 0; (i = name.find('.', i)) != std::string::npos; i += 2) name.insert(i, 1, '\\');
        left_out["-:^" + name + "$"] = Json::object();
    }
    if (!left_out.empty()) out["dynamic"] = left_out;
    return out;
}

Json compressed_json(const ModelFile& model) {
    std::vector<std::pair<CompressedConfig, std::vector<std::string>>> kinds;
    for (const auto& [name, linear] : model.linears) {
        if (linear.weights.format().is_float()) continue;
        const CompressedConfig config = compressed_config(linear.weights.format());
        auto kind = std::ranges::find(kinds, config, [](const auto& entry) { return entry.first; });
        if (kind == kinds.end()) kind = kinds.insert(kinds.end(), {config, {}});
        kind->second.push_back(name);
    }
    const auto format_of = [](const CompressedConfig& config) {
        return config.packed ? "pack-quantized" : "int-quantized";
    };
    bool mixed = false;
    Json groups = Json::object();
    for (const auto& [config, layers] : kinds) {
        mixed = mixed || config.packed != kinds.front().first.packed;
        const bool reordered = std::ranges::any_of(layers, [&](const std::string& name) {
            return !model.linears.at(name).transform.permutation.empty();
        });
        groups[text("group_", groups.size())] = {
            {"targets", kinds.size() == 1 ? Json::array({"Linear"}) : Json(layers)},
            {"weights",
             {{"num_bits", config.bits},
              {"type", "int"},
              {"symmetric", config.symmetric},
              {"strategy", config.group ? "group" : "channel"},
              {"group_size", config.group ? Json(*config.group) : Json()},
              {"actorder", reordered ? Json("group") : Json()},
              {"dynamic", false}}},
            {"input_activations", Json()},
            {"output_activations", Json()},
            {"format", format_of(config)}};
    }
    std::vector<std::string> ignored = float_layers(model);
    if (!has_quantized_head(model)) ignored.emplace_back("lm_head");
    return {{"quant_method", "compressed-tensors"},
            {"format", mixed ? "mixed-precision" : format_of(kinds.front().first)},
            {"quantization_status", "compressed"},
            {"ignore", ignored},
            {"kv_cache_scheme", Json()},
            {"config_groups", groups}};
}

/// The type in which others compute: the scales' own, so that loading rounds none of them; F32 where they
/// differ.
const char* compute_type(const ModelFile& model) {
    std::optional<Scalar> common;
    for (const auto& [name, linear] : model.linears) {
        const Format& format = linear.weights.format();
        if (format.is_float()) continue;
        if (common && *common != format.scale) return "float32";
        common = format.scale;
    }
    return common == Scalar::f16 ? "float16" : common == Scalar::bf16 ? "bfloat16" : "float32";
}

}  // namespace

std::string folder_config(const ModelFile& model, FolderLayout layout, GptqVersion version) {
    const ModelShape& s = model.shape;
    const auto has_bias = [&model](std::string_view part) {
        return std::ranges::any_of(model.linears, [part](const auto& entry) {
            return entry.first.find(part) != std::string::npos && !entry.second.bias.empty();
        });
    };
    const Json out = {{"architectures", Json::array({"LlamaForCausalLM"})},
                      {"model_type", "llama"},
                      {"hidden_act", "silu"},
                      {"hidden_size", s.dim},
                      {"intermediate_size", s.hidden},
                      {"num_hidden_layers", s.layers},
                      {"num_attention_heads", s.heads},
                      {"num_key_value_heads", s.kv_heads},
                      {"head_dim", s.head_dim},
                      {"vocab_size", s.vocabulary},
                      {"max_position_embeddings", s.context},
                      {"rms_norm_eps", spelled_alike(s.norm_epsilon)},
                      {"rope_theta", spelled_alike(s.rope_base)},
                      {"rope_scaling", Json()},
                      {"tie_word_embeddings", s.tied_head},
                      {"attention_bias", has_bias(".self_attn.")},
                      {"mlp_bias", has_bias(".mlp.")},
                      {"torch_dtype", compute_type(model)},
                      {"quantization_config",
                       layout == FolderLayout::gptq ? gptq_json(model, version) : compressed_json(model)}};
    return out.dump(2) + "\n";
}

}  // namespace fewbit::inline v0::io::detail
