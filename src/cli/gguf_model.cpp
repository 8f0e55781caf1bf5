// Definitions of gguf_model.hpp.
#include "src/cli/gguf_model.hpp"

#include <algorithm>
#include <map>

#include "fewbit/io/model_gguf.hpp"
#include "src/cli/load.hpp"

namespace fewbit::cli {
namespace {

/// A number of the metadata; of an array its first.
std::size_t number(const io::GgufMetadata& metadata, const std::string& key) {
    const io::GgufValue* value = io::find(metadata, key);
    if (value == nullptr) return 0;
    if (const auto one = value->as_unsigned()) return static_cast<std::size_t>(*one);
    const auto many = value->as_integers();
    return many && !many->empty() ? static_cast<std::size_t>(std::max<std::int64_t>(0, many->front())) : 0;
}

GgufModel from_gguf(const QuantizeOptions& options) {
    const io::GgufFile file = expect(io::open_gguf(path_of(options.model)));
    GgufModel input{file.metadata, pipeline::gguf_inputs(file), {}};
    // The output is one file.
    std::erase_if(input.metadata, [](const auto& pair) { return pair.first.starts_with("split."); });
    const io::GgufValue* architecture = io::find(file.metadata, "general.architecture");
    const std::string a(architecture != nullptr ? architecture->as_text().value_or("") : "");
    input.model = {
        number(file.metadata, a + ".block_count"), number(file.metadata, a + ".attention.head_count"),
        number(file.metadata, a + ".attention.head_count_kv"), number(file.metadata, a + ".expert_count")};
    if (options.plan.mix != nullptr && (a == "falcon" || input.model.layers == 0))
        throw Failure(
            a == "falcon"
                ? fmt::format("mixes follow rules of their own for falcon, which fewbit does not have; "
                              "--format {} and --tensor-format say the same by name",
                              ggml::name(options.plan.mix->base))
                : fmt::format("'{}' does not say how many layers it has ('{}.block_count'); mixes "
                              "need to know",
                              options.model, a));
    return input;
}

GgufModel from_model(const QuantizeOptions& options) {
    const io::ModelFile model = load_model(options.model);
    std::optional<io::Vocabulary> vocabulary;
    if (!options.tokenizer.empty() || model.metadata.contains("tokenizer"))
        vocabulary = load_tokenizer(options.tokenizer, model, options.model).vocabulary();
    else
        say("The model brings no tokenizer, and the file will hold none; --tokenizer FILE adds one.\n");
    GgufModel input;
    input.metadata = expect(io::gguf_metadata(model, vocabulary ? &*vocabulary : nullptr,
                                              {io::path_text(path_of(options.model).stem()), std::nullopt}));
    input.tensors = expect(pipeline::gguf_inputs(model));
    input.model = mix_model(model.shape);
    return input;
}

/// Puts a value where the key stands, or at the end.
void set(io::GgufMetadata& metadata, std::string_view key, io::GgufValue value) {
    const auto found =
        std::ranges::find(metadata, key, [](const auto& pair) -> std::string_view { return pair.first; });
    if (found != metadata.end())
        found->second = std::move(value);
    else
        metadata.emplace_back(key, std::move(value));
}

/// general.file_type of files most of whose weights are of a type; nothing for types without a number.
std::optional<std::uint32_t> file_type_of(std::string_view type) {
    static const std::map<std::string_view, std::uint32_t> types{
        {"f32", 0},    {"f16", 1},    {"q4_0", 2},    {"q4_1", 3},    {"q8_0", 7},
        {"q5_0", 8},   {"q5_1", 9},   {"q2_k", 10},   {"q3_k", 11},   {"q4_k", 14},
        {"q5_k", 16},  {"q6_k", 18},  {"iq4_nl", 25}, {"iq4_xs", 30}, {"bf16", 32},
        {"tq1_0", 36}, {"tq2_0", 37}, {"mxfp4", 38},  {"nvfp4", 39},  {"q1_0", 40}};
    const auto found = types.find(type);
    return found == types.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace

GgufModel read_gguf_model(const QuantizeOptions& options) {
    return kind_of_model(options.model) == ModelKind::gguf ? from_gguf(options) : from_model(options);
}

void describe(io::GgufMetadata& metadata, const std::vector<io::GgufSource>& sources,
              const pipeline::Mix* mix, const io::ImportanceMatrix* importance,
              const QuantizeOptions& options) {
    std::map<std::string_view, double> weights;
    bool blocks = false;
    for (const io::GgufSource& source : sources) {
        double count = 1;
        for (const std::size_t size : source.sizes) count *= static_cast<double>(size);
        weights[source.type->name] += count;
        blocks = blocks || source.type->elements > 1;
    }
    std::optional<std::uint32_t> type;
    if (mix != nullptr)
        type = mix->file_type;
    else if (!weights.empty())
        type = file_type_of(
            std::ranges::max_element(weights, {}, [](const auto& w) { return w.second; })->first);
    std::erase_if(metadata, [&](const auto& pair) { return !type && pair.first == "general.file_type"; });
    if (type) set(metadata, "general.file_type", io::GgufValue::of_u32(*type));
    if (blocks) set(metadata, "general.quantization_version", io::GgufValue::of_u32(2));
    if (importance == nullptr) return;
    set(metadata, "quantize.imatrix.file",
        io::GgufValue::of_text(io::path_text(path_of(options.importance).filename())));
    if (!importance->datasets.empty())
        set(metadata, "quantize.imatrix.dataset", io::GgufValue::of_text(importance->datasets.front()));
    set(metadata, "quantize.imatrix.entries_count",
        io::GgufValue::of_i32(static_cast<std::int32_t>(importance->entries.size())));
    if (importance->chunks != 0)
        set(metadata, "quantize.imatrix.chunks_count",
            io::GgufValue::of_i32(static_cast<std::int32_t>(importance->chunks)));
}

}  // namespace fewbit::cli
