#include "src/cli/synthetic_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "fewbit/matmul/kernel.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "src/cli/command.hpp"
#include "src/cli/matmul_case.hpp"

namespace fewbit::cli {
namespace {

constexpr std::size_t distinct_rows = 64;

void repeat_rows(const BitMatrix& from, BitMatrix& to) {
    const std::size_t row_bytes = from.rows() == 0 ? 0 : from.bytes().size_bytes() / from.rows();
    for (std::size_t r = 0; r < to.rows(); ++r)
        std::memcpy(to.mutable_row(r), from.row(r % from.rows()), row_bytes);
}

/// Tensors of one row, or none, are copied as they are.
void repeat_rows(const Tensor& from, Tensor& to) {
    const std::size_t bytes = from.size_bytes();
    for (std::size_t at = 0; at < to.size_bytes(); at += bytes)
        std::memcpy(to.mutable_bytes().data() + at, from.bytes().data(),
                    std::min(bytes, to.size_bytes() - at));
}

QuantizedMatrix random_weights(const Format& format, std::size_t n, std::size_t k, ExecutionContext context) {
    Matrix w = random_matrix(std::min(n, distinct_rows), k, 1);
    for (float& value : w.values()) value /= std::sqrt(static_cast<float>(k));
    const QuantizedMatrix few = format.is_float()
                                    ? expect(float_matrix(w.view(), element_scalar(format)))
                                    : expect(quantize_rtn(w, format, {}, context)).linear.weights;
    auto all = expect(QuantizedMatrix::allocate(format, n, k));
    repeat_rows(few.codes, all.codes);
    repeat_rows(few.zeros, all.zeros);
    repeat_rows(few.scales, all.scales);
    repeat_rows(few.offsets, all.offsets);
    repeat_rows(few.row_scales, all.row_scales);
    repeat_rows(few.blocks, all.blocks);
    return all;
}

template <class Visit>
void for_each_matrix(const io::ModelShape& s, Visit&& visit) {
    const std::size_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    for (std::size_t i = 0; i < s.layers; ++i) {
        const std::string prefix = fmt::format("model.layers.{}.", i);
        visit(prefix + "self_attn.q_proj", q, s.dim);
        visit(prefix + "self_attn.k_proj", kv, s.dim);
        visit(prefix + "self_attn.v_proj", kv, s.dim);
        visit(prefix + "self_attn.o_proj", s.dim, q);
        visit(prefix + "mlp.gate_proj", s.hidden, s.dim);
        visit(prefix + "mlp.up_proj", s.hidden, s.dim);
        visit(prefix + "mlp.down_proj", s.dim, s.hidden);
    }
}

}  // namespace

io::ModelFile synthetic_model(const io::ModelShape& shape, const Format& format,
                              const ActivationFormat& activations, ExecutionContext context) {
    io::ModelFile file;
    file.shape = shape;
    file.type = "synthetic";
    const auto kernel = select_kernel({format, activations, 1, shape.dim, shape.dim, Fallback::allow});
    const bool share = kernel && kernel->layout() != Layout::rows;
    std::map<std::pair<std::size_t, std::size_t>, QuantizedMatrix> made;
    const auto matrix = [&](const std::string& name, std::size_t n, std::size_t k) {
        QuantizedMatrix& weights = made[{n, k}];
        if (!share || weights.n() == 0) weights = random_weights(format, n, k, context);
        file.linears[name].weights = weights;
    };
    for_each_matrix(shape, matrix);
    matrix("lm_head", shape.vocabulary, shape.dim);
    file.linears["model.embed_tokens"] = file.linears["lm_head"];  // one row of it is read per token

    const std::vector<float> ones(shape.dim, 1.0f);
    file.vectors["model.norm"] = ones;
    for (std::size_t i = 0; i < shape.layers; ++i)
        for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
            file.vectors[fmt::format("model.layers.{}.{}", i, norm)] = ones;
    return file;
}

LinearElements linear_elements(const io::ModelShape& shape) {
    LinearElements elements;
    for_each_matrix(shape, [&](const std::string&, std::size_t n, std::size_t k) {
        elements.layers += static_cast<double>(n) * static_cast<double>(k);
    });
    elements.head = static_cast<double>(shape.vocabulary) * static_cast<double>(shape.dim);
    return elements;
}

}  // namespace fewbit::cli
