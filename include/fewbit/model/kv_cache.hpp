// KvCache: keys and values of one sequence, so that each new position only multiplies its own row.
//
// Per layer and key-value head the rows (positions, head_dim) lie one after another. Rows are written once
// and read in runs, which a cache of few bits decodes into scratch memory that the reader lends.
//
// Names of formats: f32, f16, bf16 | int<b>-<row|g<n>>[-asym|-fzero][-narrow], b from 2 to 8, scales f16 | those blocks of
// ggml's that head_dim is a multiple of (q8_0, q4_0, ...). A `row` is what one head has at one position, and groups
// lie along it: a position is stored as it comes, and nothing that is stored changes with what comes after it.
//   int4-g32-asym, head_dim 64:   [ 64 codes of 4 bits | 2 scales of f16 | 2 zero points of 4 bits | a byte: could it be stored ]
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "fewbit/core/buffer.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/hadamard.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::model {

struct KvCacheOptions {
    Format keys = float_format(Scalar::f32);  ///< as parse_cache_format() makes them
    Format values = float_format(Scalar::f32);
    /// Queries and keys are multiplied by a Hadamard matrix along each head after their rotary turn (R3 of SpinQuant, Liu
    /// et al. 2024, arXiv 2405.16406): scores stay, and a channel that is large in all keys no longer sets
    /// everyone's scale.
    bool rotate_keys = false;
};

/// Reads a name (the grammar stands at the head of this file). Error: a sentence that quotes it.
[[nodiscard]] FEWBIT_API Result<Format> parse_cache_format(std::string_view name);
/// The name that parse_cache_format reads back.
[[nodiscard]] FEWBIT_API std::string cache_format_name(const Format& format);
/// Bits that one key or value takes, scales included, in heads of `head_dim`; without the padding of rows to whole bytes and the
/// byte that tells whether a row could be stored.
[[nodiscard]] inline double bits_per_element(const Format& format, std::size_t head_dim) noexcept {
    return bits_per_weight(format, 1, head_dim);
}

class KvCache {
public:
    /// Longest head of a cache of few bits.
    static constexpr std::size_t max_head_dim = 1024;

    /// Room for `positions` of a model; floats of 32 bits are not touched before they are written. Errors: more
    /// positions than the model's context, a format that a cache cannot have or head_dim does not fit, no memory.
    [[nodiscard]] FEWBIT_API static Result<KvCache> create(const io::ModelShape& shape, std::size_t positions,
                                                           const KvCacheOptions& options = {});

    [[nodiscard]] std::size_t layers() const noexcept { return layers_; }
    [[nodiscard]] std::size_t heads() const noexcept { return heads_; }
    [[nodiscard]] std::size_t head_dim() const noexcept { return head_dim_; }
    /// Positions that fit.
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    /// Positions that all layers hold; the next token stands at this one.
    [[nodiscard]] std::size_t length() const noexcept { return length_; }
    [[nodiscard]] FEWBIT_API std::size_t size_bytes() const noexcept;
    /// Order of the matrix that queries and keys are multiplied by; 0: none. Less than head_dim: in blocks.
    [[nodiscard]] std::size_t rotation_order() const noexcept { return rotation_ ? rotation_->order() : 0; }

    /// x (M, heads * head_dim) of queries or keys, ahead of attention() and store(): rotates each head if
    /// rotate_keys was asked for.
    FEWBIT_API void rotate(MatrixView<float> x, ExecutionContext context = {}) const;

    /// Writes one position of a layer: key and value rows of all heads, each (heads * head_dim). It counts
    /// once advance() was called. A row that its format cannot hold (NaN, infinity, a number or scale that overflows) is read
    /// as NaN. Precondition: layer < layers(), position < capacity(). Different positions may be written at the same
    /// time.
    FEWBIT_API void store(std::size_t layer, std::size_t position, std::span<const float> key,
                          std::span<const float> value) noexcept;

    /// What store() of a position costs, in element operations, more or less.
    [[nodiscard]] std::size_t store_cost() const noexcept {
        return heads_ * head_dim_ * (scratch_elements(1) == 0 ? 2 : 32);
    }

    /// Rows [first, first + count) of a head as f32 (count, head_dim). `scratch` holds at least
    /// scratch_elements(count) floats; the view points into it or into the cache.
    [[nodiscard]] MatrixView<const float> keys(std::size_t layer, std::size_t head, std::size_t first,
                                               std::size_t count, std::span<float> scratch) const noexcept {
        return read(stores_[0], row(layer, head, first), count, scratch);
    }
    [[nodiscard]] MatrixView<const float> values(std::size_t layer, std::size_t head, std::size_t first,
                                                 std::size_t count, std::span<float> scratch) const noexcept {
        return read(stores_[1], row(layer, head, first), count, scratch);
    }
    /// 0 where all rows are f32.
    [[nodiscard]] std::size_t scratch_elements(std::size_t count) const noexcept {
        return stores_[0].is_plain && stores_[1].is_plain ? 0 : count * head_dim_;
    }

    /// Counts positions that every layer has stored. Precondition: length() + count <= capacity().
    void advance(std::size_t count) noexcept { length_ += count; }
    /// Forgets all positions from `length` on, to continue a common beginning in another way.
    void truncate(std::size_t length) noexcept { length_ = length < length_ ? length : length_; }

private:
    /// All keys or all values; rows in the order of row().
    struct Store {
        Tensor plain;               ///< f32 (rows, head_dim) where is_plain, else
        QuantizedMatrix codes;      ///< (rows, head_dim)
        Buffer<std::uint8_t> lost;  ///< (rows) 1: the format could not hold the row

        bool is_plain = false;

        FEWBIT_API void write(std::size_t r, std::span<const float> from) noexcept;
    };

    KvCache() = default;
    [[nodiscard]] std::size_t row(std::size_t layer, std::size_t head, std::size_t position) const noexcept {
        return (layer * heads_ + head) * capacity_ + position;
    }
    [[nodiscard]] MatrixView<const float> read(const Store& store, std::size_t first, std::size_t count,
                                               std::span<float> scratch) const noexcept {
        if (store.is_plain) return {store.plain.as<float>().data() + first * head_dim_, count, head_dim_};
        return decode(store, first, count, scratch);
    }
    [[nodiscard]] FEWBIT_API MatrixView<const float> decode(const Store& store, std::size_t first,
                                                            std::size_t count,
                                                            std::span<float> scratch) const noexcept;

    std::size_t layers_ = 0;
    std::size_t heads_ = 0;
    std::size_t head_dim_ = 0;
    std::size_t capacity_ = 0;
    std::size_t length_ = 0;
    std::array<Store, 2> stores_;  ///< keys, values
    std::optional<Hadamard> rotation_;
};

}  // namespace fewbit::inline v0::model
