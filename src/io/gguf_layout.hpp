// What the reader and the writer of GGUF files agree on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "fewbit/core/checked.hpp"
#include "fewbit/io/gguf.hpp"

namespace fewbit::inline v0::io::detail {

inline constexpr std::uint32_t gguf_magic = 0x46554747;  // "GGUF"
inline constexpr std::uint32_t gguf_version = 3;
inline constexpr std::size_t gguf_header_bytes = 24;
inline constexpr std::string_view alignment_key = "general.alignment";

/// Bytes of a value of this kind; 0 for texts and arrays, whose sizes stand in the file.
[[nodiscard]] std::size_t size_bytes(GgufKind kind) noexcept;

/// Bytes of a tensor; why not, where its rows do not fill blocks or the size overflows.
[[nodiscard]] Result<std::size_t> gguf_tensor_bytes(const GgufTensorType& type,
                                                    std::span<const std::size_t> sizes);

/// The alignment that metadata asks for. Error: no u32, no power of two, too large.
[[nodiscard]] Result<std::size_t> gguf_alignment(const GgufMetadata& metadata);

}  // namespace fewbit::inline v0::io::detail
