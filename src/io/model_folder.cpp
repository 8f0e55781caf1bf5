#include "fewbit/io/model_folder.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "fewbit/core/scalar.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/io/atomic_file.hpp"
#include "fewbit/io/compressed_tensors.hpp"
#include "fewbit/io/gptq.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "src/io/file_text.hpp"
#include "src/io/model_folder_config.hpp"
#include "src/io/model_metadata.hpp"
#include "src/io/model_rules.hpp"
#include "src/io/packed_words.hpp"
#include "src/io/tensor_plan.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;
using detail::RowOrder;
using detail::TensorPlan;

/// A bias as others store it, F16, where that changes nothing; else F32.
Result<Tensor> bias_tensor(const std::vector<float>& bias) {
    const bool exact = std::ranges::all_of(bias, [](float value) {
        std::byte half[2];
        store_float(Scalar::f16, value, half);
        const float back = load_float(Scalar::f16, half);
        return std::memcmp(&back, &value, 4) == 0;
    });
    const Scalar type = exact ? Scalar::f16 : Scalar::f32;
    auto out = Tensor::allocate(type, {bias.size()});
    if (!out) return out;
    for (std::size_t i = 0; i < bias.size(); ++i) {
        std::byte* place = out->mutable_bytes().data() + i * size_bytes(type);
        if (exact)
            store_float(Scalar::f16, bias[i], place);
        else
            std::memcpy(place, &bias[i], 4);  // the bits of a NaN too
    }
    return out;
}

Result<void> check_layer(FolderLayout layout, const FolderLayer& layer) {
    if (layer.name == "model.embed_tokens")
        return fail(ErrorKind::unsupported, "the layout ", io::name(layout),
                    " holds matrices of linear layers; an embedding stays as floats there");
    return layout == FolderLayout::gptq ? check_gptq(layer.format, layer.n, layer.k)
                                        : check_compressed(layer.format, layer.n, layer.k);
}

/// A narrow grid is part of the full one.
bool same_grids(Format a, Format b) noexcept {
    a.narrow = b.narrow = false;
    return a == b;
}

class FolderWriter {
public:
    FolderWriter(const ModelFile& model, FolderLayout layout) : model_(model), layout_(layout) {}

    Result<void> write(const std::filesystem::path& folder) {
        if (auto done = plan(); !done) return done;
        Metadata metadata = model_.metadata;
        if (const auto own = metadata.lower_bound(std::string(detail::own_prefix));
            own != metadata.end() && own->first.starts_with(detail::own_prefix))
            return fail(ErrorKind::bad_input, "the metadata key ", in_quotes(own->first), " begins with '",
                        detail::own_prefix, "', which files of fewbit's own layout keep for themselves");
        metadata[std::string(detail::foreign_format_key)] = detail::foreign_format;
        std::error_code error;
        const bool made = std::filesystem::create_directory(folder, error);
        if (!std::filesystem::is_directory(folder, error))
            return fail(ErrorKind::io, "there is no such folder, and it cannot be made");
        auto done = write_files(folder, metadata);
        if (!done && made) std::filesystem::remove(folder, error);  // while it is empty
        return done;
    }

private:
    Result<void> write_files(const std::filesystem::path& folder, const Metadata& metadata) {
        if (auto done = write_safetensors(folder / "model.safetensors", plan_.tensors, metadata); !done)
            return done;
        auto file = AtomicFile::create(folder / "config.json");
        if (!file) return Unexpected{std::move(file).error()};
        if (auto done = file->write(detail::folder_config(model_, layout_, version_)); !done) return done;
        return file->commit();
    }

    Result<void> plan() {
        if (auto fine = detail::check_model(model_); !fine) return fine;
        if (detail::no_architecture(model_.shape))
            return fail(ErrorKind::unsupported,
                        "the layers have no architecture, which config.json must name; "
                        "fewbit's own layout (a .safetensors file) holds them");
        for (const auto& [name, values] : model_.vectors) {
            if (!detail::known_name(name)) return unknown(name);
            if (auto done = plan_.add(name + ".weight", SafetensorsType::f32, values); !done) return done;
        }
        if (auto fine = choose(); !fine) return fine;
        for (const auto& [name, linear] : model_.linears) {
            const auto within = [&name = name](const Error& error) {
                return Unexpected{error.within(text("layer ", in_quotes(name)))};
            };
            if (!detail::known_name(name)) return unknown(name);
            if (auto done = plan_layer(name, linear); !done) return within(done.error());
        }
        return {};
    }

    static Unexpected<Error> unknown(const std::string& name) {
        return fail(ErrorKind::unsupported, in_quotes(name), " is not part of a llama model");
    }

    /// What is true of all layers: formats that fit, biases in all of a kind or in none, how zero points are
    /// stored.
    Result<void> choose() {
        std::vector<FolderLayer> layers;
        for (const auto& [name, linear] : model_.linears) {
            layers.push_back({name, linear.weights.format(), linear.n(), linear.k()});
            if (has_zero_point_of_0(linear.weights)) version_ = GptqVersion::v2;
        }
        if (auto fine = check_layers(layout_, layers); !fine) return fine;
        for (const std::string_view part : {".self_attn.", ".mlp."}) {
            std::size_t matrices = 0, biases = 0;
            for (const auto& [name, linear] : model_.linears) {
                if (name.find(part) == std::string::npos) continue;
                ++matrices;
                biases += linear.bias.empty() ? 0u : 1u;
            }
            if (biases != 0 && biases != matrices)
                return fail(ErrorKind::unsupported, biases, " of ", matrices, " matrices '", part,
                            "*' have a bias; in a llama of Hugging Face all have one, or none");
        }
        return {};
    }

    Result<void> plan_layer(const std::string& name, const Linear& given) {
        auto order = detail::rotary_row_order(model_.shape, name, given.n());
        if (!order) return Unexpected{std::move(order).error()};
        if (given.weights.format().is_float()) {
            if (!given.transform.empty() || !given.columns.empty())
                return fail(ErrorKind::unsupported,
                            "a float layer is a plain matrix in this layout; fewbit's own "
                            "layout (a .safetensors file) holds transforms and columns");
            if (auto done = plan_.add_float_matrix(name + ".weight", given.weights, *order); !done)
                return done;
            std::vector<float> bias(given.bias.size());
            for (std::size_t r = 0; r < bias.size(); ++r)
                bias[r] = given.bias[order->empty() ? r : (*order)[r]];
            return plan_bias(name, bias);
        }
        if (!given.columns.empty() ||
            !given.transform.channel_scales.empty() ||  // rows_in() would leave them behind
            given.transform.hadamard != 0)
            return detail::check_transform(given, io::name(layout_));
        auto linear = detail::rows_in(given, *order);
        if (!linear) return Unexpected{std::move(linear).error()};
        if (auto done =
                layout_ == FolderLayout::gptq ? plan_gptq(name, *linear) : plan_compressed(name, *linear);
            !done)
            return done;
        return plan_bias(name, linear->bias);
    }

    Result<void> plan_bias(const std::string& name, const std::vector<float>& bias) {
        if (bias.empty()) return {};
        auto tensor = bias_tensor(bias);
        if (!tensor) return Unexpected{std::move(tensor).error()};
        return plan_.add_kept(name + ".bias", *std::move(tensor));
    }

    Result<void> plan_gptq(const std::string& name, const Linear& linear) {
        auto tensors = pack_gptq(linear, version_);
        if (!tensors) return Unexpected{std::move(tensors).error()};
        for (auto& [suffix, tensor] : {std::pair<const char*, Tensor>{".qweight", tensors->qweight},
                                       {".qzeros", tensors->qzeros},
                                       {".scales", tensors->scales},
                                       {".g_idx", *tensors->g_idx}})
            if (auto done = plan_.add_kept(name + suffix, tensor); !done) return done;
        return {};
    }

    Result<void> plan_compressed(const std::string& name, const Linear& linear) {
        auto tensors = pack_compressed(linear);
        if (!tensors) return Unexpected{std::move(tensors).error()};
        const bool packed = tensors->shape.has_value();
        if (auto done = plan_.add_kept(name + (packed ? ".weight_packed" : ".weight"), tensors->weight);
            !done)
            return done;
        for (auto& [suffix, tensor] :
             {std::pair<const char*, std::optional<Tensor>>{".weight_scale", tensors->scale},
              {".weight_zero_point", tensors->zero_point},
              {".weight_shape", tensors->shape},
              {".weight_g_idx", tensors->g_idx}}) {
            if (!tensor) continue;
            if (auto done = plan_.add_kept(name + suffix, *tensor); !done) return done;
        }
        return {};
    }

    const ModelFile& model_;
    FolderLayout layout_;
    GptqVersion version_ = GptqVersion::v1;
    TensorPlan plan_;
};

}  // namespace

std::string_view name(FolderLayout layout) noexcept {
    return layout == FolderLayout::gptq ? "gptq" : "compressed-tensors";
}

Result<void> check_layers(FolderLayout layout, const std::vector<FolderLayer>& layers) {
    return detail::without_exceptions([&]() -> Result<void> {
        const FolderLayer* first = nullptr;
        for (const FolderLayer& layer : layers)
            if (!layer.format.is_float()) {
                if (auto fine = check_layer(layout, layer); !fine)
                    return Unexpected{fine.error().within(text("layer ", in_quotes(layer.name)))};
                if (first == nullptr) first = &layer;
                if (layout == FolderLayout::gptq && !same_grids(first->format, layer.format))
                    return fail(
                        ErrorKind::unsupported, in_quotes(first->name), " is ", name(first->format), " and ",
                        in_quotes(layer.name), " ", name(layer.format),
                        ": the layout gptq has one format for all; compressed-tensors may have several");
            }
        if (first == nullptr)
            return fail(ErrorKind::unsupported,
                        "no layer is quantized; a .safetensors file holds float models");
        return {};
    });
}

Result<void> write_model_folder(const std::filesystem::path& folder, const ModelFile& model,
                                FolderLayout layout) {
    return detail::without_exceptions([&]() -> Result<void> {
        auto done = FolderWriter(model, layout).write(folder);
        if (!done) return Unexpected{done.error().within(text("writing '", path_text(folder), "'"))};
        return done;
    });
}

}  // namespace fewbit::inline v0::io
