// What codes of tile16 are multiplied as, for int8.hpp: `quads` runs of four along K per vector of a step (Steps), each as
// bytes, unsigned or signed as Lanes multiplies them, whose 0 is the format's zero plus `bias`.
#pragma once

#include "kernels/tile16/int8.hpp"
#include "kernels/tile16/quantize.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Integers that take `Bits` bits of the stream.
template <int Bits>
struct Integers {
    template <class Lanes>
    struct Field {
        using Steps = Planes<Lanes, Bits>;
        using Operand = typename Lanes::Bytes;
        static constexpr bool flipped =
            Lanes::signed_weights && Bits == 8;  ///< smaller ones are no less signed
        static constexpr int quads = Steps::quads, bias = flipped ? -128 : 0;
        explicit Field(const WeightsView&) {}
        [[nodiscard]] float unit() const { return 1.0f; }
        [[nodiscard]] typename Lanes::Bytes quad(typename Lanes::Bytes vector, int which) const {
            if constexpr (quads == 1)
                return flipped ? Lanes::flip_signs(vector) : vector;
            else if constexpr (Bits == 4)
                return which == 0 ? Lanes::low_nibbles(vector) : Lanes::high_nibbles(vector);
            else
                return Lanes::bit_and(which == 0 ? vector : Lanes::template shift_right<4>(vector),
                                      Lanes::set_bits(((1 << Bits) - 1) * 0x01010101));
        }
    };
};

/// Places in a table of 16 signed levels.
template <class Lanes>
class TableField {
public:
    using Steps = Planes<Lanes, 4>;
    using Operand = typename Lanes::Bytes;
    static constexpr int quads = Steps::quads, bias = Lanes::signed_weights ? 0 : 128;
    explicit TableField(const WeightsView& w)
        : levels_(Lanes::signed_weights ? Lanes::table(w.levels) : Lanes::flip_signs(Lanes::table(w.levels))),
          unit_(w.unit) {}
    [[nodiscard]] float unit() const { return unit_; }
    [[nodiscard]] typename Lanes::Bytes quad(typename Lanes::Bytes vector, int which) const {
        return Lanes::look_up(levels_, which == 0 ? Lanes::low_nibbles(vector) : Lanes::high_nibbles(vector));
    }

private:
    typename Lanes::Bytes levels_;
    float unit_;
};

// What kernel files export: one of these for their Lanes.

template <class Lanes, template <class> class Field>
void products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    int8_products<Lanes, Field>(call, part, static_cast<std::byte*>(scratch));
}

/// Lanes for codes that take `Bits` bits of the stream.
template <class Lanes, int Bits>
struct LanesOf {
    using Type = Lanes;
};
template <class Lanes>
void integer_products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    with_field_bits(call.w.field_bits, [&](auto bits) {
        products<typename LanesOf<Lanes, bits>::Type, Integers<bits>::template Field>(call, part, scratch);
    });
}
template <class Lanes>
std::size_t integer_scratch_bytes(const KernelCall& call) noexcept {
    std::size_t bytes = 0;
    with_field_bits(call.w.field_bits, [&](auto bits) {
        bytes = int8_scratch_bytes<typename LanesOf<Lanes, bits>::Type>(call);
    });
    return bytes;
}

template <class Lanes>
constexpr KernelCode int8_kernel(decltype(KernelCode::run) run,
                                 decltype(KernelCode::scratch_bytes_of) scratch_bytes) {
    return {run,
            0,
            activation_tile_rows,
            tile_channels,
            scratch_bytes,
            activation_tile_rows,
            quantize_tile<Lanes>,
            Lanes::run};
}
template <class Lanes>
constexpr KernelCode integer_kernel = int8_kernel<Lanes>(integer_products<Lanes>,
                                                         integer_scratch_bytes<Lanes>);
template <class Lanes>
constexpr KernelCode table_kernel = int8_kernel<Lanes>(products<Lanes, TableField>,
                                                       int8_scratch_bytes<Lanes>);

}  // namespace
}  // namespace fewbit::inline v0::kernels
