// Not installed: the header of llama2.c files, read before anything else.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string>

#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::io {

struct Llama2cHeader {
    ModelShape shape;
    int version = 0;
    std::size_t group = 0;  ///< v2
    std::size_t bytes = 0;  ///< of the header: where the tensors begin
};

/// The value at `offset`, at any alignment.
template <class T>
[[nodiscard]] T load_at(std::span<const std::byte> bytes, std::size_t offset) noexcept {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

/// Error: a file shorter than its header, an unknown version, a field that cannot be right.
[[nodiscard]] Result<Llama2cHeader> read_llama2c_header(std::span<const std::byte> bytes,
                                                        const std::string& source);

}  // namespace fewbit::inline v0::io
