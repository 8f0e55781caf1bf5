// What GPTQ's and compressed-tensors' layouts share: codes in 32-bit words, matrices on their side, and
// groups whose inputs are told by an index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "fewbit/core/result.hpp"
#include "fewbit/formats/linear.hpp"

namespace fewbit::inline v0::io::detail {

/// How the codes of a line lie in words.
enum class Fields {
    stream,  ///< one bit stream: codes may cross words
    whole,   ///< 32 / bits codes per word, bits that are left unused
};
/// Where the words of a line lie.
enum class Lines {
    rows,     ///< (lines, words)
    columns,  ///< (words, lines)
};

/// Words of `count` codes; the count is below 2^58.
[[nodiscard]] std::size_t words_for(std::size_t count, int bits, Fields fields) noexcept;

/// Every row of `codes` as a line of words, I32.
[[nodiscard]] Result<Tensor> to_words(const BitMatrix& codes, Fields fields, Lines lines);
/// `count` codes of every line. Precondition: the tensor is I32 of two extents and has the words for them.
[[nodiscard]] Result<BitMatrix> from_words(const Tensor& words, std::size_t count, int bits, Fields fields,
                                           Lines lines);

[[nodiscard]] Result<BitMatrix> transposed(const BitMatrix& codes);
/// Precondition: two extents.
[[nodiscard]] Result<Tensor> transposed(const Tensor& tensor);

/// type (extents), and the sentence that a tensor is something else.
[[nodiscard]] Result<void> check_tensor(std::string_view what, const Tensor& tensor, Scalar type,
                                        const Tensor::Shape& shape);

/// The zero points of a layer, the middle of a symmetric one included: (N, G).
[[nodiscard]] Result<BitMatrix> all_zeros(const QuantizedMatrix& weights);
/// Whether each is the middle of a symmetric grid.
[[nodiscard]] bool all_middle(const BitMatrix& zeros) noexcept;

/// The layouts hold weights and a permutation that order_of() reads back. `layout` names them in the
/// sentence.
[[nodiscard]] Result<void> check_transform(const Linear& linear, std::string_view layout);
/// Says why the format of a layer that was read is none: scales of another type, or a group out of range.
[[nodiscard]] Result<void> check_scales(const Format& format);

/// Groups that both layouts know: per channel or group of an integer grid, with zero points if any.
[[nodiscard]] Result<void> check_grid(const Format& format, std::string_view layout);

/// The codes with their columns in the order of x.
[[nodiscard]] Result<BitMatrix> codes_by_input(const Linear& linear);
/// The group of every input, in the order of x: I32 (K).
[[nodiscard]] Result<Tensor> group_index(const Linear& linear);
/// The permutation behind a group index of K inputs in groups of `group` (the last one may be short): inputs
/// by group, ascending in each. Empty where that is their own order. Errors: type, shape, a group out of
/// range or of another size.
[[nodiscard]] Result<std::vector<std::uint32_t>> order_of(const Tensor& index, std::size_t k,
                                                          std::size_t group);
/// Column j of the result is column order[j]; an empty order changes nothing.
[[nodiscard]] Result<BitMatrix> columns_in(const BitMatrix& codes, const std::vector<std::uint32_t>& order);

/// Row r of the result is row order[r] of the layer: codes, scales, zeros and bias; an empty order changes
/// nothing.
[[nodiscard]] Result<Linear> rows_in(const Linear& linear, const std::vector<std::size_t>& order);
[[nodiscard]] std::vector<std::size_t> inverse(const std::vector<std::size_t>& order);

}  // namespace fewbit::inline v0::io::detail
