// The embedded model: models/embedded/model.safetensors, linked into the program.
#pragma once

#include <cstddef>
#include <span>

namespace fewbit::cli {

/// The file's bytes, aligned to 64; none in a build that carries no model. They live as long as the program.
[[nodiscard]] std::span<const std::byte> embedded_model() noexcept;

}  // namespace fewbit::cli
