// Truth for models: a Llama-family decoder in double precision, one position after another, nothing clever.
// It shares with model/ only the meaning of a ModelFile.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::testing {

using Doubles = std::vector<double>;

/// y (N) = W x + bias.
[[nodiscard]] inline Doubles naive_product(const io::ModelFile& file, const std::string& name,
                                           const Doubles& x) {
    const QuantizedMatrix& w = file.linears.at(name).weights;
    Doubles y(w.n());
    std::vector<float> row(w.k());
    for (std::size_t n = 0; n < w.n(); ++n) {
        w.dequantize(n, 0, row);
        for (std::size_t k = 0; k < w.k(); ++k) y[n] += static_cast<double>(row[k]) * x[k];
    }
    const std::vector<float>& bias = file.linears.at(name).bias;
    for (std::size_t n = 0; n < bias.size(); ++n) y[n] += static_cast<double>(bias[n]);
    return y;
}

[[nodiscard]] inline Doubles naive_norm(const io::ModelFile& file, const std::string& name,
                                        const Doubles& x) {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double root =
        std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(file.shape.norm_epsilon));
    Doubles y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
        y[i] = x[i] / root * static_cast<double>(file.vectors.at(name)[i]);
    return y;
}

/// Complex multiplication of adjacent pairs of each head.
inline void naive_rotate(const io::ModelShape& s, std::size_t position, Doubles& x) {
    for (std::size_t i = 0; i < x.size(); i += 2) {
        const double frequency =
            1.0 / std::pow(static_cast<double>(s.rope_base),
                           static_cast<double>(i % s.head_dim) / static_cast<double>(s.head_dim));
        const double angle = static_cast<double>(position) * frequency, a = x[i], b = x[i + 1];
        x[i] = a * std::cos(angle) - b * std::sin(angle);
        x[i + 1] = a * std::sin(angle) + b * std::cos(angle);
    }
}

/// Logits (V) after every token.
[[nodiscard]] inline std::vector<Doubles> naive_logits(const io::ModelFile& file,
                                                       std::span<const int> tokens) {
    const io::ModelShape& s = file.shape;
    std::vector<std::vector<Doubles>> keys(s.layers), values(s.layers);  // [layer][position]
    std::vector<Doubles> logits;
    for (std::size_t position = 0; position < tokens.size(); ++position) {
        std::vector<float> embedding(s.dim);
        file.linears.at("model.embed_tokens")
            .weights.dequantize(static_cast<std::size_t>(tokens[position]), 0, embedding);
        Doubles x(embedding.begin(), embedding.end());
        for (std::size_t layer = 0; layer < s.layers; ++layer) {
            const std::string prefix = text("model.layers.", layer, ".");
            const Doubles h = naive_norm(file, prefix + "input_layernorm", x);
            Doubles q = naive_product(file, prefix + "self_attn.q_proj", h);
            keys[layer].push_back(naive_product(file, prefix + "self_attn.k_proj", h));
            values[layer].push_back(naive_product(file, prefix + "self_attn.v_proj", h));
            naive_rotate(s, position, q);
            naive_rotate(s, position, keys[layer].back());
            Doubles attended(s.heads * s.head_dim);
            for (std::size_t head = 0; head < s.heads; ++head) {
                const std::size_t at = head * s.head_dim, kv_at = head / (s.heads / s.kv_heads) * s.head_dim;
                Doubles weights;
                double sum = 0;
                for (std::size_t p = 0; p <= position; ++p) {
                    double score = 0;
                    for (std::size_t i = 0; i < s.head_dim; ++i)
                        score += q[at + i] * keys[layer][p][kv_at + i];
                    weights.push_back(std::exp(score / std::sqrt(static_cast<double>(s.head_dim))));
                    sum += weights.back();
                }
                for (std::size_t p = 0; p <= position; ++p)
                    for (std::size_t i = 0; i < s.head_dim; ++i)
                        attended[at + i] += weights[p] / sum * values[layer][p][kv_at + i];
            }
            const Doubles o = naive_product(file, prefix + "self_attn.o_proj", attended);
            for (std::size_t i = 0; i < s.dim; ++i) x[i] += o[i];
            const Doubles g = naive_norm(file, prefix + "post_attention_layernorm", x);
            Doubles gate = naive_product(file, prefix + "mlp.gate_proj", g);
            const Doubles up = naive_product(file, prefix + "mlp.up_proj", g);
            for (std::size_t i = 0; i < s.hidden; ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
            const Doubles down = naive_product(file, prefix + "mlp.down_proj", gate);
            for (std::size_t i = 0; i < s.dim; ++i) x[i] += down[i];
        }
        logits.push_back(naive_product(file, s.tied_head ? "model.embed_tokens" : "lm_head",
                                       naive_norm(file, "model.norm", x)));
    }
    return logits;
}

}  // namespace fewbit::testing
