// KvCache: names of its formats, memory, writing, and reading of few bits.
#include "fewbit/model/kv_cache.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/large_pages.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/qat/stored_grids.hpp"  // a row's grids and codes are those that training sees
#include "src/model/for_rows.hpp"

namespace fewbit::inline v0::model {
namespace {

constexpr std::string_view row_word = "-row", channel_word = "-channel";

/// `text` with its first `from` replaced.
std::string first_replaced(std::string text, std::string_view from, std::string_view to) {
    const std::size_t at = text.find(from);
    return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

Result<void> check_format(const Format& format, std::size_t head_dim) {
    if (format.is_float()) return {};
    if (auto valid = validate(format); !valid) return valid;
    if (format.is_block()) {
        if (validate_columns(format, head_dim)) return {};
        return fail(ErrorKind::unsupported, "heads of ", head_dim,
                    " channels are no multiple of the blocks of ", ggml::name(format.block), ", ",
                    ggml::traits(format.block).elements);
    }
    if (format.element != Element::integer || format.granularity == Granularity::tensor ||
        format.scale != Scalar::f16)
        return fail(ErrorKind::unsupported,
                    "a cache holds floats, ggml's blocks, or integers with a scale of f16 ",
                    "for each row of a head or group along it, as in int4-row and int4-g32");
    if (head_dim > KvCache::max_head_dim)
        return fail(ErrorKind::unsupported, "heads of ", head_dim, " channels are longer than the ",
                    KvCache::max_head_dim, " that a cache of few bits can have");
    return {};
}

/// Whether what row r stands for is finite.
bool reads_finite(const QuantizedMatrix& m, std::size_t r) noexcept {
    float run[256];
    for (std::size_t first = 0; first < m.k(); first += std::size(run)) {
        const std::size_t count = std::min(std::size(run), m.k() - first);
        m.dequantize(r, first, {run, count});
        if (!qat::detail::all_finite(run, count)) return false;
    }
    return true;
}

// Row r of `out` from floats; false where the format cannot hold it.

bool encode_floats(std::span<const float> row, std::size_t r, QuantizedMatrix& out) noexcept {
    const Scalar type = element_scalar(out.format());
    auto* const bytes = reinterpret_cast<std::byte*>(out.codes.mutable_row(r));
    for (std::size_t i = 0; i < row.size(); ++i) store_float(type, row[i], bytes + i * size_bytes(type));
    return reads_finite(out, r);
}

bool encode_blocks(std::span<const float> row, std::size_t r, QuantizedMatrix& out) noexcept {
    if (!qat::detail::all_finite(row.data(), row.size())) return false;
    const ggml::BlockType type = out.format().block;
    ggml::encode_row(type, row, {}, {out.mutable_blocks(r), ggml::row_bytes(type, row.size())});
    return reads_finite(out, r);
}

bool encode_integers(std::span<const float> row, std::size_t r, QuantizedMatrix& out) noexcept {
    const Format& format = out.format();
    const std::size_t groups = out.groups_per_row(), group = out.group_elements();
    GroupGrid grids[KvCache::max_head_dim / min_group_elements];
    std::uint8_t codes[KvCache::max_head_dim], zeros[KvCache::max_head_dim / min_group_elements];
    if (!qat::detail::all_finite(row.data(), row.size())) return false;
    if (!qat::fit_grids({row.data(), 1, row.size()}, format, {grids, groups})) return false;
    for (std::size_t g = 0; g < groups; ++g) {
        const std::size_t first = g * group, count = std::min(group, row.size() - first);
        encode(format, grids[g], row.subspan(first, count), {codes + first, count});
        out.set_scale(r, g, grids[g].scale);
        if (format.offset == Offset::real) out.set_offset(r, g, grids[g].offset);
        zeros[g] = static_cast<std::uint8_t>(grids[g].zero);
    }
    out.codes.pack_row(r, {codes, row.size()});
    if (format.offset == Offset::integer) out.zeros.pack_row(r, {zeros, groups});
    return true;
}

}  // namespace

Result<Format> parse_cache_format(std::string_view whole) {
    const auto bad = [whole](const auto&... why) {
        return fail(ErrorKind::bad_input, "cache format '", whole, "': ", why...);
    };
    if (whole.find("-sf32") != std::string_view::npos) return bad("scales of a cache are f16");
    if (whole.find(channel_word) != std::string_view::npos)
        return bad("scales belong to a row of a head, as in int4-row, or to groups of it");
    auto format = parse_format(first_replaced(std::string(whole), row_word, channel_word));
    if (!format || (format->is_float() && whole != name(*format)))
        return bad(
            "known are f32, f16, bf16, int<b>-<row|g<n>>[-asym|-fzero][-narrow] with b from 2 to 8 and n "
            "from 8 on, "
            "such as int8-row and int4-g32-asym, and ggml's blocks, such as q8_0");
    if (format->element == Element::integer) {
        if (format->granularity == Granularity::channel && whole.find(row_word) == std::string_view::npos)
            return bad("how many values share a scale is missing, as in int4-row or int4-g32");
        if (format->granularity == Granularity::channel && format->scale == Scalar::f32)
            format->scale = Scalar::f16;
    }
    if (!format->is_block())
        if (auto valid = check_format(*format, 1); !valid) return bad(valid.error().message);
    return format;
}

std::string cache_format_name(const Format& format) {
    Format shown = format;
    if (shown.granularity == Granularity::channel) shown.scale = default_scale(Granularity::channel);
    return first_replaced(name(shown), channel_word, row_word);
}

Result<KvCache> KvCache::create(const io::ModelShape& shape, std::size_t positions,
                                const KvCacheOptions& options) {
    if (positions > shape.context)
        return fail(ErrorKind::bad_input, "a cache of ", positions,
                    " positions is longer than the model's context of ", shape.context);
    KvCache cache;
    cache.layers_ = shape.layers;
    cache.heads_ = shape.kv_heads;
    cache.head_dim_ = shape.head_dim;
    cache.capacity_ = positions;
    const auto rows = checked_product({shape.layers, shape.kv_heads, positions});
    const Format* const formats[] = {&options.keys, &options.values};
    for (std::size_t kind = 0; kind < 2; ++kind) {
        const Format& format = *formats[kind];
        const auto within = [kind](Error error) {
            return Unexpected{std::move(error).within(kind == 0 ? "cache of keys" : "cache of values")};
        };
        if (auto valid = check_format(format, shape.head_dim); !valid)
            return within(std::move(valid).error());
        Store& store = cache.stores_[kind];
        if (format.is_float() && element_scalar(format) == Scalar::f32) {
            auto plain = Tensor::allocate(
                Scalar::f32, {shape.layers, shape.kv_heads, positions, shape.head_dim}, allocate_large);
            if (!plain) return within(std::move(plain).error());
            store.plain = *std::move(plain);
            store.is_plain = true;
            continue;
        }
        if (!rows)
            return fail(ErrorKind::out_of_memory, "a cache of ", positions,
                        " positions is larger than memory can address");
        // Of floats the element alone says what they are; other members may be anything.
        auto codes = QuantizedMatrix::allocate(
            format.is_float() ? float_format(element_scalar(format)) : format, *rows, shape.head_dim);
        if (!codes) return within(std::move(codes).error());
        store.codes = *std::move(codes);
        auto lost = Buffer<std::uint8_t>::zeros(*rows, "which rows could not be stored");
        if (!lost) return within(std::move(lost).error());
        store.lost = *std::move(lost);
    }
    if (options.rotate_keys && shape.head_dim != 0) {
        auto rotation = Hadamard::create(hadamard_order(shape.head_dim));
        if (!rotation) return Unexpected{std::move(rotation).error()};
        cache.rotation_ = *std::move(rotation);
    }
    return cache;
}

std::size_t KvCache::size_bytes() const noexcept {
    std::size_t sum = 0;
    for (const Store& store : stores_)
        sum += store.plain.size_bytes() + store.codes.size_bytes() + store.lost.size();
    return sum;
}

void KvCache::rotate(MatrixView<float> x, ExecutionContext context) const {
    if (!rotation_) return;
    for_rows(context, x.rows, 8 * x.cols, [&](std::size_t m) { rotation_->apply(x.row(m)); });
}

void KvCache::Store::write(std::size_t r, std::span<const float> from) noexcept {
    if (is_plain) {
        std::copy(from.begin(), from.end(), plain.as_mutable<float>().data() + r * from.size());
        return;
    }
    const Format& format = codes.format();
    const bool held = format.is_float()   ? encode_floats(from, r, codes)
                      : format.is_block() ? encode_blocks(from, r, codes)
                                          : encode_integers(from, r, codes);
    lost.span()[r] = held ? 0 : 1;
}

void KvCache::store(std::size_t layer, std::size_t position, std::span<const float> key,
                    std::span<const float> value) noexcept {
    for (std::size_t head = 0; head < heads_; ++head) {
        const std::size_t r = row(layer, head, position), first = head * head_dim_;
        stores_[0].write(r, key.subspan(first, head_dim_));
        stores_[1].write(r, value.subspan(first, head_dim_));
    }
}

MatrixView<const float> KvCache::decode(const Store& store, std::size_t first, std::size_t count,
                                        std::span<float> scratch) const noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        const std::span<float> out = scratch.subspan(i * head_dim_, head_dim_);
        store.codes.dequantize(first + i, 0, out);
        if (store.lost.span()[first + i] != 0)
            std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
    }
    return {scratch.data(), count, head_dim_};
}

}  // namespace fewbit::inline v0::model
