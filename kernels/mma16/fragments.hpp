// Which lane holds what of mma.sync.m16n8k16 (PTX ISA 9.7.14.5.8): A (16, 16) in four registers of two elements, B (16, 8)
// in two, C (16, 8) in four of f32; and of mma.sync.m16n8k32 with bytes: A (16, 32), B (32, 8), C alike. lane = 4 g + t.
#pragma once

#include "fewbit/pack/mma16_order.hpp"

namespace fewbit::inline v0::mma16 {

struct Element {
    unsigned row;
    unsigned column;
};

/// Element e of register r of A (rows are output channels, columns input channels).
FEWBIT_HOST_DEVICE constexpr Element element_of_a(unsigned lane, unsigned r, unsigned e) {
    return {lane / 4 + 8 * (r & 1), lane % 4 * 2 + e + 8 * (r >> 1)};
}
/// Element e of register r of B (rows are input channels, columns tokens).
FEWBIT_HOST_DEVICE constexpr Element element_of_b(unsigned lane, unsigned r, unsigned e) {
    return {lane % 4 * 2 + e + 8 * r, lane / 4};
}
/// Byte e of register r of A, 32 inputs.
FEWBIT_HOST_DEVICE constexpr Element byte_of_a(unsigned lane, unsigned r, unsigned e) {
    return {lane / 4 + 8 * (r & 1), lane % 4 * 4 + e + 16 * (r >> 1)};
}
/// Byte e of register r of B, 32 inputs.
FEWBIT_HOST_DEVICE constexpr Element byte_of_b(unsigned lane, unsigned r, unsigned e) {
    return {lane % 4 * 4 + e + 16 * r, lane / 4};
}
/// Register i of C (rows are output channels, columns tokens).
FEWBIT_HOST_DEVICE constexpr Element element_of_c(unsigned lane, unsigned i) {
    return {lane / 4 + 8 * (i >> 1), lane % 4 * 2 + (i & 1)};
}

}  // namespace fewbit::inline v0::mma16
