// The shape of a llama from the metadata of a GGUF file. What would change the arithmetic without our knowing
// it is refused: keys of llama.attention and llama.rope that are not known here are, too.
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <optional>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"
#include "src/io/gguf_llama.hpp"
#include "src/io/model_rules.hpp"

namespace fewbit::inline v0::io::detail {
namespace {

/// Keys of llama.*; the first problem met is kept.
class Keys {
public:
    explicit Keys(const GgufMetadata& metadata) : metadata_(metadata) {}

    /// Empty if there is none.
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
    template <class... Parts>
    void complain(const Parts&... sentence) {
        if (problem_.empty()) problem_ = text(sentence...);
    }
    [[nodiscard]] const GgufValue* find(std::string_view key) const { return io::find(metadata_, full(key)); }

    std::size_t count(std::string_view key, std::optional<std::size_t> otherwise = {}) {
        const GgufValue* value = required(key, otherwise.has_value());
        if (value == nullptr) return otherwise.value_or(0);
        const auto number = value->as_unsigned();
        const auto fitting = number ? checked_cast<std::size_t>(*number) : std::nullopt;
        if (!fitting) complain("'", full(key), "' is of kind ", name(value->kind()), ", not a count");
        return fitting.value_or(0);
    }
    /// One number, or one for each layer, which must all be the same.
    std::size_t count_of_layers(std::string_view key, std::size_t layers,
                                std::optional<std::size_t> otherwise = {}) {
        const GgufValue* value = find(key);
        if (value == nullptr || value->kind() != GgufKind::array) return count(key, otherwise);
        const auto numbers = value->as_integers();
        if (!numbers || numbers->size() != layers || layers == 0) {
            complain("'", full(key), "' is an array of ", value->count(), " values of kind ",
                     name(value->element()), ", not of ", layers, " counts, one per layer");
            return 0;
        }
        const auto other =
            std::find_if(numbers->begin(), numbers->end(), [&](auto n) { return n != numbers->front(); });
        if (other != numbers->end())
            complain("'", full(key), "' differs between layers (", numbers->front(), " and ", *other,
                     "), which fewbit does not support");
        if (numbers->front() < 0) complain("'", full(key), "' is ", numbers->front(), ", not a count");
        return numbers->front() < 0 ? 0 : static_cast<std::size_t>(numbers->front());
    }
    float real(std::string_view key, std::optional<float> otherwise = {}) {
        const GgufValue* value = required(key, otherwise.has_value());
        if (value == nullptr) return otherwise.value_or(0.0f);
        const auto number = value->as_real();
        if (!number || !(std::fabs(*number) <= static_cast<double>(std::numeric_limits<float>::max()))) {
            complain("'", full(key), "' is ", number ? text(*number) : text("of kind ", name(value->kind())),
                     ", not a real number");
            return 0.0f;
        }
        return static_cast<float>(*number);
    }
    /// The key is absent or one of these numbers, which leave the arithmetic as it is.
    void only(std::string_view key, std::initializer_list<double> numbers) {
        const GgufValue* value = find(key);
        if (value == nullptr) return;
        std::optional<double> number = value->as_real();
        if (const auto whole = value->as_signed()) number = static_cast<double>(*whole);
        if (const auto flag = value->as_boolean()) number = *flag ? 1.0 : 0.0;
        if (!number || std::find(numbers.begin(), numbers.end(), *number) == numbers.end())
            complain("'", full(key), "' is ", number ? text(*number) : text("of kind ", name(value->kind())),
                     ", which fewbit does not support");
    }
    /// All keys below `prefix` are among these.
    void known_below(std::string_view prefix, std::initializer_list<std::string_view> known) {
        const std::string start = full(prefix);
        for (const auto& [key, value] : metadata_) {
            if (!key.starts_with(start)) continue;
            const std::string_view rest = std::string_view(key).substr(start.size());
            if (std::find(known.begin(), known.end(), rest) == known.end())
                complain("it has the key ", in_quotes(key), ", which fewbit does not know");
        }
    }

private:
    [[nodiscard]] static std::string full(std::string_view key) { return text(llama_architecture, ".", key); }
    const GgufValue* required(std::string_view key, bool optional) {
        const GgufValue* value = find(key);
        if (value == nullptr && !optional) complain("it lacks '", full(key), "'");
        return value;
    }

    const GgufMetadata& metadata_;
    std::string problem_;
};

void check_rotary_scaling(Keys& keys) {
    keys.known_below("rope.",
                     {"dimension_count", "freq_base", "scale_linear", "scaling.type", "scaling.factor",
                      "scaling.original_context_length", "scaling.finetuned", "scaling.attn_factor"});
    keys.only("rope.scale_linear", {1.0});
    keys.only("rope.scaling.attn_factor", {1.0});
    const GgufValue* type = keys.find("rope.scaling.type");
    const auto word = type == nullptr ? std::optional<std::string_view>("linear") : type->as_text();
    if (word == "none") return;  // then no factor counts
    if (word != "linear")
        keys.complain("'llama.rope.scaling.type' is ",
                      word ? in_quotes(*word) : text("of kind ", name(type->kind())),
                      "; fewbit supports 'none', and 'linear' by a factor of 1");
    keys.only("rope.scaling.factor", {1.0});
}

void check_attention(Keys& keys, std::size_t context) {
    keys.known_below("attention.", {"head_count", "head_count_kv", "key_length", "value_length",
                                    "layer_norm_rms_epsilon", "sliding_window", "causal", "scale"});
    keys.only("attention.causal", {1.0});
    keys.only("attention.scale", {0.0});
    const std::size_t window = keys.count("attention.sliding_window", 0);
    if (window != 0 && window < context)
        keys.complain("'llama.attention.sliding_window' is ", window, ", less than the context of ", context,
                      "; fewbit does not support windows");
}

}  // namespace

Result<ModelShape> read_llama_shape(const GgufMetadata& metadata, std::optional<std::size_t> embedding_rows,
                                    bool tied_head) {
    const GgufValue* value = io::find(metadata, "general.architecture");
    const auto architecture = value == nullptr ? std::nullopt : value->as_text();
    if (!architecture)
        return fail(ErrorKind::bad_input, "it is no model: its metadata has no text 'general.architecture'");
    if (*architecture != llama_architecture)
        return fail(ErrorKind::unsupported, "its architecture is ", in_quotes(*architecture),
                    "; fewbit runs '", llama_architecture, "'");

    Keys keys(metadata);
    ModelShape s;
    s.vocabulary = embedding_rows ? *embedding_rows : keys.count("vocab_size", 1);
    s.tied_head = tied_head;
    s.dim = keys.count("embedding_length");
    s.layers = keys.count("block_count");
    s.hidden = keys.count_of_layers("feed_forward_length", s.layers);
    s.heads = keys.count_of_layers("attention.head_count", s.layers);
    s.kv_heads = keys.count_of_layers("attention.head_count_kv", s.layers, s.heads);
    s.context = keys.count("context_length");
    s.norm_epsilon = keys.real("attention.layer_norm_rms_epsilon");
    s.rope_base = keys.real("rope.freq_base", 10000.0f);
    const bool divides = s.heads != 0 && s.dim % s.heads == 0;
    if (keys.find("attention.key_length") == nullptr && s.heads != 0 && !divides)
        keys.complain("'llama.embedding_length' ", s.dim,
                      " is not a multiple of 'llama.attention.head_count' ", s.heads);
    s.head_dim = keys.count("attention.key_length", divides ? s.dim / s.heads : 0);
    const std::size_t values = keys.count("attention.value_length", divides ? s.dim / s.heads : s.head_dim);
    if (values != s.head_dim)
        keys.complain("keys have a length of ", s.head_dim, ", values of ", values,
                      "; fewbit supports equal ones");
    const std::size_t rotated = keys.count("rope.dimension_count", s.head_dim);
    if (rotated != s.head_dim)
        keys.complain("'llama.rope.dimension_count' is ", rotated, ", but heads have a length of ",
                      s.head_dim, "; fewbit rotates whole heads");
    if (const std::size_t said = keys.count("vocab_size", s.vocabulary); said != s.vocabulary)
        keys.complain("'llama.vocab_size' is ", said, ", but the embedding has ", s.vocabulary, " rows");
    check_rotary_scaling(keys);
    check_attention(keys, s.context);
    for (const char* key :
         {"expert_count", "attn_logit_softcapping", "final_logit_softcapping", "use_parallel_residual"})
        keys.only(key, {0.0});
    for (const char* key : {"logit_scale", "residual_scale", "embedding_scale"}) keys.only(key, {0.0, 1.0});
    if (!keys.problem().empty()) return unexpected(ErrorKind::bad_input, keys.problem());
    if (no_architecture(s)) return fail(ErrorKind::bad_input, "all its sizes are 0");
    if (auto fine = check_shape(s); !fine) return Unexpected{std::move(fine).error()};
    return s;
}

}  // namespace fewbit::inline v0::io::detail
