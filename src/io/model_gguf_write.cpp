// Describing a model in GGUF's words, for the writer.
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/formats/block_conversion.hpp"
#include "fewbit/io/model_gguf.hpp"
#include "src/io/file_text.hpp"
#include "src/io/gguf_llama.hpp"
#include "src/io/model_rules.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;

/// What `general.quantization_version` has been since 2023.
constexpr std::uint32_t quantization_version = 2;

Result<void> check(const ModelFile& model) {
    if (detail::no_architecture(model.shape))
        return fail(ErrorKind::bad_input, "the model has no architecture, only layers; GGUF needs one");
    return detail::check_model(model);
}

Result<void> add_vocabulary(const Vocabulary& given, std::size_t expected, GgufMetadata& out) {
    const Vocabulary vocabulary = in_sentencepiece(given);
    const std::size_t count = vocabulary.pieces.size();
    if (count != expected || vocabulary.scores.size() != count || vocabulary.kinds.size() != count)
        return fail(ErrorKind::bad_input, "the tokenizer has ", count, " tokens, ", vocabulary.scores.size(),
                    " scores and ", vocabulary.kinds.size(), " kinds, the model a vocabulary of ", expected);
    std::vector<std::int32_t> types(count);
    for (std::size_t i = 0; i < count; ++i)
        for (std::size_t type = 0; type < detail::kinds_by_type.size(); ++type)
            if (detail::kinds_by_type[type] == vocabulary.kinds[i])
                types[i] = static_cast<std::int32_t>(type + 1);
    out.emplace_back(detail::tokenizer_model_key, GgufValue::of_text(detail::sentencepiece_tokenizer));
    out.emplace_back(detail::tokens_key, GgufValue::of_texts(vocabulary.pieces));
    out.emplace_back(detail::scores_key, GgufValue::of_floats(vocabulary.scores));
    out.emplace_back(detail::kinds_key, GgufValue::of_integers(types));
    for (const auto& [key, id] : detail::token_id_keys) {
        if (vocabulary.*id < 0 || static_cast<std::size_t>(vocabulary.*id) >= count)
            return fail(ErrorKind::bad_input, "'", key, "' would be ", vocabulary.*id, ", no id of ", count,
                        " tokens");
        out.emplace_back(key, GgufValue::of_u32(static_cast<std::uint32_t>(vocabulary.*id)));
    }
    for (const auto& [key, flag] : detail::tokenizer_flag_keys)
        out.emplace_back(key, GgufValue::of_boolean(vocabulary.*flag));
    return {};
}

Result<GgufMetadata> describe(const ModelFile& model, const Vocabulary* vocabulary,
                              const GgufModelOptions& options) {
    if (auto fine = check(model); !fine) return Unexpected{std::move(fine).error()};
    const ModelShape& s = model.shape;
    GgufMetadata out;
    out.emplace_back("general.architecture", GgufValue::of_text(detail::llama_architecture));
    if (!options.name.empty()) out.emplace_back("general.name", GgufValue::of_text(options.name));
    out.emplace_back("general.quantization_version", GgufValue::of_u32(quantization_version));
    if (options.file_type) out.emplace_back("general.file_type", GgufValue::of_u32(*options.file_type));
    const auto key = [](std::string_view rest) { return text(detail::llama_architecture, ".", rest); };
    const auto count = [&](std::string_view rest, std::size_t value) {  // check() has seen that it fits
        out.emplace_back(key(rest), GgufValue::of_u32(static_cast<std::uint32_t>(value)));
    };
    count("vocab_size", s.vocabulary);
    count("context_length", s.context);
    count("embedding_length", s.dim);
    count("block_count", s.layers);
    count("feed_forward_length", s.hidden);
    count("attention.head_count", s.heads);
    count("attention.head_count_kv", s.kv_heads);
    if (s.head_dim * s.heads != s.dim) {  // else it follows from these
        count("attention.key_length", s.head_dim);
        count("attention.value_length", s.head_dim);
    }
    out.emplace_back(key("attention.layer_norm_rms_epsilon"), GgufValue::of_f32(s.norm_epsilon));
    count("rope.dimension_count", s.head_dim);
    out.emplace_back(key("rope.freq_base"), GgufValue::of_f32(s.rope_base));
    if (vocabulary != nullptr)
        if (auto done = add_vocabulary(*vocabulary, s.vocabulary, out); !done)
            return Unexpected{std::move(done).error()};
    return out;
}

GgufSource vector_source(std::string name, std::vector<float> values) {
    const std::size_t count = values.size();
    return {std::move(name),
            gguf_tensor_type(fewbit::name(Scalar::f32)),
            {count},
            [values = std::move(values)](auto sink) { return sink(std::as_bytes(std::span(values))); }};
}

/// Rows of floats and of blocks have no padding, so that their bytes are the tensor; integer codes become blocks
/// row by row where a block type has their grid.
Result<GgufSource> matrix_source(std::string name, const QuantizedMatrix& matrix) {
    const Format& format = matrix.format();
    GgufSource source{std::move(name), nullptr, {matrix.k(), matrix.n()}, {}};
    if (format.is_float() || format.is_block()) {
        source.type = gguf_tensor_type(fewbit::name(format));
        source.produce = [bytes = format.is_block() ? matrix.blocks : matrix.codes.bytes()](auto sink) {
            return sink(bytes.bytes());
        };
        return source;
    }
    const auto type = same_grid(format);
    if (!type)
        return fail(ErrorKind::unsupported, "no type of ggml has the grid of ", fewbit::name(format),
                    ", and GGUF holds nothing else; the nearest is ", ggml::name(nearest_block_type(format)));
    if (auto fits = validate_columns(block_format(*type), matrix.k()); !fits)
        return Unexpected{std::move(fits).error()};
    source.type = gguf_tensor_type(ggml::name(*type));
    source.produce = [matrix, type = *type](auto sink) -> Result<void> {
        std::vector<std::uint8_t> row(ggml::row_bytes(type, matrix.k()));
        for (std::size_t r = 0; r < matrix.n(); ++r) {
            convert_row(matrix, r, row.data());
            if (auto done = sink(std::as_bytes(std::span(row))); !done) return done;
        }
        return {};
    };
    return source;
}

Result<std::vector<GgufSource>> sources(const ModelFile& model) {
    if (auto fine = check(model); !fine) return Unexpected{std::move(fine).error()};
    std::vector<GgufSource> out;
    std::size_t linears = 0, vectors = 0;
    const auto add = [&](const std::vector<detail::LlamaLayer>& layers) -> Result<void> {
        for (const auto& [gguf, layer, n, k] : layers) {
            const auto missing = [name = &layer] {
                return fail(ErrorKind::bad_input, "the model has no ", in_quotes(*name));
            };
            std::string tensor = text(gguf, detail::weight_ending);
            if (k == 0) {
                const auto found = model.vectors.find(layer);
                if (found == model.vectors.end()) return missing();
                ++vectors;
                out.push_back(vector_source(std::move(tensor), found->second));
                continue;
            }
            const auto found = model.linears.find(layer);
            if (found == model.linears.end()) return missing();
            ++linears;
            const Linear& linear = found->second;
            if (!linear.transform.empty() || !linear.columns.empty())
                return fail(ErrorKind::unsupported, "layer ", in_quotes(layer),
                            " has an input transform or float columns, which GGUF cannot hold");
            auto source = matrix_source(std::move(tensor), linear.weights);
            if (!source) return Unexpected{source.error().within(text("layer ", in_quotes(layer)))};
            out.push_back(*std::move(source));
            if (!linear.bias.empty())
                out.push_back(vector_source(text(gguf, detail::bias_ending), linear.bias));
        }
        return {};
    };
    if (auto done = add(detail::llama_ends(model.shape)); !done) return Unexpected{std::move(done).error()};
    for (std::size_t i = 0; i < model.shape.layers; ++i)
        if (auto done = add(detail::llama_block(model.shape, i)); !done)
            return Unexpected{std::move(done).error()};
    if (linears != model.linears.size() || vectors != model.vectors.size())
        return fail(ErrorKind::bad_input, "the model has ", model.linears.size() + model.vectors.size(),
                    " layers, ", linears + vectors, " of which are a llama's; GGUF would lose the others");
    return out;
}

}  // namespace

Result<GgufMetadata> gguf_metadata(const ModelFile& model, const Vocabulary* vocabulary,
                                   const GgufModelOptions& options) {
    return detail::without_exceptions([&] { return describe(model, vocabulary, options); });
}

Result<std::vector<GgufSource>> gguf_tensors(const ModelFile& model) {
    return detail::without_exceptions([&] { return sources(model); });
}

Result<void> write_gguf_model(const std::filesystem::path& path, const ModelFile& model,
                              const Vocabulary* vocabulary, const GgufModelOptions& options) {
    auto metadata = gguf_metadata(model, vocabulary, options);
    if (!metadata) return Unexpected{std::move(metadata).error()};
    auto tensors = gguf_tensors(model);
    if (!tensors) return Unexpected{std::move(tensors).error()};
    return write_gguf(path, *metadata, *tensors);
}

}  // namespace fewbit::inline v0::io
