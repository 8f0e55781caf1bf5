// Matrices of random codes, for timing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fewbit/formats/quantized_matrix.hpp"
#include "gpu/gpu_support.hpp"

namespace fewbit::testing {

/// Numbers of variance `deviation`^2 or so. Format: integer codes or a table, a scale for each group.
[[nodiscard]] inline QuantizedMatrix random_codes(const Format& format, std::size_t n, std::size_t k,
                                                  float deviation) {
    QuantizedMatrix w = must(QuantizedMatrix::allocate(format, n, k), "a matrix");
    std::uint64_t state = n * 31 + k;
    const auto draw = [&state] {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return static_cast<std::uint32_t>(state >> 33);
    };
    // Codes are uniform: their deviation is the range / sqrt(12), of tables about half of the largest number, of e4m3 103.
    const bool fp8 = format.element == Element::fp8_e4m3;
    const float range = fp8 ? 356.0f : format.is_codebook() ? 2.0f : static_cast<float>(format.max_code());
    const float scale = deviation * 3.46f / range;
    std::vector<std::uint8_t> row(k);
    for (std::size_t r = 0; r < n; ++r) {
        for (std::uint8_t& code : row) do
                code = static_cast<std::uint8_t>(draw() & static_cast<std::uint32_t>(format.max_code()));
            while (fp8 && (code & 0x7F) == 0x7F);  // NaN
        w.codes.pack_row(r, row);
        for (std::size_t g = 0; g < w.groups_per_row(); ++g)
            w.set_scale(r, g, scale * (0.75f + 0.0078125f * static_cast<float>(draw() % 64)));
    }
    return w;
}

}  // namespace fewbit::testing
