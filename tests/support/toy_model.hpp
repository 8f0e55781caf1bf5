// Small models with random weights, and llama2.c files of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/io/model_file.hpp"
#include "support/random.hpp"

namespace fewbit::testing {

/// A shape of `heads` query heads over `kv_heads`; dim = heads * head_dim.
[[nodiscard]] inline io::ModelShape toy_shape(std::size_t heads, std::size_t kv_heads, std::size_t head_dim,
                                              std::size_t hidden, std::size_t layers, std::size_t vocabulary,
                                              std::size_t context, bool tied) {
    io::ModelShape s;
    s.dim = heads * head_dim;
    s.hidden = hidden;
    s.layers = layers;
    s.heads = heads;
    s.kv_heads = kv_heads;
    s.head_dim = head_dim;
    s.vocabulary = vocabulary;
    s.context = context;
    s.tied_head = tied;
    return s;
}

/// Gaussian f32 weights of variance 1 / K, gains around 1, with the names of io/model_file.hpp.
[[nodiscard]] inline io::ModelFile toy_model(const io::ModelShape& s, std::uint64_t seed) {
    io::ModelFile file;
    file.shape = s;
    file.type = "toy";
    std::uint64_t stream = seed * 1000;
    const auto matrix = [&](const std::string& name, std::size_t n, std::size_t k) {
        const Matrix values = gaussian_matrix(
            n, k, ++stream, name == "model.embed_tokens" ? 1.0 : 1.0 / std::sqrt(static_cast<double>(k)));
        file.linears[name].weights = *float_matrix(values.view());
    };
    const auto vector = [&](const std::string& name) {
        Random random(++stream);
        std::vector<float> values(s.dim);
        for (float& value : values) value = static_cast<float>(random.uniform(0.7, 1.3));
        file.vectors[name] = values;
    };
    matrix("model.embed_tokens", s.vocabulary, s.dim);
    if (!s.tied_head) matrix("lm_head", s.vocabulary, s.dim);
    vector("model.norm");
    const std::size_t q_dim = s.heads * s.head_dim, kv_dim = s.kv_heads * s.head_dim;
    for (std::size_t i = 0; i < s.layers; ++i) {
        const std::string prefix = text("model.layers.", i, ".");
        vector(prefix + "input_layernorm");
        vector(prefix + "post_attention_layernorm");
        matrix(prefix + "self_attn.q_proj", q_dim, s.dim);
        matrix(prefix + "self_attn.k_proj", kv_dim, s.dim);
        matrix(prefix + "self_attn.v_proj", kv_dim, s.dim);
        matrix(prefix + "self_attn.o_proj", s.dim, q_dim);
        matrix(prefix + "mlp.gate_proj", s.hidden, s.dim);
        matrix(prefix + "mlp.up_proj", s.hidden, s.dim);
        matrix(prefix + "mlp.down_proj", s.dim, s.hidden);
    }
    return file;
}

/// A model of f32 weights as a llama2.c file of version 0, 1 or 2 (int8 in groups of `group`).
[[nodiscard]] inline std::vector<std::byte> llama2c_bytes(const io::ModelFile& file, int version,
                                                          std::size_t group = 8) {
    std::vector<std::byte> out;
    const auto put = [&](const auto& value) {
        const auto* bytes = reinterpret_cast<const std::byte*>(&value);
        out.insert(out.end(), bytes, bytes + sizeof value);
    };
    const io::ModelShape& s = file.shape;
    if (version != 0) put(std::uint32_t{0x616B3432}), put(std::int32_t{version});
    const auto sign = version == 0 && !s.tied_head ? -1 : 1;
    for (const std::size_t field : {s.dim, s.hidden, s.layers, s.heads, s.kv_heads})
        put(static_cast<std::int32_t>(field));
    put(static_cast<std::int32_t>(s.vocabulary) * sign);
    put(static_cast<std::int32_t>(s.context));
    if (version != 0) put(static_cast<std::uint8_t>(s.tied_head));
    if (version == 2) put(static_cast<std::int32_t>(group));
    if (version != 0) out.resize(256);

    const auto vector = [&](const std::string& name) {
        for (const float value : file.vectors.at(name)) put(value);
    };
    const auto matrix = [&](const std::string& name) {
        const QuantizedMatrix& w = file.linears.at(name).weights;
        std::vector<float> values(w.n() * w.k());
        for (std::size_t r = 0; r < w.n(); ++r)
            w.dequantize(r, 0, std::span(values).subspan(r * w.k(), w.k()));
        if (version != 2) {
            for (const float value : values) put(value);
            return;
        }
        std::vector<float> scales;
        for (std::size_t begin = 0; begin < values.size(); begin += group) {
            float largest = 0;
            for (std::size_t i = begin; i < begin + group; ++i)
                largest = std::max(largest, std::fabs(values[i]));
            scales.push_back(largest / 127.0f);
            for (std::size_t i = begin; i < begin + group; ++i)
                put(static_cast<std::int8_t>(
                    std::clamp(std::nearbyint(values[i] / scales.back()), -127.0f, 127.0f)));
        }
        for (const float scale : scales) put(scale);
    };
    const auto layers = [&](const char* name, auto&& one) {
        for (std::size_t i = 0; i < s.layers; ++i) one(text("model.layers.", i, ".", name));
    };
    if (version != 0) {
        layers("input_layernorm", vector);
        layers("post_attention_layernorm", vector);
        vector("model.norm");
    }
    matrix("model.embed_tokens");
    if (version == 0) layers("input_layernorm", vector);
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"})
        layers(name, matrix);
    if (version == 0) layers("post_attention_layernorm", vector);
    for (const char* name : {"mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"}) layers(name, matrix);
    if (version == 0) {
        vector("model.norm");
        out.resize(out.size() +
                   s.context * s.head_dim * sizeof(float));  // cosines and sines that nobody reads
    }
    if (!s.tied_head) matrix("lm_head");
    return out;
}

}  // namespace fewbit::testing
