// What the reader and the writer of safetensors files agree on.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "fewbit/core/checked.hpp"
#include "fewbit/io/safetensors.hpp"

namespace fewbit::inline v0::io::detail {

inline constexpr std::size_t safetensors_prefix_bytes = 8;  // the u64 before the header
inline constexpr std::string_view metadata_key = "__metadata__";

[[nodiscard]] std::optional<SafetensorsType> parse_safetensors_type(std::string_view name) noexcept;

/// Bits of a tensor. Nothing on overflow, which a zero among the extents does not hide.
[[nodiscard]] inline std::optional<std::size_t> tensor_bits(SafetensorsType type,
                                                            std::span<const std::size_t> shape) noexcept {
    return checked_product(shape, bits(type));
}

}  // namespace fewbit::inline v0::io::detail
