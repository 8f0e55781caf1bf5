// What the tests of this room share.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/qat/grid.hpp"

namespace fewbit::testing {

/// A mask with room for every element.
struct Mask {
    Mask(std::size_t rows_, std::size_t cols_) : rows(rows_), cols(cols_), places(rows_ * cols_) {}

    operator MatrixView<qat::Place>() { return {places.data(), rows, cols}; }
    operator MatrixView<const qat::Place>() const { return {places.data(), rows, cols}; }
    qat::Place operator()(std::size_t r, std::size_t c) const { return places[r * cols + c]; }

    std::size_t rows, cols;
    std::vector<qat::Place> places;
};

/// Equal bits: -0 is not 0, and NaN equals itself.
[[nodiscard]] inline bool same_bits(std::span<const float> a, std::span<const float> b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

/// Elements of `values` (N, K) whose bits are not those of the stored matrix.
[[nodiscard]] inline std::size_t different_values(const Matrix& values, const QuantizedMatrix& stored) {
    std::size_t different = 0;
    std::vector<float> row(stored.k());
    for (std::size_t r = 0; r < stored.n(); ++r) {
        stored.dequantize(r, 0, row);
        for (std::size_t c = 0; c < row.size(); ++c)
            different += !same_bits(values.row(r).subspan(c, 1), {&row[c], 1});
    }
    return different;
}

[[nodiscard]] inline bool same_bytes(const QuantizedMatrix& a, const QuantizedMatrix& b) {
    const auto equal = [](const Tensor& x, const Tensor& y) {
        return x.size_bytes() == y.size_bytes() &&
               (x.size_bytes() == 0 || std::memcmp(x.bytes().data(), y.bytes().data(), x.size_bytes()) == 0);
    };
    return equal(a.codes.bytes(), b.codes.bytes()) && equal(a.scales, b.scales) &&
           equal(a.zeros.bytes(), b.zeros.bytes()) && equal(a.offsets, b.offsets);
}

}  // namespace fewbit::testing
