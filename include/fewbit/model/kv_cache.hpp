// KvCache: keys and values of one sequence, so that each new position only multiplies its own row.
//
// Per layer and key-value head the rows (positions, head_dim) lie one after another. Rows are written once
// and read in runs; the reader lends scratch memory, so that a cache of few bits can decode a run into it and
// this interface stays. (This one is f32 and hands out its own memory.)
#pragma once

#include <cstddef>
#include <span>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::model {

class KvCache {
public:
    /// Room for `positions` of a model; nothing is touched before it is written. Error: more positions than
    /// the model's context, no memory.
    [[nodiscard]] FEWBIT_API static Result<KvCache> create(const io::ModelShape& shape,
                                                           std::size_t positions);

    [[nodiscard]] std::size_t layers() const noexcept { return layers_; }
    [[nodiscard]] std::size_t heads() const noexcept { return heads_; }
    [[nodiscard]] std::size_t head_dim() const noexcept { return head_dim_; }
    /// Positions that fit.
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    /// Positions that all layers hold; the next token stands at this one.
    [[nodiscard]] std::size_t length() const noexcept { return length_; }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return memory_.size_bytes(); }

    /// Writes one position of a layer: key and value rows of all heads, each (heads * head_dim). It counts
    /// once advance() was called. Precondition: layer < layers(), position < capacity(). Different positions
    /// may be written at the same time.
    FEWBIT_API void store(std::size_t layer, std::size_t position, std::span<const float> key,
                          std::span<const float> value) noexcept;

    /// Rows [first, first + count) of a head as f32 (count, head_dim). `scratch` holds at least
    /// scratch_elements(count) floats; the view may point into it or into the cache.
    [[nodiscard]] MatrixView<const float> keys(std::size_t layer, std::size_t head, std::size_t first,
                                               std::size_t count,
                                               [[maybe_unused]] std::span<float> scratch) const noexcept {
        return {data() + row(0, layer, head, first), count, head_dim_};
    }
    [[nodiscard]] MatrixView<const float> values(std::size_t layer, std::size_t head, std::size_t first,
                                                 std::size_t count,
                                                 [[maybe_unused]] std::span<float> scratch) const noexcept {
        return {data() + row(1, layer, head, first), count, head_dim_};
    }
    [[nodiscard]] std::size_t scratch_elements([[maybe_unused]] std::size_t count) const noexcept {
        return 0;
    }

    /// Counts positions that every layer has stored. Precondition: length() + count <= capacity().
    void advance(std::size_t count) noexcept { length_ += count; }
    /// Forgets all positions from `length` on, to continue a common beginning in another way.
    void truncate(std::size_t length) noexcept { length_ = length < length_ ? length : length_; }

private:
    KvCache() = default;
    [[nodiscard]] const float* data() const noexcept { return memory_.as<float>().data(); }
    /// Offset of a row in elements; kind 0 keys, 1 values.
    [[nodiscard]] std::size_t row(std::size_t kind, std::size_t layer, std::size_t head,
                                  std::size_t position) const noexcept {
        return (((kind * layers_ + layer) * heads_ + head) * capacity_ + position) * head_dim_;
    }

    std::size_t layers_ = 0;
    std::size_t heads_ = 0;
    std::size_t head_dim_ = 0;
    std::size_t capacity_ = 0;
    std::size_t length_ = 0;
    Tensor memory_;  // f32 (2, layers, heads, capacity, head_dim)
};

}  // namespace fewbit::inline v0::model
