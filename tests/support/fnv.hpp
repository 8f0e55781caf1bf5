// FNV-1a, 64 bits: hashes of bytes that tests hold as constants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "fewbit/quantize/quantized.hpp"

namespace fewbit::testing {

struct Fnv {
    std::uint64_t state = 0xCBF29CE484222325u;

    void add(std::span<const std::byte> bytes) {
        for (const std::byte b : bytes) state = (state ^ static_cast<std::uint8_t>(b)) * 0x100000001B3u;
    }
    /// Codes, parameters, and what happens to the input.
    void add(const Quantized& q) {
        const QuantizedMatrix& m = q.linear.weights;
        for (const auto bytes : {m.codes.bytes().bytes(), m.scales.bytes(), m.zeros.bytes().bytes(),
                                 m.offsets.bytes(), m.row_scales.bytes(), m.blocks.bytes()})
            add(bytes);
        add(std::as_bytes(std::span(q.linear.transform.channel_scales)));
        add(std::as_bytes(std::span(q.linear.transform.permutation)));
    }
    [[nodiscard]] std::string hex() const {
        std::string out;
        for (int shift = 60; shift >= 0; shift -= 4) out += "0123456789abcdef"[state >> shift & 15];
        return out;
    }
};

}  // namespace fewbit::testing
