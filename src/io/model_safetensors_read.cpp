#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "src/io/file_text.hpp"
#include "src/io/foreign_layers.hpp"
#include "src/io/model_metadata.hpp"
#include "src/io/model_parts.hpp"
#include "src/io/model_rules.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;
using detail::Parts;
using detail::RowOrder;
/// Everything of a layer but its weights.
Result<void> read_extras(Parts& parts, const std::string& name, const RowOrder& order, Linear& linear) {
    const auto take = [](auto result, auto& target) -> Result<void> {
        if (!result) return Unexpected{std::move(result).error()};
        target = *std::move(result);
        return {};
    };
    if (const std::string part = name + ".bias"; parts.has(part))
        if (auto done = take(parts.floats(part, linear.n(), order), linear.bias); !done) return done;
    if (const std::string part = name + ".channel_scales"; parts.has(part))
        if (auto done = take(parts.floats(part, linear.k(), {}), linear.transform.channel_scales); !done)
            return done;
    if (const std::string part = name + ".permutation"; parts.has(part))
        if (auto done = take(parts.indices(part, linear.k()), linear.transform.permutation); !done)
            return done;
    if (const std::string part = name + ".hadamard"; parts.has(part)) {
        const auto order_of_q = parts.indices(part, 1);
        if (!order_of_q) return Unexpected{order_of_q.error()};
        linear.transform.hadamard = order_of_q->front();
        if (linear.transform.hadamard == 0)
            return fail(ErrorKind::bad_input, "tensor ", in_quotes(part), " is 0, not the order of a matrix");
    }
    const std::string columns = name + ".float_columns.";
    if (!parts.has(columns + "channels") && !parts.has(columns + "values")) return {};
    if (auto done = take(parts.float_matrix(columns + "values", order), linear.columns.values); !done)
        return done;
    if (linear.columns.values.n() != linear.n())
        return fail(ErrorKind::bad_input, "tensor ", in_quotes(columns + "values"), " has ",
                    linear.columns.values.n(), " rows, not ", linear.n());
    return take(parts.indices(columns + "channels", linear.columns.values.k()), linear.columns.channels);
}

/// N of a quantized layer: the rows of its codes or blocks.
Result<std::size_t> rows_of_codes(Parts& parts, const std::string& name, const Format& format) {
    const std::string tensor = name + (format.is_block() ? ".weight.blocks" : ".weight.codes");
    auto entry = parts.take(tensor);
    if (!entry) return Unexpected{std::move(entry).error()};
    if ((*entry)->shape.size() != 2)
        return fail(ErrorKind::bad_input, "tensor ", in_quotes(tensor), " has shape ",
                    shape_text((*entry)->shape), ", not two extents");
    return (*entry)->shape[0];
}

Result<QuantizedMatrix> read_quantized(Parts& parts, const std::string& name, const Format& format,
                                       std::size_t n, std::size_t k, const RowOrder& order) {
    if (format.is_block()) {
        if (auto fits = validate_columns(format, k); !fits) return Unexpected{std::move(fits).error()};
        auto blocks = parts.parameters(name + ".weight.blocks", Scalar::u8,
                                       {n, ggml::row_bytes(format.block, k)}, order);
        if (!blocks) return Unexpected{std::move(blocks).error()};
        return QuantizedMatrix::from_blocks(format, n, k, *std::move(blocks));
    }
    auto codes = parts.codes(name + ".weight.codes", n, k, format.bits, order);
    if (!codes) return Unexpected{std::move(codes).error()};
    const bool none = format.scales(n, k) == 0, single = format.granularity == Granularity::tensor;
    const std::size_t rows = none     ? 0
                             : single ? 1
                                      : n,
                      cols = none     ? 0
                             : single ? 1
                                      : format.groups_per_row(k);
    const RowOrder parameter_order = none || single ? RowOrder{} : order;
    auto scales = parts.parameters(name + ".weight.scales", format.scale, {rows, cols}, parameter_order);
    if (!scales) return Unexpected{std::move(scales).error()};
    BitMatrix zeros;
    Tensor offsets, row_scales;
    if (format.offset == Offset::integer) {
        auto read = parts.codes(name + ".weight.zeros", rows, cols, format.bits, parameter_order);
        if (!read) return Unexpected{std::move(read).error()};
        zeros = *std::move(read);
    }
    if (format.offset == Offset::real) {
        auto read = parts.parameters(name + ".weight.offsets", format.scale, {rows, cols}, parameter_order);
        if (!read) return Unexpected{std::move(read).error()};
        offsets = *std::move(read);
    }
    if (format.double_quantized()) {
        auto read = parts.parameters(name + ".weight.row_scales", Scalar::e8m0, {rows, none ? 0u : 1u},
                                     parameter_order);
        if (!read) return Unexpected{std::move(read).error()};
        row_scales = *std::move(read);
    }
    return QuantizedMatrix::assemble(format, n, k, *std::move(codes), *std::move(scales), std::move(zeros),
                                     std::move(offsets), std::move(row_scales));
}

class SafetensorsModelReader {
public:
    explicit SafetensorsModelReader(const SafetensorsFile& file) : file_(file), parts_(file) {}

    /// A file of ours: everything stands in its metadata.
    Result<ModelFile> read_own() {
        const Metadata& metadata = file_.metadata();
        const auto version = metadata.find(std::string(detail::version_key));
        if (version == metadata.end())
            return fail(ErrorKind::bad_input, "the metadata has keys of fewbit, but no '",
                        detail::version_key, "'");
        if (version->second != detail::layout_version)
            return fail(ErrorKind::unsupported, "the file is of fewbit's layout version ",
                        in_quotes(version->second), "; this library reads version ", detail::layout_version);
        auto shape = detail::get_shape(metadata);
        if (!shape) return Unexpected{std::move(shape).error()};
        model_.shape = *shape;
        for (const auto& [key, value] : metadata)
            if (auto done = read_metadata(key, value); !done) return Unexpected{std::move(done).error()};
        return finish();
    }
    /// A file of others: floats, or layers in the layout that its config names.
    Result<ModelFile> read_foreign(const detail::ModelConfig& config) {
        model_.shape = config.shape;
        model_.metadata = file_.metadata();
        if (config.quantization)
            if (auto done = detail::read_foreign_layers(parts_, file_, *config.quantization, model_); !done)
                return Unexpected{std::move(done).error()};
        if (config.shape.tied_head)
            parts_.ignore("lm_head.weight");  // some writers store the embedding twice
        for (const auto& [name, entry] : file_.entries()) {
            if (name.ends_with(".self_attn.rotary_emb.inv_freq"))
                parts_.ignore(name);  // old files: follows from rope_theta
            if (name.ends_with(weight_suffix) && !detail::known_name(module(name)))
                return fail(ErrorKind::unsupported, "tensor ", in_quotes(name),
                            " is not part of a llama model");
        }
        return finish();
    }

private:
    static constexpr std::string_view weight_suffix = ".weight";

    static std::string module(std::string_view name) {
        return std::string(name.substr(0, name.size() - weight_suffix.size()));
    }

    Result<void> read_metadata(const std::string& key, const std::string& value) {
        if (!key.starts_with(detail::own_prefix)) {
            model_.metadata.emplace(key, value);
            return {};
        }
        if (key == detail::version_key || key.starts_with(detail::model_prefix)) return {};
        if (key.starts_with(detail::k_prefix)) {
            if (file_.metadata().contains(text(detail::format_prefix, key.substr(detail::k_prefix.size()))))
                return {};
            return fail(ErrorKind::bad_input, "the metadata ", in_quotes(key), " belongs to no '",
                        detail::format_prefix, key.substr(detail::k_prefix.size()), "'");
        }
        if (key.starts_with(detail::format_prefix))
            return read_quantized_layer(key.substr(detail::format_prefix.size()), value);
        return fail(ErrorKind::unsupported, "the metadata key ", in_quotes(key),
                    " is not known to layout version ", detail::layout_version);
    }

    Result<void> read_quantized_layer(const std::string& name, const std::string& format_name) {
        const auto wrong = [&name](const Error& error) {
            return Unexpected{error.within(text("layer ", in_quotes(name)))};
        };
        auto format = parse_format(format_name);
        if (!format)
            return fail(ErrorKind::bad_input, "layer ", in_quotes(name), ": ", in_quotes(format_name),
                        " is not a format that can be read here");
        if (format->is_float())
            return fail(ErrorKind::bad_input, "layer ", in_quotes(name),
                        ": a float layer is stored as '.weight', without a format");
        const auto k_text = file_.metadata().find(text(detail::k_prefix, name));
        std::size_t k = 0;
        if (k_text == file_.metadata().end() || !fewbit::detail::parse_number(k_text->second, k))
            return fail(ErrorKind::bad_input, "layer ", in_quotes(name), ": the metadata ",
                        in_quotes(text(detail::k_prefix, name)), " is missing or not a count");
        const auto n = rows_of_codes(parts_, name, *format);
        if (!n) return wrong(n.error());
        auto order = detail::rotary_row_order(model_.shape, name, *n);
        if (!order) return Unexpected{std::move(order).error()};
        Linear linear;
        auto weights = read_quantized(parts_, name, *format, *n, k, *order);
        if (!weights) return wrong(weights.error());
        linear.weights = *std::move(weights);
        if (auto done = read_extras(parts_, name, *order, linear); !done) return wrong(done.error());
        model_.linears.emplace(name, std::move(linear));
        return {};
    }

    Result<void> read_float_layer(const std::string& tensor, const SafetensorsEntry& entry) {
        const std::string name = module(tensor);
        if (entry.shape.size() == 1) {
            auto values = parts_.floats(tensor, entry.shape[0], {});
            if (!values) return Unexpected{std::move(values).error()};
            model_.vectors.emplace(name, *std::move(values));
            return {};
        }
        auto order = detail::rotary_row_order(model_.shape, name, entry.shape.empty() ? 0 : entry.shape[0]);
        if (!order) return Unexpected{std::move(order).error()};
        Linear linear;
        auto weights = parts_.float_matrix(tensor, *order);
        if (!weights) return Unexpected{std::move(weights).error()};
        linear.weights = *std::move(weights);
        if (auto done = read_extras(parts_, name, *order, linear); !done) return done;
        if (!model_.linears.emplace(name, std::move(linear)).second)
            return fail(ErrorKind::bad_input, "layer ", in_quotes(name),
                        " is stored both as floats and as codes");
        return {};
    }

    Result<ModelFile> finish() {
        for (const auto& [name, entry] : file_.entries()) {
            if (!name.ends_with(weight_suffix) || parts_.taken(name)) continue;
            if (auto done = read_float_layer(name, entry); !done) return Unexpected{std::move(done).error()};
        }
        if (const std::string* left = parts_.first_left())
            return fail(ErrorKind::bad_input, "the tensor ", in_quotes(*left), " belongs to no layer");
        if (const auto format = model_.metadata.find(std::string(detail::foreign_format_key));
            format != model_.metadata.end() && format->second == detail::foreign_format)
            model_.metadata.erase(format);
        model_.type = "safetensors";
        if (auto fine = detail::check_model(model_); !fine) return Unexpected{std::move(fine).error()};
        return std::move(model_);
    }

    const SafetensorsFile& file_;
    Parts parts_;
    ModelFile model_;
};

constexpr const char* index_name = "model.safetensors.index.json";

std::string_view text_of(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

Result<detail::ModelConfig> read_config(const SafetensorsFile& tensors,
                                        const std::filesystem::path& directory) {
    const std::filesystem::path path = directory / "config.json";
    auto file = MappedFile::open(path);
    if (!file)
        return fail(
            file.error().kind,
            "it has no metadata of fewbit, so the model's shape must stand in a config.json beside it: ",
            file.error().message);
    auto config = detail::parse_config(text_of(**file));
    if (!config) return Unexpected{config.error().within(text("'", path_text(path), "'"))};
    if (config->quantization || !detail::has_gptq_tensors(tensors)) return config;
    // AutoGPTQ's folders say how layers are quantized in a file of its own.
    const std::filesystem::path beside = directory / "quantize_config.json";
    auto quantize_file = MappedFile::open(beside);
    if (!quantize_file)
        return fail(quantize_file.error().kind, "its layers are quantized, but neither '", path_text(path),
                    "' nor a quantize_config.json says how: ", quantize_file.error().message);
    auto quantization = detail::parse_quantize_config(text_of(**quantize_file));
    if (!quantization) return Unexpected{quantization.error().within(text("'", path_text(beside), "'"))};
    config->quantization = *std::move(quantization);
    return config;
}

Result<ModelFile> read_model(const SafetensorsFile& file, const std::filesystem::path& directory) {
    const auto own = file.metadata().lower_bound(std::string(detail::own_prefix));
    if (own != file.metadata().end() && own->first.starts_with(detail::own_prefix))
        return SafetensorsModelReader(file).read_own();
    auto config = read_config(file, directory);
    if (!config) return Unexpected{std::move(config).error()};
    return SafetensorsModelReader(file).read_foreign(*config);
}

}  // namespace

Result<ModelFile> read_safetensors_model(const SafetensorsFile& file,
                                         const std::filesystem::path& config_directory) {
    return detail::without_exceptions([&]() -> Result<ModelFile> {
        auto model = read_model(file, config_directory);
        if (!model) return Unexpected{model.error().within(text("'", file.source(), "'"))};
        return model;
    });
}

Result<ModelFile> read_safetensors_model(const std::filesystem::path& path) {
    return detail::without_exceptions([&]() -> Result<ModelFile> {
        std::error_code ignored;
        const bool folder = std::filesystem::is_directory(path, ignored);
        std::filesystem::path file_path = folder ? path / "model.safetensors" : path;
        if (folder && !std::filesystem::exists(file_path, ignored) &&
            std::filesystem::exists(path / index_name, ignored))
            file_path = path / index_name;
        auto file = file_path.extension() == ".json" ? open_safetensors_index(file_path)
                                                     : open_safetensors(file_path);
        if (!file) return Unexpected{std::move(file).error()};
        return read_safetensors_model(*file, file_path.parent_path());
    });
}

}  // namespace fewbit::inline v0::io
