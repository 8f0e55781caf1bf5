#include "fewbit/io/compressed_tensors.hpp"

#include <algorithm>
#include <utility>

#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"
#include "src/io/packed_words.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::Fields;
using detail::Lines;

constexpr const char* layout = "the layout compressed-tensors";

/// Codes of a matrix with their signs: I8.
Result<Tensor> signed_codes(const BitMatrix& codes) {
    auto out = Tensor::allocate(Scalar::i8, {codes.rows(), codes.cols()});
    if (!out) return out;
    std::vector<std::uint8_t> row(codes.cols());
    for (std::size_t r = 0; r < codes.rows(); ++r) {
        codes.unpack(r, 0, row);
        for (std::size_t c = 0; c < row.size(); ++c)
            out->as_mutable<std::int8_t>()[r * row.size() + c] =
                static_cast<std::int8_t>(row[c] - (1 << (codes.bits() - 1)));
    }
    return out;
}

/// The other way. Error: a number beyond the bits. Precondition: two extents.
Result<BitMatrix> unsigned_codes(const Tensor& tensor, int bits, const char* what) {
    auto out = BitMatrix::allocate(tensor.shape()[0], tensor.shape()[1], bits);
    if (!out) return out;
    const int middle = 1 << (bits - 1);
    std::vector<std::uint8_t> row(out->cols());
    for (std::size_t r = 0; r < out->rows(); ++r) {
        for (std::size_t c = 0; c < row.size(); ++c) {
            const int code = tensor.as<std::int8_t>()[r * row.size() + c];
            if (code < -middle || code >= middle)
                return fail(ErrorKind::bad_input, what, " holds ", code, ", which ", bits, " bits cannot");
            row[c] = static_cast<std::uint8_t>(code + middle);
        }
        out->pack_row(r, row);
    }
    return out;
}

Result<CompressedTensors> pack(const Linear& linear) {
    const QuantizedMatrix& w = linear.weights;
    if (auto fine = check_compressed(w.format(), w.n(), w.k()); !fine)
        return Unexpected{std::move(fine).error()};
    if (auto fine = detail::check_transform(linear, layout); !fine)
        return Unexpected{std::move(fine).error()};
    const CompressedConfig config = compressed_config(w.format());
    const auto codes = detail::codes_by_input(linear);
    if (!codes) return Unexpected{codes.error()};
    CompressedTensors out;
    out.scale = w.scales;
    auto weight = config.packed ? detail::to_words(*codes, Fields::whole, Lines::rows) : signed_codes(*codes);
    if (!weight) return Unexpected{std::move(weight).error()};
    out.weight = *std::move(weight);
    if (!config.symmetric) {
        auto by_group = detail::transposed(w.zeros);
        if (!by_group) return Unexpected{std::move(by_group).error()};
        auto zeros = config.packed ? detail::to_words(*by_group, Fields::whole, Lines::columns)
                                   : signed_codes(w.zeros);
        if (!zeros) return Unexpected{std::move(zeros).error()};
        out.zero_point = *std::move(zeros);
    }
    if (config.packed) {
        auto shape = Tensor::allocate(Scalar::i64, {2});
        if (!shape) return Unexpected{std::move(shape).error()};
        shape->as_mutable<std::int64_t>()[0] = static_cast<std::int64_t>(w.n());
        shape->as_mutable<std::int64_t>()[1] = static_cast<std::int64_t>(w.k());
        out.shape = *std::move(shape);
    }
    if (!linear.transform.permutation.empty()) {
        auto index = detail::group_index(linear);
        if (!index) return Unexpected{std::move(index).error()};
        out.g_idx = *std::move(index);
    }
    return out;
}

/// N and K of a layer, against what its weight can hold.
Result<std::pair<std::size_t, std::size_t>> extents(const CompressedTensors& tensors,
                                                    const CompressedConfig& config) {
    const auto bad = [](const auto&... why) { return fail(ErrorKind::bad_input, why...); };
    const Tensor& weight = tensors.weight;
    if (weight.type() != (config.packed ? Scalar::i32 : Scalar::i8) || weight.shape().size() != 2 ||
        weight.elements() == 0)
        return bad("the weight is ", name(weight.type()), " ", shape_text(weight.shape()), ", not ",
                   config.packed ? "i32" : "i8", " of two extents");
    if (!config.packed) return std::pair{weight.shape()[0], weight.shape()[1]};
    if (!tensors.shape) return bad("weight_shape is missing");
    const Tensor& shape = *tensors.shape;
    if (shape.shape() != Tensor::Shape{2} || (shape.type() != Scalar::i64 && shape.type() != Scalar::i32))
        return bad("weight_shape is ", name(shape.type()), " ", shape_text(shape.shape()),
                   ", not two integers");
    const auto extent = [&shape](std::size_t i) {
        return shape.type() == Scalar::i64 ? shape.as<std::int64_t>()[i]
                                           : std::int64_t{shape.as<std::int32_t>()[i]};
    };
    const std::int64_t n = extent(0), k = extent(1);
    if (n < 1 || k < 1 || k > std::int64_t{1} << 40 || static_cast<std::size_t>(n) != weight.shape()[0] ||
        detail::words_for(static_cast<std::size_t>(k), config.bits, Fields::whole) != weight.shape()[1])
        return bad("weight_shape says ", n, " x ", k, ", which a weight_packed of ",
                   shape_text(weight.shape()), " with codes of ", config.bits, " bits does not hold");
    return std::pair{static_cast<std::size_t>(n), static_cast<std::size_t>(k)};
}

Result<BitMatrix> read_zeros(const CompressedTensors& tensors, const CompressedConfig& config, std::size_t n,
                             std::size_t groups) {
    if (!tensors.zero_point) return fail(ErrorKind::bad_input, "weight_zero_point is missing");
    const Tensor& zeros = *tensors.zero_point;
    if (!config.packed || zeros.type() == Scalar::i8) {
        if (auto fine = detail::check_tensor("weight_zero_point", zeros, Scalar::i8, {n, groups}); !fine)
            return Unexpected{std::move(fine).error()};
        return unsigned_codes(zeros, config.bits, "weight_zero_point");
    }
    const std::size_t words = detail::words_for(n, config.bits, Fields::whole);
    if (auto fine = detail::check_tensor("weight_zero_point", zeros, Scalar::i32, {words, groups}); !fine)
        return Unexpected{std::move(fine).error()};
    const auto by_group = detail::from_words(zeros, n, config.bits, Fields::whole, Lines::columns);
    if (!by_group) return Unexpected{by_group.error()};
    return detail::transposed(*by_group);
}

Result<Linear> unpack(const CompressedTensors& tensors, const CompressedConfig& config) {
    if (config.bits < min_bits || config.bits > max_bits)
        return fail(ErrorKind::unsupported, "codes of ", config.bits, " bits are not read; ", min_bits,
                    " to ", max_bits, " are");
    const auto size = extents(tensors, config);
    if (!size) return Unexpected{size.error()};
    const auto [n, k] = *size;
    const std::size_t group = config.group.value_or(k);
    if (group == 0 || k % group != 0)
        return fail(ErrorKind::bad_input, "groups of ", group, " do not divide K = ", k);
    const std::size_t groups = k / group;
    Format format;
    format.bits = config.bits;
    format.granularity = config.group ? Granularity::group : Granularity::channel;
    format.group = group;
    format.offset = config.symmetric ? Offset::none : Offset::integer;
    format.scale = tensors.scale.type();
    if (auto fine = detail::check_tensor("weight_scale", tensors.scale, format.scale, {n, groups}); !fine)
        return Unexpected{std::move(fine).error()};
    if (auto fine = detail::check_scales(format); !fine) return Unexpected{std::move(fine).error()};

    Linear linear;
    const auto unused = [](std::int32_t g) { return g == -1; };
    if (tensors.g_idx && !(tensors.g_idx->type() == Scalar::i32 &&
                           std::ranges::all_of(tensors.g_idx->as<std::int32_t>(), unused))) {
        auto order = detail::order_of(*tensors.g_idx, k, group);
        if (!order) return Unexpected{std::move(order).error()};
        linear.transform.permutation = *std::move(order);
    }
    auto by_input = config.packed
                        ? detail::from_words(tensors.weight, k, config.bits, Fields::whole, Lines::rows)
                        : unsigned_codes(tensors.weight, config.bits, "the weight");
    if (!by_input) return Unexpected{std::move(by_input).error()};
    auto codes = detail::columns_in(*by_input, linear.transform.permutation);
    if (!codes) return Unexpected{std::move(codes).error()};
    BitMatrix zeros;
    if (!config.symmetric) {
        auto read = read_zeros(tensors, config, n, groups);
        if (!read) return Unexpected{std::move(read).error()};
        zeros = *std::move(read);
    }
    auto weights =
        QuantizedMatrix::assemble(format, n, k, *std::move(codes), tensors.scale, std::move(zeros), {});
    if (!weights) return Unexpected{std::move(weights).error()};
    linear.weights = *std::move(weights);
    return linear;
}

}  // namespace

Result<void> check_compressed(const Format& format, std::size_t n, std::size_t k) {
    if (auto fine = detail::check_grid(format, layout); !fine) return fine;
    const auto wrong = [&](const auto&... why) {
        return fail(ErrorKind::unsupported, layout, " cannot hold ", name(format), ": ", why...);
    };
    if (n == 0 || k == 0) return wrong("the layer is empty");
    if (format.granularity == Granularity::group && k % format.group != 0)
        return wrong("K = ", k,
                     " is no multiple of the group; the layout gptq has short last groups, and per channel "
                     "any K fits");
    return {};
}

CompressedConfig compressed_config(const Format& format) noexcept {
    CompressedConfig config;
    config.bits = format.bits;
    config.group = format.granularity == Granularity::group ? std::optional(format.group) : std::nullopt;
    config.symmetric = format.offset == Offset::none;
    config.packed = format.bits != 8 || format.granularity != Granularity::channel;
    return config;
}

Result<CompressedTensors> pack_compressed(const Linear& linear) {
    return detail::without_exceptions([&] { return pack(linear); });
}

Result<Linear> unpack_compressed(const CompressedTensors& tensors, const CompressedConfig& config) {
    return detail::without_exceptions([&] { return unpack(tensors, config); });
}

}  // namespace fewbit::inline v0::io
