// Hugging Face's JSON configurations as flat values: nested objects become dotted keys
// ("rope_scaling.rope_type"), texts and numbers of a list numbered ones ("ignore.0"); what lies in objects of
// lists is skipped.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"
#include "src/io/json_events.hpp"

namespace fewbit::inline v0::io::detail {

inline constexpr std::size_t max_config_bytes = std::size_t{1} << 20;
inline constexpr std::size_t max_config_depth = 32;

struct ConfigValue {
    JsonScalar::Kind kind = JsonScalar::Kind::null;
    std::string text;
    std::uint64_t integer = 0;
    double number = 0.0;
    bool boolean = false;
};

using ConfigValues = std::map<std::string, ConfigValue, std::less<>>;

class ConfigEvents final : public JsonEvents {
public:
    ConfigValues values;

    Complaint object_begins() override {
        if (lists_ == 0)
            path_.push_back(key_);
        else
            ++lists_;
        return {};
    }
    Complaint object_ends() override {
        if (lists_ == 0)
            path_.pop_back();
        else
            --lists_;
        return {};
    }
    Complaint array_begins() override {
        if (path_.empty()) return "it is an array, not an object";
        if (lists_++ == 0) index_ = 0;
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
        if (lists_ > 1) return {};
        std::string name;
        for (std::size_t i = 1; i < path_.size(); ++i) name += path_[i] + ".";
        name += key_;
        if (lists_ == 1) name += text(".", index_++);
        values[name] = {value.kind, std::string(value.text), value.integer, value.number, value.boolean};
        return {};
    }

private:
    std::vector<std::string> path_;  // keys of the open objects; the outermost has none
    std::string key_;
    std::size_t lists_ = 0;  // open lists, and the objects in them
    std::size_t index_ = 0;  // of the next value in the outermost list
};

class Config {
public:
    using Kind = JsonScalar::Kind;

    explicit Config(ConfigValues values) : values_(std::move(values)) {}

    /// The first problem met; empty if none.
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

    std::size_t count(std::string_view key, std::optional<std::size_t> otherwise = {}) {
        const ConfigValue* value = find(key);
        if (value == nullptr && otherwise) return *otherwise;
        if (value == nullptr) return complain(text("it lacks '", key, "'"));
        const auto fitting = checked_cast<std::size_t>(value->integer);
        if (value->kind != Kind::integer || !fitting)
            return complain(text("'", key, "' is ", in_quotes(value->text), ", not a count"));
        return *fitting;
    }
    float number(std::string_view key, std::optional<float> otherwise = {}) {
        const ConfigValue* value = find(key);
        if (value == nullptr && otherwise) return *otherwise;
        if (value == nullptr) return static_cast<float>(complain(text("it lacks '", key, "'")));
        if (value->kind != Kind::integer && value->kind != Kind::number)
            return static_cast<float>(
                complain(text("'", key, "' is ", in_quotes(value->text), ", not a number")));
        return static_cast<float>(value->number);
    }
    bool flag(std::string_view key, bool otherwise) {
        const ConfigValue* value = find(key);
        if (value == nullptr) return otherwise;
        if (value->kind != Kind::boolean) complain(text("'", key, "' is not true or false"));
        return value->boolean;
    }
    /// The key is absent, null, or one of these words.
    void one_of(std::string_view key, std::initializer_list<std::string_view> words) {
        const ConfigValue* value = find(key);
        if (value == nullptr) return;
        for (const std::string_view word : words)
            if (value->kind == Kind::string && value->text == word) return;
        complain(text("'", key, "' is ", in_quotes(value->text), ", which fewbit does not support"));
    }
    /// Null when it is absent or null.
    [[nodiscard]] const ConfigValue* find(std::string_view key) const {
        const auto found = values_.find(key);
        return found == values_.end() || found->second.kind == Kind::null ? nullptr : &found->second;
    }
    [[nodiscard]] bool has(std::string_view key) const { return find(key) != nullptr; }
    [[nodiscard]] bool has_below(std::string_view prefix) const {
        const auto found = values_.lower_bound(prefix);
        return found != values_.end() && found->first.starts_with(prefix);
    }
    /// What lies below a dotted prefix, without it.
    [[nodiscard]] ConfigValues below(std::string_view prefix) const {
        ConfigValues found;
        for (auto i = values_.lower_bound(prefix); i != values_.end() && i->first.starts_with(prefix); ++i)
            found.emplace(i->first.substr(prefix.size()), i->second);
        return found;
    }
    std::size_t complain(std::string sentence) {
        if (problem_.empty()) problem_ = std::move(sentence);
        return 0;
    }

private:
    ConfigValues values_;
    std::string problem_;
};

/// The values of a JSON text. Errors: too long, not an object, not JSON.
[[nodiscard]] inline Result<Config> parse_config_values(std::string_view json) {
    if (json.size() > max_config_bytes)
        return fail(ErrorKind::bad_input, "it has ", json.size(), " bytes; at most ", max_config_bytes,
                    " are read");
    ConfigEvents events;
    if (auto parsed = parse_json(json, max_config_depth, events); !parsed)
        return Unexpected{std::move(parsed).error()};
    return Config(std::move(events.values));
}

}  // namespace fewbit::inline v0::io::detail
