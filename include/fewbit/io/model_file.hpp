// ModelFile: what a model file holds, whatever its type: a shape and named layers. Readers make it, writers
// take it, quantization maps it layer by layer, and model/ builds a transformer from it.
//
// Names are Hugging Face's module names, without ".weight":
//   model.embed_tokens (V, dim)   model.norm (dim)   lm_head (V, dim), absent when tied to the embedding
//   model.layers.I.{input_layernorm, post_attention_layernorm} (dim)
//   model.layers.I.self_attn.{q_proj (heads * head_dim, dim), k_proj, v_proj (kv_heads * head_dim, dim),
//   o_proj} model.layers.I.mlp.{gate_proj, up_proj (hidden, dim), down_proj (dim, hidden)}
// Rows of q_proj and k_proj are in the order of adjacent rotary pairs (2i, 2i+1); readers of files with
// half-split pairs (i, i + head_dim/2) permute them, writers permute back.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "fewbit/formats/linear.hpp"

namespace fewbit::inline v0::io {

/// Shape of a Llama-family decoder.
struct ModelShape {
    std::size_t dim = 0;     ///< embedding length
    std::size_t hidden = 0;  ///< feed-forward length
    std::size_t layers = 0;
    std::size_t heads = 0;     ///< query heads
    std::size_t kv_heads = 0;  ///< divides heads
    std::size_t head_dim = 0;  ///< even; dim / heads unless a file says otherwise
    std::size_t vocabulary = 0;
    std::size_t context = 0;  ///< longest sequence
    float rope_base = 10000.0f;
    float norm_epsilon = 1e-5f;
    bool tied_head = false;  ///< the output matrix is the embedding

    friend bool operator==(const ModelShape&, const ModelShape&) = default;
};

struct ModelFile {
    ModelShape shape;
    std::map<std::string, Linear> linears;              ///< matrices: projections, embedding, head
    std::map<std::string, std::vector<float>> vectors;  ///< norm gains
    std::map<std::string, std::string> metadata;        ///< where it came from, how it was quantized
    std::string type;                                   ///< "llama2.c v0", "safetensors", for messages
};

}  // namespace fewbit::inline v0::io
