// Reading the model of a GGUF file: every tensor that the shape asks for, and none besides.
#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/io/model_gguf.hpp"
#include "src/io/file_text.hpp"
#include "src/io/gguf_llama.hpp"
#include "src/io/model_rules.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;
using detail::LlamaLayer;

class GgufModelReader {
public:
    explicit GgufModelReader(const GgufFile& file)
        : file_(file), owner_(std::make_shared<const std::vector<std::shared_ptr<const void>>>(file.owners)) {
        for (const GgufTensor& tensor : file.tensors) left_.emplace(tensor.name, &tensor);
    }

    Result<ModelFile> read() {
        const auto embedding = left_.find("token_embd.weight");
        const auto rows = embedding == left_.end() ? std::optional<std::size_t>()
                                                   : std::optional(embedding->second->rows());
        auto shape = detail::read_llama_shape(file_.metadata, rows, !left_.contains("output.weight"));
        if (!shape) return Unexpected{std::move(shape).error()};
        model_.shape = *shape;
        if (left_.contains("rope_freqs.weight"))
            return fail(ErrorKind::unsupported,
                        "the tensor 'rope_freqs.weight' scales the rotary embedding (Llama 3.1 and later), "
                        "which fewbit does not support yet");
        if (auto done = check_tokens(); !done) return Unexpected{std::move(done).error()};
        if (auto done = add(detail::llama_ends(*shape)); !done) return Unexpected{std::move(done).error()};
        for (std::size_t i = 0; i < shape->layers; ++i)
            if (auto done = add(detail::llama_block(*shape, i)); !done)
                return Unexpected{std::move(done).error()};
        for (const GgufTensor& tensor : file_.tensors)
            if (left_.contains(tensor.name))
                return fail(ErrorKind::bad_input, "the tensor ", in_quotes(tensor.name),
                            " belongs to no layer of a llama of ", shape->layers, " layers");
        model_.type = "GGUF";
        model_.metadata["source"] = file_.source;
        if (const GgufValue* name = find(file_.metadata, "general.name"); name != nullptr)
            if (const auto text = name->as_text(); text && detail::is_utf8(*text))
                model_.metadata["name"] = *text;
        if (auto fine = detail::check_model(model_); !fine) return Unexpected{std::move(fine).error()};
        return std::move(model_);
    }

private:
    Result<void> check_tokens() const {
        const GgufValue* tokens = find(file_.metadata, detail::tokens_key);
        if (tokens == nullptr) return {};
        if (tokens->kind() == GgufKind::array && tokens->count() == model_.shape.vocabulary) return {};
        return fail(ErrorKind::bad_input, "'", detail::tokens_key, "' has ", tokens->count(),
                    " tokens, but the embedding ", model_.shape.vocabulary, " rows");
    }

    /// Null when there is no such tensor (any more).
    const GgufTensor* take(const std::string& name) {
        const auto found = left_.find(name);
        if (found == left_.end()) return nullptr;
        const GgufTensor* tensor = found->second;
        left_.erase(found);
        return tensor;
    }

    Result<void> add(const std::vector<LlamaLayer>& layers) {
        for (const LlamaLayer& layer : layers) {
            const std::string name = text(layer.gguf, detail::weight_ending);
            const GgufTensor* tensor = take(name);
            if (tensor == nullptr) return fail(ErrorKind::bad_input, "it has no tensor ", in_quotes(name));
            auto done = layer.k == 0 ? vector_of(*tensor, layer.n, model_.vectors[layer.layer])
                                     : add_linear(*tensor, layer);
            if (!done) return done;
        }
        return {};
    }

    Result<void> add_linear(const GgufTensor& tensor, const LlamaLayer& layer) {
        if (auto fine = check_sizes(tensor, layer.n, layer.k); !fine) return fine;
        auto weights = matrix_of(tensor);
        if (!weights) return Unexpected{weights.error().within(text("tensor ", in_quotes(tensor.name)))};
        Linear& linear = model_.linears[layer.layer];
        linear.weights = *std::move(weights);
        const GgufTensor* bias = take(text(layer.gguf, detail::bias_ending));
        return bias == nullptr ? Result<void>{} : vector_of(*bias, layer.n, linear.bias);
    }

    [[nodiscard]] static Result<void> check_sizes(const GgufTensor& tensor, std::size_t n, std::size_t k) {
        const std::size_t dimensions = k == 0 ? 1 : 2;
        const bool fits = tensor.sizes.size() <= dimensions && tensor.row_elements() == (k == 0 ? n : k) &&
                          tensor.rows() == (k == 0 ? 1 : n);
        if (fits) return {};
        return fail(ErrorKind::bad_input, "tensor ", in_quotes(tensor.name), " has the sizes ",
                    shape_text(tensor.sizes), ", but the model's shape asks for ",
                    shape_text(k == 0 ? std::vector{n} : std::vector{k, n}));
    }

    /// The bytes of a tensor of n rows; borrowed where they are aligned.
    [[nodiscard]] Result<Tensor> rows_of(const GgufTensor& tensor, std::size_t alignment) const {
        const std::size_t n = tensor.rows();
        const Tensor::Shape shape{n, n == 0 ? 0 : tensor.bytes.size() / n};
        if (reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % alignment == 0)
            return Tensor::borrow(Scalar::u8, shape, tensor.bytes, owner_);
        auto copy = Tensor::allocate(Scalar::u8, shape);
        if (copy && !tensor.bytes.empty())
            std::memcpy(copy->mutable_bytes().data(), tensor.bytes.data(), tensor.bytes.size());
        return copy;
    }

    [[nodiscard]] Result<QuantizedMatrix> matrix_of(const GgufTensor& tensor) const {
        const std::size_t n = tensor.rows(), k = tensor.row_elements();
        if (tensor.type->blocks) {
            auto bytes = rows_of(tensor, 1);  // blocks may begin anywhere
            if (!bytes) return Unexpected{std::move(bytes).error()};
            return QuantizedMatrix::from_blocks(block_format(*tensor.type->blocks), n, k, *std::move(bytes));
        }
        const std::optional<Scalar> scalar = tensor.type->scalar;
        if (scalar != Scalar::f32 && scalar != Scalar::f16 && scalar != Scalar::bf16)
            return fail(ErrorKind::unsupported, "it is of type ", tensor.type->name,
                        ", which fewbit does not run");
        auto bytes = rows_of(tensor, fewbit::size_bytes(*scalar));
        if (!bytes) return Unexpected{std::move(bytes).error()};
        const Format format = float_format(*scalar);
        auto codes = BitMatrix::from_bytes(n, k, format.bits, *std::move(bytes));
        if (!codes) return Unexpected{std::move(codes).error()};
        return QuantizedMatrix::assemble(format, n, k, *std::move(codes), {}, {}, {});
    }

    /// Gains and biases, as f32.
    [[nodiscard]] static Result<void> vector_of(const GgufTensor& tensor, std::size_t n,
                                                std::vector<float>& out) {
        if (auto fine = check_sizes(tensor, n, 0); !fine) return fine;
        const std::optional<Scalar> scalar = tensor.type->scalar;
        if (scalar != Scalar::f32 && scalar != Scalar::f16 && scalar != Scalar::bf16)
            return fail(ErrorKind::unsupported, "tensor ", in_quotes(tensor.name), " is of type ",
                        tensor.type->name, "; vectors are f32, f16 or bf16");
        out.resize(n);
        for (std::size_t i = 0; i < n; ++i) {
            out[i] = load_float(*scalar, tensor.bytes.data() + i * fewbit::size_bytes(*scalar));
            if (!std::isfinite(out[i]))
                return fail(ErrorKind::bad_input, "tensor ", in_quotes(tensor.name), " holds ", out[i],
                            " at ", i);
        }
        return {};
    }

    const GgufFile& file_;
    std::shared_ptr<const void> owner_;  // of all parts: a tensor does not tell its own
    std::unordered_map<std::string_view, const GgufTensor*> left_;
    ModelFile model_;
};

}  // namespace

Result<ModelFile> read_gguf_model(const GgufFile& file) {
    return detail::without_exceptions([&]() -> Result<ModelFile> {
        auto model = GgufModelReader(file).read();
        if (!model) return Unexpected{model.error().within(text("'", file.source, "'"))};
        return model;
    });
}

Result<ModelFile> read_gguf_model(const std::filesystem::path& path) {
    auto file = open_gguf(path);
    if (!file) return Unexpected{std::move(file).error()};
    return read_gguf_model(*file);
}

}  // namespace fewbit::inline v0::io
