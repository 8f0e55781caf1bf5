// int8 activations times tile16, as kernel files export it: straight from the stream (int8_streams.hpp), or, of many rows on
// registers that are too few for it, through panels (int8_panels.hpp, int8_words.hpp).
#pragma once

#include "kernels/tile16/int8_panels.hpp"
#include "kernels/tile16/int8_streams.hpp"
#include "kernels/tile16/int8_words.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Whether each group of activations is some of the weights, and upper scales stay the same for all of it. (Scales of f32
/// could leave the range of f32 before those of the activations bring them back.)
inline bool nests_groups(const KernelCall& call) {
    const std::size_t w = call.w.group_elements, x = call.x.group_elements, super = call.w.super_groups * w;
    if (x <= w || x % w != 0 || call.w.per_tensor || call.w.scale != Scalar::f16) return false;
    return super == 0 || (super % x == 0 && x / w % 2 == 0);
}

/// Whether groups of x are left to their end, as tiles straight from the stream of `Lanes` can.
template <class Lanes>
bool is_nested(const KernelCall& call) {
    if (call.x.groups == 1 || (call.w.groups == 1 && !call.w.has_offsets) || !nests_groups(call))
        return false;
    if constexpr (Lanes::scales_ints)
        return call.w.super_groups != 0 && !call.w.has_zeros &&
               (call.w.group_elements == 16 || call.w.group_elements == 32) &&
               call.x.m <= static_cast<std::size_t>(Lanes::few_rows_two_levels);
    return Lanes::nests;
}

/// Whether all rows of the call run straight from the stream.
template <class Lanes>
bool runs_from_stream(const KernelCall& call) {
    return is_few<Lanes>(call) || is_nested<typename Lanes::Few>(call);
}

/// use.operator()<Lanes>() with those that do so.
template <class Lanes>
auto with_stream_lanes(const KernelCall& call, auto&& use) {
    using Few = typename Lanes::Few;
    if constexpr (requires { typename Few::Several; })
        if (!is_few<Few>(call)) return use.template operator()<typename Few::Several>();
    return use.template operator()<Few>();
}

template <class Lanes, template <class> class FieldOf>
void int8_products(const KernelCall& call, const Rectangle& part, std::byte* memory) {
    using Few = typename Lanes::Few;
    const bool one_x = call.x.groups == 1, one_w = call.w.groups == 1 && !call.w.has_offsets;
    const Scaling how = one_x                  ? Scaling::weights
                        : one_w                ? Scaling::activations
                        : is_nested<Few>(call) ? Scaling::nested
                                               : Scaling::both;
    if constexpr (Lanes::few_rows != all_rows)
        if (!runs_from_stream<Lanes>(call)) {
            if constexpr (multiplies_words<Lanes>)
                return multiply_words<Lanes>(call, FieldOf<Lanes>(call.w), how, part, memory);
            else
                return multiply_panels<Lanes>(call, FieldOf<Lanes>(call.w), how, part, memory);
        }
    with_stream_lanes<Lanes>(call, [&]<class Stream>() {
        multiply_streams<Stream>(call, FieldOf<Stream>(call.w), how, part, memory);
    });
}

template <class Lanes>
std::size_t int8_scratch_bytes(const KernelCall& call) noexcept {
    if constexpr (Lanes::few_rows != all_rows)
        if (!runs_from_stream<Lanes>(call)) {
            if constexpr (multiplies_words<Lanes>)
                return WordsScratch<Lanes>(call, nullptr).bytes;
            else
                return PanelScratch<Lanes>(call, nullptr).bytes;
        }
    return with_stream_lanes<Lanes>(
        call, [&]<class Stream>() { return StreamScratch<Stream>(call, nullptr).bytes; });
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
