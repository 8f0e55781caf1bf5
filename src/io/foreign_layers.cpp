#include "src/io/foreign_layers.hpp"

#include <utility>

#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"
#include "src/io/model_rules.hpp"
#include "src/io/packed_words.hpp"

namespace fewbit::inline v0::io::detail {
namespace {

constexpr std::string_view gptq_suffix = ".qweight";
constexpr std::string_view packed_suffix = ".weight_packed";
constexpr std::string_view scale_suffix = ".weight_scale";

/// Takes tensors by name; remembers the first that could not be had.
class Taker {
public:
    Taker(Parts& parts, const std::string& layer) : parts_(parts), layer_(layer) {}

    Tensor needed(const char* suffix) {
        auto tensor = parts_.tensor(layer_ + suffix);
        if (tensor) return *std::move(tensor);
        if (!problem_) problem_ = std::move(tensor).error();
        return {};
    }
    std::optional<Tensor> optional(const char* suffix) {
        if (!parts_.has(layer_ + suffix)) return std::nullopt;
        return needed(suffix);
    }
    [[nodiscard]] const std::optional<Error>& problem() const noexcept { return problem_; }

private:
    Parts& parts_;
    const std::string& layer_;
    std::optional<Error> problem_;
};

class Reader {
public:
    Reader(Parts& parts, ModelFile& model) : parts_(parts), model_(model) {}

    Result<void> gptq(const std::string& name, const GptqConfig& config) {
        Taker take(parts_, name);
        GptqTensors tensors{take.needed(".qweight"), take.needed(".qzeros"), take.needed(".scales"),
                            take.optional(".g_idx"), 0};
        if (take.problem()) return Unexpected{*take.problem()};
        // Told from the shape in the file: unpack_gptq() makes sure that it is one.
        const Tensor::Shape& shape = tensors.qweight.shape();
        if (shape.size() == 2 && shape[0] <= max_words)
            if (auto fine = check_matrix(model_.shape, name, shape[1],
                                         shape[0] * 32 / static_cast<std::size_t>(config.bits));
                !fine)
                return fine;
        auto linear = unpack_gptq(tensors, config);
        if (!linear) return Unexpected{std::move(linear).error()};
        wrapped_ += tensors.wrapped_zeros;
        return add(name, *std::move(linear));
    }

    Result<void> compressed(const std::string& name, const CompressedConfig& config) {
        Taker take(parts_, name);
        CompressedTensors tensors{take.needed(config.packed ? ".weight_packed" : ".weight"),
                                  take.needed(".weight_scale"), take.optional(".weight_zero_point"),
                                  take.optional(".weight_shape"), take.optional(".weight_g_idx")};
        if (take.problem()) return Unexpected{*take.problem()};
        if (config.symmetric && tensors.zero_point)
            return fail(ErrorKind::bad_input, "it has zero points, but the config says that it is symmetric");
        const Tensor::Shape& shape = tensors.weight.shape();
        if (shape.size() == 2) {
            const bool told = config.packed && tensors.shape && tensors.shape->type() == Scalar::i64 &&
                              tensors.shape->shape() == Tensor::Shape{2};
            const std::size_t k =
                told ? static_cast<std::size_t>(tensors.shape->as<std::int64_t>()[1]) : shape[1];
            if (told || !config.packed)
                if (auto fine = check_matrix(model_.shape, name, shape[0], k); !fine) return fine;
        }
        auto linear = unpack_compressed(tensors, config);
        if (!linear) return Unexpected{std::move(linear).error()};
        return add(name, *std::move(linear));
    }

    void warn() {
        if (wrapped_ != 0)
            model_.metadata["warning"] =
                text(wrapped_,
                     " zero points are stored as -1 in checkpoint_format gptq and were read as 0; writers "
                     "that cannot store them have spoilt their neighbours");
    }

private:
    static constexpr std::size_t max_words = std::size_t{1} << 50;

    Result<void> add(const std::string& name, Linear&& linear) {
        if (auto fine = check_matrix(model_.shape, name, linear.n(), linear.k()); !fine) return fine;
        auto order = rotary_row_order(model_.shape, name, linear.n());
        if (!order) return Unexpected{std::move(order).error()};
        auto arranged = rows_in(linear, inverse(*order));
        if (!arranged) return Unexpected{std::move(arranged).error()};
        if (const std::string bias = name + ".bias"; parts_.has(bias)) {
            auto values = parts_.floats(bias, linear.n(), *order);
            if (!values) return Unexpected{std::move(values).error()};
            arranged->bias = *std::move(values);
        }
        model_.linears.emplace(name, *std::move(arranged));
        return {};
    }

    Parts& parts_;
    ModelFile& model_;
    std::size_t wrapped_ = 0;
};

}  // namespace

bool has_gptq_tensors(const SafetensorsFile& file) {
    for (const auto& [name, entry] : file.entries())
        if (name.ends_with(gptq_suffix)) return true;
    return false;
}

Result<void> read_foreign_layers(Parts& parts, const SafetensorsFile& file, const QuantizationConfig& config,
                                 ModelFile& model) {
    Reader reader(parts, model);
    const auto* gptq = std::get_if<GptqConfig>(&config);
    for (const auto& [tensor, entry] : file.entries()) {
        const bool packed = tensor.ends_with(packed_suffix), scale = tensor.ends_with(scale_suffix);
        if (gptq != nullptr ? !tensor.ends_with(gptq_suffix) : !packed && !scale) continue;
        const std::string layer = tensor.substr(0, tensor.rfind('.'));
        if (model.linears.contains(layer)) continue;  // weight_scale of what weight_packed told
        const auto within = [&layer](const Error& error) {
            return Unexpected{error.within(text("layer ", in_quotes(layer)))};
        };
        if (!known_name(layer))
            return fail(ErrorKind::unsupported, "tensor ", in_quotes(tensor),
                        " is not part of a llama model");
        if (gptq != nullptr) {
            if (auto done = reader.gptq(layer, *gptq); !done) return within(done.error());
            continue;
        }
        const CompressedGroup* group = group_of(std::get<CompressedGroups>(config), layer);
        if (group == nullptr)
            return fail(ErrorKind::bad_input, "layer ", in_quotes(layer),
                        ": no group of 'config_groups' is for it");
        if (auto done = reader.compressed(layer, group->weights); !done) return within(done.error());
    }
    reader.warn();
    return {};
}

}  // namespace fewbit::inline v0::io::detail
