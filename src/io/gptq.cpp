#include "fewbit/io/gptq.hpp"

#include <utility>

#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"
#include "src/io/packed_words.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::Fields;
using detail::Lines;

constexpr const char* gptq_layout = "the layout gptq";

bool known_bits(int bits) noexcept { return bits == 2 || bits == 3 || bits == 4 || bits == 8; }

/// Codes of a line fill words of this many.
std::size_t run_of(int bits) noexcept { return bits == 3 ? 32 : 32 / static_cast<std::size_t>(bits); }

/// Adds `delta` to every code, modulo 2^bits. Returns how many wrapped around.
std::size_t shift_codes(BitMatrix& codes, int delta) {
    const int mask = (1 << codes.bits()) - 1;
    std::size_t wrapped = 0;
    std::vector<std::uint8_t> row(codes.cols());
    for (std::size_t r = 0; r < codes.rows(); ++r) {
        codes.unpack(r, 0, row);
        for (std::uint8_t& code : row) {
            const int moved = code + delta;
            wrapped += (moved & mask) != moved ? 1u : 0u;
            code = static_cast<std::uint8_t>(moved & mask);
        }
        codes.pack_row(r, row);
    }
    return wrapped;
}

Result<GptqTensors> pack(const Linear& linear, GptqVersion version) {
    const QuantizedMatrix& w = linear.weights;
    if (auto fine = check_gptq(w.format(), w.n(), w.k()); !fine) return Unexpected{std::move(fine).error()};
    if (auto fine = detail::check_transform(linear, gptq_layout); !fine)
        return Unexpected{std::move(fine).error()};
    if (version == GptqVersion::v1 && has_zero_point_of_0(w))
        return fail(ErrorKind::unsupported,
                    "a zero point is 0, and checkpoint_format gptq stores zero points less 1; "
                    "gptq_v2 holds it");
    const auto codes = detail::codes_by_input(linear);
    if (!codes) return Unexpected{codes.error()};
    const auto zeros = detail::all_zeros(w);
    if (!zeros) return Unexpected{zeros.error()};
    auto by_group = detail::transposed(*zeros);
    if (!by_group) return Unexpected{std::move(by_group).error()};
    if (version == GptqVersion::v1) shift_codes(*by_group, -1);

    auto qweight = detail::to_words(*codes, Fields::stream, Lines::columns);
    auto qzeros = detail::to_words(*by_group, Fields::stream, Lines::rows);
    auto scales = detail::transposed(w.scales);
    auto g_idx = detail::group_index(linear);
    for (auto* part : {&qweight, &qzeros, &scales, &g_idx})
        if (!*part) return Unexpected{std::move(*part).error()};
    return GptqTensors{*std::move(qweight), *std::move(qzeros), *std::move(scales), *std::move(g_idx), 0};
}

Result<Linear> unpack(GptqTensors& tensors, const GptqConfig& config) {
    const auto bad = [](const auto&... why) { return fail(ErrorKind::bad_input, why...); };
    if (!known_bits(config.bits))
        return fail(ErrorKind::unsupported, "gptq codes of ", config.bits,
                    " bits are not read; 2, 3, 4 and 8 are");
    const auto bits = static_cast<std::size_t>(config.bits);
    const Tensor& qweight = tensors.qweight;
    if (qweight.type() != Scalar::i32 || qweight.shape().size() != 2 || qweight.elements() == 0)
        return bad("qweight is ", name(qweight.type()), " ", shape_text(qweight.shape()),
                   ", not words in two extents");
    const std::size_t words = qweight.shape()[0], n = qweight.shape()[1], run = run_of(config.bits);
    const std::size_t words_per_run = run * bits / 32, k = words / words_per_run * run;
    if (words % words_per_run != 0)
        return bad("qweight has ", words, " rows; ", config.bits, " bits need a multiple of ", words_per_run);
    if (n % run != 0)
        return bad("qweight has ", n, " columns; ", config.bits, " bits need a multiple of ", run);
    const std::size_t group = config.group.value_or(k);
    if (group == 0) return bad("the group size is 0");
    const std::size_t groups = ceil_div(k, group);
    if (auto fine = detail::check_tensor("qzeros", tensors.qzeros, Scalar::i32, {groups, n * bits / 32});
        !fine)
        return Unexpected{std::move(fine).error()};
    Format format;
    format.bits = config.bits;
    format.granularity = config.group ? Granularity::group : Granularity::channel;
    format.group = group;
    format.scale = tensors.scales.type();
    if (auto fine = detail::check_tensor("scales", tensors.scales, tensors.scales.type(), {groups, n}); !fine)
        return Unexpected{std::move(fine).error()};
    if (auto fine = detail::check_scales(format); !fine) return Unexpected{std::move(fine).error()};

    Linear linear;
    if (tensors.g_idx) {
        auto order = detail::order_of(*tensors.g_idx, k, group);
        if (!order) return Unexpected{std::move(order).error()};
        linear.transform.permutation = *std::move(order);
    }
    auto by_input = detail::from_words(qweight, k, config.bits, Fields::stream, Lines::columns);
    if (!by_input) return Unexpected{std::move(by_input).error()};
    auto codes = detail::columns_in(*by_input, linear.transform.permutation);
    if (!codes) return Unexpected{std::move(codes).error()};
    auto by_group = detail::from_words(tensors.qzeros, n, config.bits, Fields::stream, Lines::rows);
    if (!by_group) return Unexpected{std::move(by_group).error()};
    tensors.wrapped_zeros = config.version == GptqVersion::v1 ? shift_codes(*by_group, 1) : 0;
    const bool symmetric = config.symmetric.value_or(true) && detail::all_middle(*by_group);
    BitMatrix zeros;
    if (!symmetric) {
        auto turned = detail::transposed(*by_group);
        if (!turned) return Unexpected{std::move(turned).error()};
        zeros = *std::move(turned);
    }
    format.offset = symmetric ? Offset::none : Offset::integer;
    auto scales = detail::transposed(tensors.scales);
    if (!scales) return Unexpected{std::move(scales).error()};
    auto weights =
        QuantizedMatrix::assemble(format, n, k, *std::move(codes), *std::move(scales), std::move(zeros), {});
    if (!weights) return Unexpected{std::move(weights).error()};
    linear.weights = *std::move(weights);
    return linear;
}

}  // namespace

Result<void> check_gptq(const Format& format, std::size_t n, std::size_t k) {
    if (auto fine = detail::check_grid(format, gptq_layout); !fine) return fine;
    const auto wrong = [&](const auto&... why) {
        return fail(ErrorKind::unsupported, gptq_layout, " cannot hold ", name(format), ": ", why...);
    };
    if (!known_bits(format.bits))
        return wrong("it has codes of 2, 3, 4 and 8 bits; the layout compressed-tensors has all from 2 to 8");
    if (format.scale == Scalar::f32) {
        Format fitting = format;
        fitting.scale = Scalar::f16;
        return wrong("its scales have 16 bits, and rounding would change the weights; ", name(fitting),
                     " fits");
    }
    const std::size_t run = run_of(format.bits);
    for (const auto& [what, extent] : {std::pair{"N", n}, std::pair{"K", k}})
        if (extent == 0 || extent % run != 0)
            return wrong(what, " = ", extent, " is no multiple of ", run,
                         "; the layout compressed-tensors takes any size that the groups divide");
    return {};
}

bool has_zero_point_of_0(const QuantizedMatrix& weights) noexcept {
    if (weights.format().offset != Offset::integer) return false;
    for (std::size_t r = 0; r < weights.zeros.rows(); ++r)
        for (std::size_t g = 0; g < weights.zeros.cols(); ++g)
            if (weights.zeros.code(r, g) == 0) return true;
    return false;
}

Result<GptqTensors> pack_gptq(const Linear& linear, GptqVersion version) {
    return detail::without_exceptions([&] { return pack(linear, version); });
}

Result<Linear> unpack_gptq(GptqTensors& tensors, const GptqConfig& config) {
    return detail::without_exceptions([&] { return unpack(tensors, config); });
}

}  // namespace fewbit::inline v0::io
