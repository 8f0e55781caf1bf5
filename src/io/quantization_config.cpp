#include "src/io/quantization_config.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace fewbit::inline v0::io::detail {
namespace {

using Kind = JsonScalar::Kind;

/// The first of these keys that is there.
std::string_view present(const Config& config, std::initializer_list<std::string_view> keys) {
    for (const std::string_view key : keys)
        if (config.has(key)) return key;
    return *keys.begin();
}

int bits_of(Config& config, std::string_view key) {
    const std::size_t bits = config.count(key);
    if (bits >= 1 && bits <= 16) return static_cast<int>(bits);
    config.complain(text("'", key, "' is ", bits));
    return 0;
}

/// A group size; nothing for -1.
std::optional<std::size_t> group_of_key(Config& config, std::string_view key) {
    const ConfigValue* value = config.find(key);
    if (value != nullptr && value->kind == Kind::number && value->number == -1.0) return std::nullopt;
    if (value != nullptr && (value->kind != Kind::integer || value->integer == 0)) {
        config.complain(text("'", key, "' is ", in_quotes(value->text), ", neither a count nor -1"));
        return std::nullopt;
    }
    return config.count(key);
}

GptqConfig get_gptq(Config& config) {
    GptqConfig out;
    out.bits = bits_of(config, present(config, {"bits", "w_bit", "wbits"}));
    if (config.problem().empty() && out.bits != 2 && out.bits != 3 && out.bits != 4 && out.bits != 8)
        config.complain(text("gptq codes of ", out.bits, " bits are not read; 2, 3, 4 and 8 are"));
    out.group = group_of_key(config, present(config, {"group_size", "q_group_size"}));
    if (config.has("sym")) out.symmetric = config.flag("sym", true);
    const std::string_view version = present(config, {"checkpoint_format", "format", "version"});
    config.one_of(version, {"gptq", "gptq_v2"});
    if (const ConfigValue* value = config.find(version); value != nullptr && value->text == "gptq_v2")
        out.version = GptqVersion::v2;
    config.one_of("pack_dtype", {"int32"});
    if (config.flag("is_marlin_format", false))
        config.complain("'is_marlin_format' is true, which is not read");
    for (const auto& [rule, value] : config.below("dynamic."))
        if (!rule.starts_with("-:"))  // what is left out shows in the tensors
            config.complain(text("'dynamic' has other settings for some layers (", in_quotes(rule),
                                 "), which is not read"));
    return out;
}

CompressedGroup get_group(std::string name, Config config, std::string_view common_format, Config& whole) {
    CompressedGroup out{std::move(name), {}, {}};
    for (const auto& [key, value] : config.below("targets."))
        if (value.kind == Kind::string) out.targets.push_back(value.text);
    const ConfigValue* own_format = config.find("format");
    const std::string_view format =
        own_format != nullptr ? std::string_view(own_format->text) : common_format;
    if (format != "pack-quantized" && format != "int-quantized")
        config.complain(
            text("the format ", in_quotes(format), " is not read; pack-quantized and int-quantized are"));
    out.weights.packed = format == "pack-quantized";
    config.one_of("weights.type", {"int"});
    if (config.flag("weights.dynamic", false)) config.complain("'weights.dynamic' is true");
    out.weights.bits = bits_of(config, "weights.num_bits");
    out.weights.symmetric = config.flag("weights.symmetric", true);
    config.one_of("weights.strategy", {"channel", "group"});
    const ConfigValue* strategy = config.find("weights.strategy");
    const bool channel =
        strategy != nullptr ? strategy->text == "channel" : !config.has("weights.group_size");
    out.weights.group = channel ? std::nullopt : group_of_key(config, "weights.group_size");
    if (!config.problem().empty()) whole.complain(text("'config_groups.", out.name, "': ", config.problem()));
    return out;
}

CompressedGroups get_compressed(Config& config) {
    for (const char* key : {"kv_cache_scheme.", "transform_config."})
        if (config.has_below(key)) config.complain(text("it has a '", key, "..', which is not read"));
    config.one_of("sparsity_config.format", {"dense"});
    const ConfigValue* format = config.find("format");
    const std::string common = format == nullptr ? "pack-quantized" : format->text;
    std::set<std::string> names;
    for (const auto& [key, value] : config.below("config_groups."))
        names.insert(key.substr(0, key.find('.')));
    if (names.empty()) config.complain("it lacks 'config_groups'");
    CompressedGroups out;
    for (const std::string& name : names)
        out.push_back(
            get_group(name, Config(config.below(text("config_groups.", name, "."))), common, config));
    for (const CompressedGroup& group : out)
        for (const std::string& target : group.targets)
            if (out.size() > 1 && target.starts_with("re:"))
                config.complain(text("'config_groups.", group.name, "' is for layers that match ",
                                     in_quotes(target), "; of several groups only names of layers are read"));
    return out;
}

}  // namespace

Result<QuantizationConfig> get_quantization(Config config) {
    const ConfigValue* method = config.find("quant_method");
    const std::string name = method == nullptr ? "" : method->text;
    if (name != "gptq" && name != "compressed-tensors")
        return fail(ErrorKind::unsupported, "'quant_method' ", in_quotes(name),
                    " is not read; gptq and compressed-tensors are");
    QuantizationConfig out;
    if (name == "gptq")
        out = get_gptq(config);
    else
        out = get_compressed(config);
    if (!config.problem().empty()) return unexpected(ErrorKind::bad_input, config.problem());
    return out;
}

Result<QuantizationConfig> parse_quantize_config(std::string_view json) {
    auto config = parse_config_values(json);
    if (!config) return Unexpected{std::move(config).error()};
    if (config->has("quant_method")) return get_quantization(*std::move(config));
    const GptqConfig out = get_gptq(*config);  // AutoGPTQ's first versions named no method
    if (!config->problem().empty()) return unexpected(ErrorKind::bad_input, config->problem());
    return out;
}

const CompressedGroup* group_of(const CompressedGroups& groups, std::string_view layer) {
    if (groups.size() == 1) return &groups.front();
    for (const std::string_view target : {layer, std::string_view("Linear")})
        for (const CompressedGroup& group : groups)
            if (std::ranges::find(group.targets, target) != group.targets.end()) return &group;
    return nullptr;
}

}  // namespace fewbit::inline v0::io::detail
