// The layers of a block by their places in model::DecoderBlock::layers(), which are in order of execution.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::pipeline {

inline constexpr std::array<const char*, 7> block_layers{
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

/// First and past-the-last place of layers that read the same input.
inline constexpr std::array<std::pair<std::size_t, std::size_t>, 4> block_stages{
    {{0, 3}, {3, 4}, {4, 6}, {6, 7}}};

/// "model.layers.<block>.self_attn.q_proj"
[[nodiscard]] inline std::string block_layer(std::size_t block, std::size_t place) {
    return text("model.layers.", block, ".", block_layers[place]);
}

}  // namespace fewbit::inline v0::pipeline
