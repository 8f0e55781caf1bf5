// Hugging Face's config.json: nested objects become dotted keys ("rope_scaling.rope_type"), lists are
// skipped, and what would change the arithmetic without our knowing it is refused.
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"
#include "src/io/json_events.hpp"
#include "src/io/model_metadata.hpp"
#include "src/io/model_rules.hpp"

namespace fewbit::inline v0::io::detail {
namespace {

constexpr std::size_t max_config_bytes = std::size_t{1} << 20;
constexpr std::size_t max_config_depth = 32;

struct Value {
    JsonScalar::Kind kind = JsonScalar::Kind::null;
    std::string text;
    std::uint64_t integer = 0;
    double number = 0.0;
    bool boolean = false;
};

class ConfigEvents final : public JsonEvents {
public:
    std::map<std::string, Value> values;

    Complaint object_begins() override {
        if (lists_ == 0) path_.push_back(key_);
        return {};
    }
    Complaint object_ends() override {
        if (lists_ == 0) path_.pop_back();
        return {};
    }
    Complaint array_begins() override {
        if (path_.empty()) return "it is an array, not an object";
        ++lists_;
        return {};
    }
    Complaint array_ends() override {
        --lists_;
        return {};
    }
    Complaint key(std::string_view key) override {
        if (lists_ == 0) key_ = key;
        return {};
    }
    Complaint scalar(const JsonScalar& value) override {
        if (path_.empty()) return "it is not an object";
        if (lists_ != 0) return {};
        std::string name;
        for (std::size_t i = 1; i < path_.size(); ++i) name += path_[i] + ".";
        values[name + key_] = {value.kind, std::string(value.text), value.integer, value.number,
                               value.boolean};
        return {};
    }

private:
    std::vector<std::string> path_;  // keys of the open objects; the outermost has none
    std::string key_;
    std::size_t lists_ = 0;
};

using Kind = JsonScalar::Kind;

class Config {
public:
    explicit Config(std::map<std::string, Value> values) : values_(std::move(values)) {}

    /// The first problem met; empty if none.
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

    std::size_t count(const char* key, std::optional<std::size_t> otherwise = {}) {
        const Value* value = find(key);
        if (value == nullptr && otherwise) return *otherwise;
        if (value == nullptr) return complain(text("it lacks '", key, "'"));
        const auto fitting = checked_cast<std::size_t>(value->integer);
        if (value->kind != Kind::integer || !fitting)
            return complain(text("'", key, "' is ", in_quotes(value->text), ", not a count"));
        return *fitting;
    }
    float number(const char* key, std::optional<float> otherwise = {}) {
        const Value* value = find(key);
        if (value == nullptr && otherwise) return *otherwise;
        if (value == nullptr) return static_cast<float>(complain(text("it lacks '", key, "'")));
        if (value->kind != Kind::integer && value->kind != Kind::number)
            return static_cast<float>(
                complain(text("'", key, "' is ", in_quotes(value->text), ", not a number")));
        return static_cast<float>(value->number);
    }
    bool flag(const char* key, bool otherwise) {
        const Value* value = find(key);
        if (value == nullptr) return otherwise;
        if (value->kind != Kind::boolean) complain(text("'", key, "' is not true or false"));
        return value->boolean;
    }
    /// The key is absent, null, or one of these words.
    void one_of(const char* key, std::initializer_list<std::string_view> words) {
        const Value* value = find(key);
        if (value == nullptr) return;
        for (const std::string_view word : words)
            if (value->kind == Kind::string && value->text == word) return;
        complain(text("'", key, "' is ", in_quotes(value->text), ", which fewbit does not support"));
    }
    [[nodiscard]] bool has(const char* key) const { return find(key) != nullptr; }
    [[nodiscard]] bool has_below(std::string_view prefix) const {
        const auto found = values_.lower_bound(std::string(prefix));
        return found != values_.end() && found->first.starts_with(prefix);
    }
    std::size_t complain(std::string sentence) {
        if (problem_.empty()) problem_ = std::move(sentence);
        return 0;
    }

private:
    [[nodiscard]] const Value* find(const char* key) const {
        const auto found = values_.find(key);
        return found == values_.end() || found->second.kind == Kind::null ? nullptr : &found->second;
    }

    std::map<std::string, Value> values_;
    std::string problem_;
};

}  // namespace

Result<ModelShape> parse_config(std::string_view json) {
    if (json.size() > max_config_bytes)
        return fail(ErrorKind::bad_input, "it has ", json.size(), " bytes; at most ", max_config_bytes,
                    " are read");
    ConfigEvents events;
    if (auto parsed = parse_json(json, max_config_depth, events); !parsed)
        return Unexpected{std::move(parsed).error()};
    Config config(std::move(events.values));

    config.one_of("model_type", {"llama"});
    config.one_of("hidden_act", {"silu"});
    for (const char* key : {"rope_scaling.type", "rope_scaling.rope_type", "rope_parameters.rope_type"})
        config.one_of(key, {"default"});
    if (config.has_below("quantization_config."))
        config.complain("it has a 'quantization_config'; quantized layouts of others are not read yet");

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
    return shape;
}

}  // namespace fewbit::inline v0::io::detail
