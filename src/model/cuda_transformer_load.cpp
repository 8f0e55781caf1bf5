// Making a CudaTransformer out of a ModelFile: everything is checked, packed and copied here.
#include <cmath>
#include <limits>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/cuda/quantize.hpp"
#include "fewbit/cuda/selection.hpp"
#include "fewbit/formats/format_name.hpp"
#include "src/model/check_call.hpp"
#include "src/model/cuda_parts.hpp"
#include "src/model/find_parts.hpp"

namespace fewbit::inline v0::model {
namespace {

const std::string embedding_name = "model.embed_tokens";

Result<Tensor> vector_on_device(const std::vector<float>& values) {
    const std::size_t n = values.size();
    auto host = Tensor::allocate(Scalar::f32, {n == 0 ? 0 : std::size_t{1}, n});
    if (!host) return host;
    std::ranges::copy(values, host->as_mutable<float>().begin());
    return cuda::to_device(*host);
}

/// The matrix that a layer multiplies x with, in numbers of `type`. Error: one that f16 cannot hold.
Result<Tensor> floats_on_device(const Linear& linear, Scalar type, bool& rounded) {
    auto host = Tensor::allocate(type, {linear.n(), linear.k()});
    if (!host) return host;
    std::vector<float> row(linear.k());
    auto* to = reinterpret_cast<std::uint16_t*>(host->mutable_bytes().data());
    for (std::size_t r = 0; r < linear.n(); ++r) {
        dequantize_row(linear, r, row);
        for (const float value : row) {
            store_float(type, value, reinterpret_cast<std::byte*>(to));
            const float held = load_float(type, reinterpret_cast<const std::byte*>(to++));
            rounded = rounded || !(held == value);
            if (std::isfinite(value) && !std::isfinite(held))
                return fail(ErrorKind::unsupported, "row ", r, " has a weight of ", value, ", beyond what ",
                            name(type), " holds; bf16 activations take weights of bf16");
        }
    }
    return cuda::to_device(*host);
}

/// Why no kernel of ours multiplies a matrix; empty: one does.
std::string refusal(const Linear& linear, Scalar activations) {
    const Format& format = linear.weights.format();
    if (format.is_float()) return {};
    if (linear.transform.reorders_or_scales()) return "its input is permuted or scaled";
    if (!linear.columns.empty()) return "some of its columns are floats";
    return cuda::kernel_refuses(format, activations);
}

class Loader {
public:
    Loader(const io::ModelFile& file, const CudaModelOptions& options, ExecutionContext context)
        : file_(file), options_(options), context_(context) {}

    Result<CudaLayer> layer(const std::string& name, const std::string& source, std::size_t n,
                            std::size_t k) const {
        const auto found = find_linear(file_, source, n, k);
        if (!found) return Unexpected{found.error()};
        auto made = make(name, **found, /*only_rows=*/false);
        if (!made) return Unexpected{std::move(made).error().within(name)};
        return made;
    }

    /// Rows of an embedding are looked up, not multiplied: floats serve as well.
    Result<CudaLayer> embedding(std::size_t n, std::size_t k) const {
        const auto found = find_linear(file_, embedding_name, n, k);
        if (!found) return Unexpected{found.error()};
        const Linear& linear = **found;
        if (!linear.transform.empty() || !linear.columns.empty() || !linear.bias.empty())
            return fail(ErrorKind::unsupported, "'", embedding_name,
                        "' has an input transform, float columns or a bias; rows of an embedding cannot");
        auto made = make(embedding_name, linear, /*only_rows=*/true);
        if (!made) return Unexpected{std::move(made).error().within(embedding_name)};
        return made;
    }

    Result<Tensor> vector(const std::string& name) const {
        const auto values = find_vector(file_, name, file_.shape.dim);
        if (!values) return Unexpected{values.error()};
        return vector_on_device(*values);
    }

    Result<CudaBlock> block(std::size_t index) const {
        const io::ModelShape& s = file_.shape;
        const std::size_t q_dim = s.heads * s.head_dim, kv_dim = s.kv_heads * s.head_dim;
        const std::string prefix = text("model.layers.", index, ".");
        CudaBlock out;
        const std::pair<Tensor*, const char*> norms[] = {{&out.attention_norm, "input_layernorm"},
                                                         {&out.mlp_norm, "post_attention_layernorm"}};
        for (const auto& [to, name] : norms) {
            auto made = vector(prefix + name);
            if (!made) return Unexpected{std::move(made).error()};
            *to = *std::move(made);
        }
        struct Row {
            CudaLayer* to;
            const char* name;
            std::size_t n, k;
        };
        const Row rows[] = {
            {&out.q, "self_attn.q_proj", q_dim, s.dim},    {&out.k, "self_attn.k_proj", kv_dim, s.dim},
            {&out.v, "self_attn.v_proj", kv_dim, s.dim},   {&out.o, "self_attn.o_proj", s.dim, q_dim},
            {&out.gate, "mlp.gate_proj", s.hidden, s.dim}, {&out.up, "mlp.up_proj", s.hidden, s.dim},
            {&out.down, "mlp.down_proj", s.dim, s.hidden}};
        for (const Row& row : rows) {
            auto made = layer(prefix + row.name, prefix + row.name, row.n, row.k);
            if (!made) return Unexpected{std::move(made).error()};
            *row.to = *std::move(made);
        }
        return out;
    }

private:
    Result<CudaLayer> make(const std::string& name, const Linear& linear, bool only_rows) const {
        CudaLayer out;
        out.name = name;
        if (auto valid = validate(linear); !valid) return Unexpected{std::move(valid).error()};
        if (linear.transform.hadamard != 0)
            return fail(ErrorKind::no_kernel, "its input is rotated, which no CUDA kernel does");
        const Format& format = linear.weights.format();
        const std::string why = refusal(linear, options_.activations);
        if (!format.is_float() && why.empty()) {
            auto weights = cuda::pack(linear.weights, context_);
            if (!weights) return Unexpected{std::move(weights).error()};
            auto product = cuda::Product::create(*weights, options_.activations, options_.chunk_positions);
            if (!product) return Unexpected{std::move(product).error()};
            out.product = *std::move(product);
            out.weights = out.product->weights().format;
            const double held = 8 * static_cast<double>(weights->size_bytes()) /
                                static_cast<double>(linear.n() * linear.k()),
                         stored = bits_per_weight(format, linear.n(), linear.k());
            if (held > 1.1 * stored && out.weights.bits != format.bits)
                out.note = text(fewbit::name(format), " is held as ", fewbit::name(out.weights),
                                ", the same values, in wider fields");
            else if (held > 1.1 * stored && format.is_block())
                out.note = text(fewbit::name(format), " is held as ", fewbit::name(out.weights),
                                ", the same values, with longer scales");
        } else {
            if (!why.empty() && !only_rows && options_.fallback == Fallback::refuse)
                return fail(ErrorKind::fallback_refused, "no CUDA kernel multiplies ", fewbit::name(format),
                            " here: ", why, "; only as a matrix of ", fewbit::name(options_.activations),
                            ", which Fallback::allow lets it become");
            bool rounded = false;
            auto floats = floats_on_device(linear, options_.activations, rounded);
            if (!floats) return Unexpected{std::move(floats).error()};
            out.floats = *std::move(floats);
            out.weights = float_format(options_.activations);
            if (rounded)
                out.note = text("weights of ", fewbit::name(format), " are rounded to ",
                                fewbit::name(options_.activations));
            if (!only_rows && !why.empty())
                out.fallback_reason = text(fewbit::name(format), " became floats: ", why);
        }
        auto bias = vector_on_device(linear.bias);
        if (!bias) return Unexpected{std::move(bias).error()};
        out.bias = *std::move(bias);
        return out;
    }

    const io::ModelFile& file_;
    const CudaModelOptions& options_;
    ExecutionContext context_;
};

}  // namespace

CudaTransformer::CudaTransformer(std::shared_ptr<const Parts> parts) noexcept : parts_(std::move(parts)) {}
const io::ModelShape& CudaTransformer::shape() const noexcept { return parts_->shape; }
const CudaModelOptions& CudaTransformer::options() const noexcept { return parts_->options; }

Result<CudaTransformer> CudaTransformer::create(const io::ModelFile& file, const CudaModelOptions& options,
                                                ExecutionContext context) {
    const io::ModelShape& s = file.shape;
    if (auto valid = check_shape(s); !valid) return Unexpected{std::move(valid).error()};
    if (options.activations != Scalar::f16 && options.activations != Scalar::bf16)
        return fail(ErrorKind::no_kernel, "no CUDA kernel takes activations of ", name(options.activations),
                    "; there are f16 and bf16");
    if (auto device = cuda::current_device(); !device) return Unexpected{std::move(device).error()};
    auto parts = std::make_shared<Parts>();
    parts->shape = s;
    parts->options = options;
    parts->options.chunk_positions = std::max<std::size_t>(1, std::min(options.chunk_positions, s.context));
    const Loader loader(file, parts->options, context);

    auto embedding = loader.embedding(s.vocabulary, s.dim);
    if (!embedding) return Unexpected{std::move(embedding).error()};
    parts->embedding = *std::move(embedding);
    auto norm = loader.vector("model.norm");
    if (!norm) return Unexpected{std::move(norm).error()};
    parts->norm = *std::move(norm);
    if (s.tied_head && refusal(file.linears.at(embedding_name), options.activations).empty()) {
        parts->head = parts->embedding;  // the same bytes
        parts->head.name = "lm_head";
    } else {
        auto head = loader.layer("lm_head", s.tied_head ? embedding_name : "lm_head", s.vocabulary, s.dim);
        if (!head) return Unexpected{std::move(head).error()};
        parts->head = *std::move(head);
    }
    for (std::size_t i = 0; i < s.layers; ++i) {
        auto block = loader.block(i);
        if (!block) return Unexpected{std::move(block).error()};
        parts->blocks.push_back(*std::move(block));
    }
    return CudaTransformer(std::move(parts));
}

std::vector<CudaKernelUse> CudaTransformer::kernels() const {
    std::vector<CudaKernelUse> uses;
    const Scalar activations = options().activations;
    parts_->for_each_layer([&](const CudaLayer& layer) {
        const std::string_view kernel = layer.product ? layer.product->kernel(1)
                                                      : cuda::FloatProducts::kernel(activations),
                               prompt =
                                   layer.product ? layer.product->kernel(options().chunk_positions) : kernel;
        for (CudaKernelUse& use : uses)
            if (use.kernel == kernel && use.weights == layer.weights && use.note == layer.note &&
                use.fallback_reason == layer.fallback_reason)
                return use.layers.push_back(layer.name);
        uses.push_back(
            {kernel, prompt, layer.weights, activations, layer.note, layer.fallback_reason, {layer.name}});
    });
    return uses;
}

std::size_t CudaTransformer::bytes_per_token() const noexcept {
    const CudaLayer& embedding = parts_->embedding;
    std::size_t bytes = embedding.size_bytes() / std::max<std::size_t>(1, shape().vocabulary);
    parts_->for_each_layer([&](const CudaLayer& layer) { bytes += layer.size_bytes(); });
    return bytes;
}

}  // namespace fewbit::inline v0::model
