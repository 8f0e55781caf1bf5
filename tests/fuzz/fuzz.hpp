// What the fuzz targets share: libFuzzer's bytes as a span that ends where they end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fewbit::testing {

inline std::span<const std::byte> fuzz_bytes(const std::uint8_t* data, std::size_t size) {
    return std::as_bytes(std::span(data, size));
}

/// Reads every byte, so that a span that reaches too far is found out.
inline std::size_t touched(std::span<const std::byte> bytes) {
    std::size_t sum = 0;
    for (const std::byte byte : bytes) sum += static_cast<std::size_t>(byte);
    return sum;
}

}  // namespace fewbit::testing
