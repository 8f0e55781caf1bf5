// How codes lie in the vectors of tile16, for vnni.hpp: `quads` runs of four along K per vector, each as unsigned bytes
// whose 0 is the format's zero plus `bias`.
#pragma once

#include "kernels/tile16/vnni.hpp"

namespace fewbit::inline v0::kernels {
namespace {

template <class Lanes>
struct NibbleField {
    static constexpr std::size_t step_elements = 8;
    static constexpr int quads = 2, bias = 0;
    explicit NibbleField(const WeightsView&) {}
    [[nodiscard]] float unit() const { return 1.0f; }
    [[nodiscard]] typename Lanes::Bytes quad(typename Lanes::Bytes vector, int which) const {
        return which == 0 ? Lanes::low_nibbles(vector) : Lanes::high_nibbles(vector);
    }
};

template <class Lanes>
struct ByteField {
    static constexpr std::size_t step_elements = 4;
    static constexpr int quads = 1, bias = 0;
    explicit ByteField(const WeightsView&) {}
    [[nodiscard]] float unit() const { return 1.0f; }
    [[nodiscard]] typename Lanes::Bytes quad(typename Lanes::Bytes vector, int) const { return vector; }
};

/// Places in a table of 16 signed levels.
template <class Lanes>
class TableField {
public:
    static constexpr std::size_t step_elements = 8;
    static constexpr int quads = 2, bias = 128;
    explicit TableField(const WeightsView& w)
        : levels_(Lanes::flip_signs(Lanes::table(w.levels))), unit_(w.unit) {}
    [[nodiscard]] float unit() const { return unit_; }
    [[nodiscard]] typename Lanes::Bytes quad(typename Lanes::Bytes vector, int which) const {
        return Lanes::look_up(levels_, which == 0 ? Lanes::low_nibbles(vector) : Lanes::high_nibbles(vector));
    }

private:
    typename Lanes::Bytes levels_;
    float unit_;
};

// What kernel files export: one of these for their Lanes.

template <class Lanes>
void integer_products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    call.w.bits <= 4 ? int8_products<Lanes, NibbleField<Lanes>>(call, part, scratch)
                     : int8_products<Lanes, ByteField<Lanes>>(call, part, scratch);
}
template <class Lanes>
void table_products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    int8_products<Lanes, TableField<Lanes>>(call, part, scratch);
}

template <class Lanes>
constexpr KernelCode integer_kernel{integer_products<Lanes>, 0, Lanes::rows, tile_channels,
                                    int8_scratch_bytes<Lanes>};
template <class Lanes>
constexpr KernelCode table_kernel{table_products<Lanes>, 0, Lanes::rows, tile_channels,
                                  int8_scratch_bytes<Lanes>};

}  // namespace
}  // namespace fewbit::inline v0::kernels
