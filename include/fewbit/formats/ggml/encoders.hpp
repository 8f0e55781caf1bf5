// The builds of the row encoder: the same bytes from each, at different speeds.
#pragma once

#include <span>
#include <string_view>

#include "fewbit/core/config.hpp"
#include "fewbit/formats/ggml/types.hpp"

namespace fewbit::inline v0::ggml {

struct Encoder {
    std::string_view name;  ///< "scalar", "generic", or an instruction set
    std::size_t lanes;      ///< groups that are searched side by side
    /// As encode_row.
    void (*encode_row)(BlockType type, std::span<const float> x, std::span<const float> importance,
                       std::span<std::uint8_t> out) noexcept;
};

/// Those of this build that this CPU can run, slowest first; encode_row is the last one. (fewbit::headers
/// has one build and not this list.)
[[nodiscard]] FEWBIT_API std::span<const Encoder> encoders() noexcept;

}  // namespace fewbit::inline v0::ggml
