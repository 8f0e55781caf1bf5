// Every format that the library can name, for laws that hold for all of them.
#pragma once

#include <initializer_list>
#include <vector>

#include "fewbit/formats/format.hpp"

namespace fewbit::testing {

/// f32, f16, bf16, and 2..8 bits x {tensor, channel, each group} x {symmetric, narrow, integer, real} x {f32,
/// f16, bf16}.
[[nodiscard]] inline std::vector<Format> all_formats(std::initializer_list<std::size_t> groups) {
    std::vector<Format> formats{float_format(Scalar::f32), float_format(Scalar::f16),
                                float_format(Scalar::bf16)};
    for (int bits = min_bits; bits <= max_bits; ++bits)
        for (std::size_t g = 0; g < groups.size() + 2; ++g)
            for (int offset = 0; offset < 4; ++offset)
                for (const Scalar scale : {Scalar::f32, Scalar::f16, Scalar::bf16}) {
                    Format format;
                    format.bits = bits;
                    format.granularity = g == 0   ? Granularity::tensor
                                         : g == 1 ? Granularity::channel
                                                  : Granularity::group;
                    if (g >= 2) format.group = groups.begin()[g - 2];
                    format.narrow = offset == 1;
                    format.offset = offset == 2 ? Offset::integer : offset == 3 ? Offset::real : Offset::none;
                    format.scale = scale;
                    formats.push_back(format);
                }
    return formats;
}

}  // namespace fewbit::testing
