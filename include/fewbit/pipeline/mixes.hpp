// Mixes of ggml's types, as llama.cpp publishes them: q4_k_m and the like give most matrices one type and those
// that lose most by it a larger one.
//
// The rules look at names of GGUF ("blk.3.attn_v.weight"), at a matrix' place among those of its kind, and at K:
// where it is no multiple of a type's block, a type of smaller blocks takes its place. llama.cpp calls q2_k_m
// just Q2_K, which here means q2_k for all.
// Source: llama.cpp's llama_tensor_get_type (src/llama-quant.cpp), restated; falcon's exceptions are left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/formats/format.hpp"

namespace fewbit::inline v0::pipeline {

struct Mix {
    std::string_view name;  ///< "q4_k_m"
    ggml::BlockType base;
    std::uint32_t file_type;  ///< general.file_type in GGUF
};

/// q2_k_s, q2_k_m, q3_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, q5_k_s, q5_k_m.
[[nodiscard]] FEWBIT_API std::span<const Mix> mixes() noexcept;
/// Null for other names.
[[nodiscard]] FEWBIT_API const Mix* find_mix(std::string_view name) noexcept;

/// What the rules ask about a model.
struct MixModel {
    std::size_t layers = 0;
    std::size_t heads = 0;     ///< query heads
    std::size_t kv_heads = 0;  ///< 0: as many
    std::size_t experts = 0;
};

struct MixTensor {
    std::string name;            ///< in GGUF
    std::size_t k = 0;           ///< input channels
    std::size_t dimensions = 2;  ///< without trailing ones
};

/// Whether a tensor is a matrix of weights that mixes and formats may change: two dimensions or more and a name
/// that ends in ".weight", but no norm, router, positional embedding or convolution.
[[nodiscard]] FEWBIT_API bool is_quantizable(const MixTensor& tensor) noexcept;

struct MixChoice {
    Format format;
    std::string why;  ///< "q4_k_m", "q4_k_m: output", "q4_k_m: K = 172"
};

/// A choice for every tensor, in their order; those that are not quantizable have an empty `why` and stay.
[[nodiscard]] FEWBIT_API std::vector<MixChoice> choose_formats(const Mix& mix, const MixModel& model,
                                                               std::span<const MixTensor> tensors);

}  // namespace fewbit::inline v0::pipeline
