// Every format that the library can name, for laws that hold for all of them.
#pragma once

#include <initializer_list>
#include <vector>

#include "fewbit/formats/format.hpp"

namespace fewbit::testing {

/// Every codebook x {tensor, channel, each group} x {f32, f16, bf16, e8m0 where it may be, doubly quantized}, and
/// integers with doubly quantized scales: formats whose grids are not uniform, or whose scales are two.
[[nodiscard]] inline std::vector<Format> codebook_and_dq_formats(std::initializer_list<std::size_t> groups) {
    std::vector<Format> formats;
    const auto add_all = [&](Format format, std::initializer_list<Scalar> scales) {
        for (std::size_t g = 0; g < groups.size() + 2; ++g)
            for (const Scalar scale : scales) {
                format.granularity = g == 0   ? Granularity::tensor
                                     : g == 1 ? Granularity::channel
                                              : Granularity::group;
                if (g >= 2) format.group = groups.begin()[g - 2];
                format.scale = scale;
                if (validate(format)) formats.push_back(format);
            }
    };
    for (const Element element :
         {Element::nf4, Element::e2m1, Element::iq4, Element::fp8_e4m3, Element::fp8_e5m2})
        add_all(codebook_format(element), {Scalar::f32, Scalar::f16, Scalar::bf16, Scalar::e8m0, Scalar::u8});
    for (int bits = min_bits; bits <= max_bits; ++bits)
        for (int kind = 0; kind < 3; ++kind) {
            Format format;
            format.bits = bits;
            format.narrow = kind == 1;
            format.offset = kind == 2 ? Offset::integer : Offset::none;
            add_all(format, {Scalar::u8});
        }
    return formats;
}

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
