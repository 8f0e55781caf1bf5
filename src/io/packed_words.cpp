#include "src/io/packed_words.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::io::detail {
namespace {

/// Lines side by side that are turned on their side together: their words fill a cache line.
constexpr std::size_t lines_at_once = 16;

void pack_line(const std::vector<std::uint8_t>& codes, int bits, Fields fields,
               std::span<std::uint32_t> words) {
    std::ranges::fill(words, 0u);
    if (fields == Fields::whole) {
        const auto per_word = static_cast<std::size_t>(32 / bits);
        for (std::size_t i = 0; i < codes.size(); ++i)
            words[i / per_word] |= std::uint32_t{codes[i]} << (i % per_word * static_cast<unsigned>(bits));
        return;
    }
    for (std::size_t i = 0; i < codes.size(); ++i) {
        const std::size_t bit = i * static_cast<unsigned>(bits);
        const std::uint64_t field = std::uint64_t{codes[i]} << (bit % 32);
        words[bit / 32] |= static_cast<std::uint32_t>(field);
        if (field >> 32 != 0) words[bit / 32 + 1] |= static_cast<std::uint32_t>(field >> 32);
    }
}

void unpack_line(std::span<const std::uint32_t> words, int bits, Fields fields,
                 std::vector<std::uint8_t>& codes) {
    const std::uint32_t mask = (1u << bits) - 1u;
    const auto per_word = static_cast<std::size_t>(32 / bits);
    for (std::size_t i = 0; i < codes.size(); ++i) {
        const std::size_t bit = i * static_cast<unsigned>(bits);
        const std::size_t word = fields == Fields::whole ? i / per_word : bit / 32;
        const std::size_t shift =
            fields == Fields::whole ? i % per_word * static_cast<unsigned>(bits) : bit % 32;
        std::uint64_t both = words[word];
        if (shift + static_cast<unsigned>(bits) > 32) both |= std::uint64_t{words[word + 1]} << 32;
        codes[i] = static_cast<std::uint8_t>(both >> shift & mask);
    }
}

}  // namespace

std::size_t words_for(std::size_t count, int bits, Fields fields) noexcept {
    return fields == Fields::whole ? ceil_div(count, static_cast<std::size_t>(32 / bits))
                                   : ceil_div(count * static_cast<std::size_t>(bits), 32);
}

Result<Tensor> to_words(const BitMatrix& codes, Fields fields, Lines lines) {
    const std::size_t rows = codes.rows(), per_line = words_for(codes.cols(), codes.bits(), fields);
    auto out = Tensor::allocate(
        Scalar::i32, lines == Lines::rows ? Tensor::Shape{rows, per_line} : Tensor::Shape{per_line, rows});
    if (!out) return out;
    std::byte* target = out->mutable_bytes().data();
    std::vector<std::uint8_t> line(codes.cols());
    std::vector<std::uint32_t> words(lines_at_once * per_line);
    for (std::size_t r = 0; r < rows; r += lines_at_once) {
        const std::size_t count = std::min(lines_at_once, rows - r);
        for (std::size_t i = 0; i < count; ++i) {
            codes.unpack(r + i, 0, line);
            pack_line(line, codes.bits(), fields, std::span(words).subspan(i * per_line, per_line));
        }
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t w = 0; w < per_line; ++w)
                std::memcpy(target + 4 * (lines == Lines::rows ? (r + i) * per_line + w : w * rows + r + i),
                            &words[i * per_line + w], 4);
    }
    return out;
}

Result<BitMatrix> from_words(const Tensor& words, std::size_t count, int bits, Fields fields, Lines lines) {
    const std::size_t rows = words.shape()[lines == Lines::rows ? 0 : 1];
    const std::size_t per_line = words.shape()[lines == Lines::rows ? 1 : 0];
    auto out = BitMatrix::allocate(rows, count, bits);
    if (!out) return out;
    const std::byte* source = words.bytes().data();
    std::vector<std::uint8_t> line(count);
    std::vector<std::uint32_t> gathered(lines_at_once * per_line);
    for (std::size_t r = 0; r < rows; r += lines_at_once) {
        const std::size_t side_by_side = std::min(lines_at_once, rows - r);
        for (std::size_t w = 0; w < per_line; ++w)
            for (std::size_t i = 0; i < side_by_side; ++i)
                std::memcpy(&gathered[i * per_line + w],
                            source + 4 * (lines == Lines::rows ? (r + i) * per_line + w : w * rows + r + i),
                            4);
        for (std::size_t i = 0; i < side_by_side; ++i) {
            unpack_line(std::span(gathered).subspan(i * per_line, per_line), bits, fields, line);
            out->pack_row(r + i, line);
        }
    }
    return out;
}

Result<BitMatrix> transposed(const BitMatrix& codes) {
    auto out = BitMatrix::allocate(codes.cols(), codes.rows(), codes.bits());
    if (!out) return out;
    std::vector<std::uint8_t> row(codes.rows());
    for (std::size_t c = 0; c < codes.cols(); ++c) {
        for (std::size_t r = 0; r < codes.rows(); ++r) row[r] = codes.code(r, c);
        out->pack_row(c, row);
    }
    return out;
}

Result<Tensor> transposed(const Tensor& tensor) {
    const std::size_t rows = tensor.shape()[0], cols = tensor.shape()[1];
    const std::size_t element = size_bytes(tensor.type());
    auto out = Tensor::allocate(tensor.type(), {cols, rows});
    if (!out) return out;
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < cols; ++c)
            std::memcpy(out->mutable_bytes().data() + (c * rows + r) * element,
                        tensor.bytes().data() + (r * cols + c) * element, element);
    return out;
}

Result<void> check_tensor(std::string_view what, const Tensor& tensor, Scalar type,
                          const Tensor::Shape& shape) {
    if (tensor.type() == type && tensor.shape() == shape) return {};
    return fail(ErrorKind::bad_input, what, " is ", name(tensor.type()), " ", shape_text(tensor.shape()),
                ", not ", name(type), " ", shape_text(shape));
}

Result<BitMatrix> all_zeros(const QuantizedMatrix& weights) {
    if (weights.format().offset == Offset::integer) return weights.zeros;
    auto out = BitMatrix::allocate(weights.n(), weights.groups_per_row(), weights.format().bits);
    if (!out) return out;
    const std::vector<std::uint8_t> row(weights.groups_per_row(),
                                        static_cast<std::uint8_t>(weights.format().middle_code()));
    for (std::size_t r = 0; r < out->rows(); ++r) out->pack_row(r, row);
    return out;
}

bool all_middle(const BitMatrix& zeros) noexcept {
    for (std::size_t r = 0; r < zeros.rows(); ++r)
        for (std::size_t c = 0; c < zeros.cols(); ++c)
            if (zeros.code(r, c) != 1 << (zeros.bits() - 1)) return false;
    return true;
}

Result<void> check_transform(const Linear& linear, std::string_view layout) {
    if (!linear.columns.empty())
        return fail(ErrorKind::unsupported, layout,
                    " has no place for float columns; fewbit's own layout (a .safetensors file) has");
    if (linear.transform.hadamard != 0)
        return fail(
            ErrorKind::unsupported, layout,
            " has no place for a Hadamard transform of the input; fewbit's own layout (a .safetensors "
            "file) has");
    if (!linear.transform.channel_scales.empty())
        return fail(ErrorKind::unsupported, layout,
                    " has no place for channel scales; fewbit's own layout (a .safetensors file) has");
    const auto& order = linear.transform.permutation;
    if (order.empty()) return {};
    if (order.size() != linear.k())
        return fail(ErrorKind::bad_input, "the permutation has ", order.size(), " entries, not ", linear.k());
    std::vector<bool> seen(order.size());
    for (std::size_t j = 0; j < order.size(); ++j) {
        if (order[j] >= order.size() || seen[order[j]])
            return fail(ErrorKind::bad_input, "entry ", j, " of the permutation is ", order[j],
                        ", out of range or there twice");
        seen[order[j]] = true;
        if (j % linear.weights.group_elements() != 0 && order[j] < order[j - 1])
            return fail(ErrorKind::unsupported, layout,
                        " knows the group of an input, not its place in the group; ", "entry ", j,
                        " of the permutation does not ascend. Fewbit's own layout holds it");
    }
    return {};
}

Result<void> check_scales(const Format& format) {
    if (format.double_quantized() || format.scale == Scalar::e8m0)
        return fail(ErrorKind::unsupported, "scales of type ", fewbit::name(format.scale),
                    " are not read; f32, f16 and bf16 are");
    return validate(format);
}

Result<void> check_grid(const Format& format, std::string_view layout) {
    const auto wrong = [&](const auto&... why) {
        return fail(ErrorKind::unsupported, layout, " cannot hold ", name(format), ": ", why...);
    };
    if (format.is_block())
        return wrong(
            "it knows integer grids, not ggml's blocks; a .gguf file holds them, and a grid is, for one, ",
            "int4-g128");
    if (format.is_float()) return wrong("it is not quantized");
    if (auto fine = validate(format); !fine) return fine;
    if (format.is_codebook())
        return wrong("it knows integer grids, not codebooks; int", format.bits,
                     "-g128 is one, and a .safetensors file "
                     "of fewbit's own layout holds codebooks");
    if (format.double_quantized())
        return wrong("scales are f16 or bf16 there; ", element_name(format), "-g", format.group,
                     format.offset == Offset::integer ? "-asym" : "",
                     " fits, a .safetensors file of fewbit's own "
                     "layout holds doubly quantized scales");
    Format fitting = format;
    if (format.offset == Offset::real) {
        fitting.offset = Offset::integer;
        return wrong("zero points are integers there; ", name(fitting),
                     " fits, a .safetensors file of fewbit's "
                     "own layout holds real offsets");
    }
    if (format.granularity == Granularity::tensor) {
        fitting.granularity = Granularity::channel;
        fitting.scale = Scalar::f16;
        return wrong("it has scales per channel or group; ", name(fitting), " fits");
    }
    return {};
}

Result<BitMatrix> columns_in(const BitMatrix& codes, const std::vector<std::uint32_t>& order) {
    if (order.empty()) return codes;
    auto out = BitMatrix::allocate(codes.rows(), codes.cols(), codes.bits());
    if (!out) return out;
    std::vector<std::uint8_t> row(codes.cols()), arranged(codes.cols());
    for (std::size_t r = 0; r < codes.rows(); ++r) {
        codes.unpack(r, 0, row);
        for (std::size_t j = 0; j < order.size(); ++j) arranged[j] = row[order[j]];
        out->pack_row(r, arranged);
    }
    return out;
}

Result<BitMatrix> codes_by_input(const Linear& linear) {
    std::vector<std::uint32_t> place(linear.transform.permutation.size());
    for (std::size_t j = 0; j < place.size(); ++j)
        place[linear.transform.permutation[j]] = static_cast<std::uint32_t>(j);
    return columns_in(linear.weights.codes, place);
}

Result<Tensor> group_index(const Linear& linear) {
    auto out = Tensor::allocate(Scalar::i32, {linear.k()});
    if (!out) return out;
    const auto groups = out->as_mutable<std::int32_t>();
    const auto& order = linear.transform.permutation;
    for (std::size_t j = 0; j < linear.k(); ++j)
        groups[order.empty() ? j : order[j]] = static_cast<std::int32_t>(j / linear.weights.group_elements());
    return out;
}

Result<std::vector<std::uint32_t>> order_of(const Tensor& index, std::size_t k, std::size_t group) {
    if (auto fine = check_tensor("the group index", index, Scalar::i32, {k}); !fine)
        return Unexpected{std::move(fine).error()};
    const std::size_t groups = ceil_div(k, group);
    const auto of = index.as<std::int32_t>();
    std::vector<std::size_t> next(groups, 0);  // inputs of a group that have been met
    std::vector<std::uint32_t> order(k);
    bool same = true;
    for (std::size_t i = 0; i < k; ++i) {
        if (of[i] < 0 || static_cast<std::size_t>(of[i]) >= groups)
            return fail(ErrorKind::bad_input, "input ", i, " is said to be of group ", of[i], "; there are ",
                        groups);
        const auto g = static_cast<std::size_t>(of[i]);
        const std::size_t size = std::min(group, k - g * group);
        if (next[g] == size)
            return fail(ErrorKind::unsupported, "group ", g, " has more than ", size,
                        " inputs; only groups of equal size (the last one may be short) are read");
        const std::size_t j = g * group + next[g]++;
        order[j] = static_cast<std::uint32_t>(i);
        same = same && i == j;
    }
    if (same) order.clear();
    return order;
}

Result<Linear> rows_in(const Linear& linear, const std::vector<std::size_t>& order) {
    if (order.empty()) return linear;
    const QuantizedMatrix& from = linear.weights;
    auto to = QuantizedMatrix::allocate(from.format(), from.n(), from.k());
    if (!to) return Unexpected{std::move(to).error()};
    const std::size_t scale_bytes = from.scale_cols() * size_bytes(from.format().scale);
    Linear out;
    for (std::size_t r = 0; r < order.size(); ++r) {
        std::memcpy(to->codes.mutable_row(r), from.codes.row(order[r]), from.codes.row_bytes());
        std::memcpy(to->scales.mutable_bytes().data() + r * scale_bytes,
                    from.scales.bytes().data() + order[r] * scale_bytes, scale_bytes);
        if (from.format().offset == Offset::integer)
            std::memcpy(to->zeros.mutable_row(r), from.zeros.row(order[r]), from.zeros.row_bytes());
        if (!linear.bias.empty()) out.bias.push_back(linear.bias[order[r]]);
    }
    out.weights = *std::move(to);
    out.transform = linear.transform;
    return out;
}

std::vector<std::size_t> inverse(const std::vector<std::size_t>& order) {
    std::vector<std::size_t> out(order.size());
    for (std::size_t r = 0; r < order.size(); ++r) out[order[r]] = r;
    return out;
}

}  // namespace fewbit::inline v0::io::detail
