// A GGUF file in memory, made by hand from a small model: what the reader of models is tried with.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/io/gguf.hpp"
#include "support/toy_model.hpp"

namespace fewbit::testing {

/// An architecture "llama" of f32 whose parts tests replace at will.
struct ToyGguf {
    io::GgufFile file;

    void set(const std::string& key, io::GgufValue value) {
        drop(key);
        file.metadata.emplace_back(key, std::move(value));
    }
    void drop(const std::string& key) {
        std::erase_if(file.metadata, [&](const auto& pair) { return pair.first == key; });
    }
    void drop_tensor(const std::string& name) {
        std::erase_if(file.tensors, [&](const io::GgufTensor& tensor) { return tensor.name == name; });
    }
    /// `bytes` lie where a page begins, or `offset` bytes behind.
    void add(const std::string& name, std::string_view type, std::vector<std::size_t> sizes,
             const std::vector<std::byte>& bytes, std::size_t offset = 0) {
        const auto storage = std::make_shared<std::vector<std::byte>>(offset);
        storage->insert(storage->end(), bytes.begin(), bytes.end());
        drop_tensor(name);
        file.tensors.push_back({name, io::gguf_tensor_type(type), std::move(sizes),
                                std::span<const std::byte>(*storage).subspan(offset)});
        file.owners.push_back(storage);
    }
    void add_floats(const std::string& name, std::vector<std::size_t> sizes,
                    const std::vector<float>& values) {
        const auto bytes = std::as_bytes(std::span(values));
        add(name, "f32", std::move(sizes), {bytes.begin(), bytes.end()});
    }
};

/// Names and keys as the format's description has them, written out here once more.
[[nodiscard]] inline ToyGguf toy_gguf(const io::ModelFile& model) {
    ToyGguf toy;
    const io::ModelShape& s = model.shape;
    const auto u32 = [&](const char* key, std::size_t value) {
        toy.set(key, io::GgufValue::of_u32(static_cast<std::uint32_t>(value)));
    };
    toy.file.source = "toy.gguf";
    toy.set("general.architecture", io::GgufValue::of_text("llama"));
    u32("llama.context_length", s.context);
    u32("llama.embedding_length", s.dim);
    u32("llama.block_count", s.layers);
    u32("llama.feed_forward_length", s.hidden);
    u32("llama.attention.head_count", s.heads);
    u32("llama.attention.head_count_kv", s.kv_heads);
    if (s.heads * s.head_dim != s.dim) {
        u32("llama.attention.key_length", s.head_dim);
        u32("llama.attention.value_length", s.head_dim);
    }
    toy.set("llama.attention.layer_norm_rms_epsilon", io::GgufValue::of_f32(s.norm_epsilon));
    toy.set("llama.rope.freq_base", io::GgufValue::of_f32(s.rope_base));

    const auto matrix = [&](const std::string& name, const std::string& layer) {
        const QuantizedMatrix& w = model.linears.at(layer).weights;
        std::vector<float> values(w.n() * w.k());
        for (std::size_t r = 0; r < w.n(); ++r)
            w.dequantize(r, 0, std::span(values).subspan(r * w.k(), w.k()));
        toy.add_floats(name + ".weight", {w.k(), w.n()}, values);
    };
    const auto vector = [&](const std::string& name, const std::string& layer) {
        toy.add_floats(name + ".weight", {s.dim}, model.vectors.at(layer));
    };
    matrix("token_embd", "model.embed_tokens");
    vector("output_norm", "model.norm");
    if (!s.tied_head) matrix("output", "lm_head");
    for (std::size_t i = 0; i < s.layers; ++i) {
        const std::string here = text("blk.", i, "."), there = text("model.layers.", i, ".");
        vector(here + "attn_norm", there + "input_layernorm");
        vector(here + "ffn_norm", there + "post_attention_layernorm");
        matrix(here + "attn_q", there + "self_attn.q_proj");
        matrix(here + "attn_k", there + "self_attn.k_proj");
        matrix(here + "attn_v", there + "self_attn.v_proj");
        matrix(here + "attn_output", there + "self_attn.o_proj");
        matrix(here + "ffn_gate", there + "mlp.gate_proj");
        matrix(here + "ffn_up", there + "mlp.up_proj");
        matrix(here + "ffn_down", there + "mlp.down_proj");
    }
    return toy;
}

/// A SentencePiece vocabulary of `tokens` (three specials, then letters and words) as arrays of metadata.
inline void add_tokenizer(ToyGguf& toy, const std::vector<std::string>& tokens) {
    std::vector<float> scores;
    std::vector<std::int32_t> types;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        scores.push_back(i < 3 ? 0.0f : -static_cast<float>(i));
        types.push_back(i == 0 ? 2 : i < 3 ? 3 : tokens[i].starts_with("<0x") ? 6 : 1);
    }
    toy.set("tokenizer.ggml.model", io::GgufValue::of_text("llama"));
    toy.set("tokenizer.ggml.tokens", io::GgufValue::of_texts(tokens));
    toy.set("tokenizer.ggml.scores", io::GgufValue::of_floats(scores));
    toy.set("tokenizer.ggml.token_type", io::GgufValue::of_integers(types));
}

}  // namespace fewbit::testing
