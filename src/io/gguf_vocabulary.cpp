// Reading the vocabulary of a GGUF file.
#include <unordered_map>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/io/model_gguf.hpp"
#include "src/io/file_text.hpp"
#include "src/io/gguf_llama.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;

/// What a value is, for messages.
std::string kind_text(const GgufValue& value) {
    return value.kind() == GgufKind::array ? text("an array of ", name(value.element()))
                                           : std::string(name(value.kind()));
}

/// What `get` makes of the value of `key`, which must be there and be `wanted`.
template <class Get>
auto array_of(const GgufMetadata& metadata, std::string_view key, const char* wanted, Get get)
    -> Result<typename decltype(get(GgufValue{}))::value_type> {
    const GgufValue* value = find(metadata, key);
    if (value == nullptr) return fail(ErrorKind::bad_input, "it lacks '", key, "'");
    auto found = get(*value);
    if (!found) return fail(ErrorKind::bad_input, "'", key, "' is ", kind_text(*value), ", not ", wanted);
    return *std::move(found);
}

Result<void> check_tokenizer(const GgufMetadata& metadata) {
    const GgufValue* value = find(metadata, detail::tokenizer_model_key);
    const auto word = value == nullptr ? std::nullopt : value->as_text();
    if (!word)
        return fail(ErrorKind::unsupported, "it holds no tokenizer: its metadata has no text '",
                    detail::tokenizer_model_key, "'");
    if (*word == detail::sentencepiece_tokenizer) return {};
    return fail(ErrorKind::unsupported, "its tokenizer is of the kind ", in_quotes(*word),
                "; fewbit reads those of the kind '", detail::sentencepiece_tokenizer, "' (SentencePiece)");
}

Result<void> read_kinds(const GgufMetadata& metadata, Vocabulary& vocabulary) {
    const auto types = array_of(metadata, detail::kinds_key, "an array of integers",
                                [](const GgufValue& value) { return value.as_integers(); });
    if (!types) return Unexpected{types.error()};
    for (std::size_t i = 0; i < types->size(); ++i) {
        const std::int64_t type = (*types)[i];
        if (type < 1 || type > static_cast<std::int64_t>(detail::kinds_by_type.size()))
            return fail(ErrorKind::bad_input, "'", detail::kinds_key, "'[", i, "] is ", type,
                        "; types are 1 to ", detail::kinds_by_type.size());
        vocabulary.kinds.push_back(detail::kinds_by_type[static_cast<std::size_t>(type - 1)]);
    }
    return {};
}

Result<Vocabulary> read_vocabulary(const GgufMetadata& metadata) {
    if (auto fine = check_tokenizer(metadata); !fine) return Unexpected{std::move(fine).error()};
    const auto pieces = array_of(metadata, detail::tokens_key, "an array of text",
                                 [](const GgufValue& value) { return value.as_texts(); });
    if (!pieces) return Unexpected{pieces.error()};
    auto scores = array_of(metadata, detail::scores_key, "an array of f32",
                           [](const GgufValue& value) { return value.as_floats(); });
    if (!scores) return Unexpected{std::move(scores).error()};

    Vocabulary vocabulary;
    vocabulary.dialect = TokenDialect::sentencepiece;
    vocabulary.pieces.assign(pieces->begin(), pieces->end());
    vocabulary.scores = *std::move(scores);
    const std::size_t count = vocabulary.pieces.size();
    for (const auto& [key, id] : detail::token_id_keys) {
        const GgufValue* value = find(metadata, key);
        const auto given = value == nullptr ? static_cast<std::uint64_t>(vocabulary.*id)
                                            : value->as_unsigned().value_or(count);
        if (given >= count || given > INT32_MAX)
            return fail(ErrorKind::bad_input, "'", key, "' is ",
                        value != nullptr && !value->as_unsigned() ? text("of kind ", name(value->kind()))
                                                                  : text(given),
                        ", no id of ", count, " tokens");
        vocabulary.*id = static_cast<int>(given);
    }
    for (const auto& [key, flag] : detail::tokenizer_flag_keys) {
        const GgufValue* value = find(metadata, key);
        if (value == nullptr) continue;
        if (!value->as_boolean())
            return fail(ErrorKind::bad_input, "'", key, "' is ", kind_text(*value), ", not boolean");
        vocabulary.*flag = *value->as_boolean();
    }
    if (find(metadata, detail::kinds_key) == nullptr)
        vocabulary.guess_kinds();
    else if (auto done = read_kinds(metadata, vocabulary); !done)
        return Unexpected{std::move(done).error()};
    if (vocabulary.scores.size() != count || vocabulary.kinds.size() != count)
        return fail(ErrorKind::bad_input, "it has ", count, " tokens, ", vocabulary.scores.size(),
                    " scores and ", vocabulary.kinds.size(), " types; their numbers must be equal");
    std::unordered_map<std::string_view, std::size_t> seen;
    for (std::size_t i = 0; i < count; ++i) {
        const auto [first, fresh] = seen.emplace(vocabulary.pieces[i], i);
        if (!fresh && !vocabulary.pieces[i].empty())
            return fail(ErrorKind::bad_input, "tokens ", first->second, " and ", i, " are both ",
                        in_quotes(vocabulary.pieces[i]));
        if (vocabulary.kinds[i] == TokenKind::byte && !spelled_byte(vocabulary.pieces[i]))
            return fail(ErrorKind::bad_input, "token ", i, " is a byte, but reads ",
                        in_quotes(vocabulary.pieces[i]), ", not <0xHH>");
    }
    return vocabulary;
}

}  // namespace

Result<Vocabulary> read_gguf_vocabulary(const GgufFile& file) {
    return detail::without_exceptions([&]() -> Result<Vocabulary> {
        auto vocabulary = read_vocabulary(file.metadata);
        if (!vocabulary) return Unexpected{vocabulary.error().within(text("'", file.source, "'"))};
        return vocabulary;
    });
}

}  // namespace fewbit::inline v0::io
