// Values of GGUF metadata: bytes of the file, and getters that look at the kind first.
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "fewbit/core/scalar.hpp"
#include "src/io/gguf_layout.hpp"

namespace fewbit::inline v0::io {
namespace {

std::uint64_t load(const std::byte* data, std::size_t bytes) noexcept {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) value |= static_cast<std::uint64_t>(data[i]) << (8 * i);
    return value;
}
void store(std::vector<std::byte>& out, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

bool is_signed(GgufKind kind) noexcept {
    return kind == GgufKind::i8 || kind == GgufKind::i16 || kind == GgufKind::i32 || kind == GgufKind::i64;
}
bool is_integer(GgufKind kind) noexcept {
    return is_signed(kind) || kind == GgufKind::u8 || kind == GgufKind::u16 || kind == GgufKind::u32 ||
           kind == GgufKind::u64;
}
/// An integer of this kind at `data`; nothing where i64 cannot hold it.
std::optional<std::int64_t> integer(GgufKind kind, const std::byte* data) noexcept {
    const std::size_t bytes = detail::size_bytes(kind);
    std::uint64_t value = load(data, bytes);
    if (!is_signed(kind)) {
        if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
    } else if (bytes < 8 && (value >> (8 * bytes - 1) & 1) != 0) {
        value |= ~std::uint64_t{0} << (8 * bytes);
    }
    return static_cast<std::int64_t>(value);
}

GgufValue number(GgufKind kind, std::uint64_t bits) {
    std::vector<std::byte> bytes;
    store(bytes, bits, detail::size_bytes(kind));
    return GgufValue::of_bytes(kind, kind, 1, bytes);
}
void store_text(std::vector<std::byte>& out, std::string_view text) {
    store(out, text.size(), 8);
    const auto bytes = std::as_bytes(std::span(text));
    out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

std::optional<std::uint64_t> GgufValue::as_unsigned() const noexcept {
    if (!is_integer(kind_)) return std::nullopt;
    if (kind_ == GgufKind::u64) return load(bytes_.data(), 8);
    const auto value = integer(kind_, bytes_.data());
    if (!value || *value < 0) return std::nullopt;
    return static_cast<std::uint64_t>(*value);
}
std::optional<std::int64_t> GgufValue::as_signed() const noexcept {
    if (!is_integer(kind_)) return std::nullopt;
    return integer(kind_, bytes_.data());
}
std::optional<double> GgufValue::as_real() const noexcept {
    if (kind_ == GgufKind::f64) return std::bit_cast<double>(load(bytes_.data(), 8));
    if (kind_ != GgufKind::f32) return std::nullopt;
    return static_cast<double>(load_float(Scalar::f32, bytes_.data()));
}
std::optional<bool> GgufValue::as_boolean() const noexcept {
    if (kind_ != GgufKind::boolean) return std::nullopt;
    return bytes_[0] != std::byte{0};
}
std::optional<std::string_view> GgufValue::as_text() const noexcept {
    if (kind_ != GgufKind::text) return std::nullopt;
    return std::string_view(reinterpret_cast<const char*>(bytes_.data()) + 8, bytes_.size() - 8);
}
std::optional<std::vector<std::string_view>> GgufValue::as_texts() const {
    if (kind_ != GgufKind::array || element_ != GgufKind::text) return std::nullopt;
    std::vector<std::string_view> texts;
    texts.reserve(count_);
    const std::byte* at = bytes_.data();
    for (std::size_t i = 0; i < count_; ++i) {
        const auto length = static_cast<std::size_t>(load(at, 8));
        texts.emplace_back(reinterpret_cast<const char*>(at) + 8, length);
        at += 8 + length;
    }
    return texts;
}
std::optional<std::vector<float>> GgufValue::as_floats() const {
    if (kind_ != GgufKind::array || element_ != GgufKind::f32) return std::nullopt;
    std::vector<float> values(count_);
    for (std::size_t i = 0; i < count_; ++i) values[i] = load_float(Scalar::f32, bytes_.data() + 4 * i);
    return values;
}
std::optional<std::vector<std::int64_t>> GgufValue::as_integers() const {
    if (kind_ != GgufKind::array || !is_integer(element_)) return std::nullopt;
    std::vector<std::int64_t> values(count_);
    for (std::size_t i = 0; i < count_; ++i) {
        const auto value = integer(element_, bytes_.data() + i * detail::size_bytes(element_));
        if (!value) return std::nullopt;
        values[i] = *value;
    }
    return values;
}

GgufValue GgufValue::of_u32(std::uint32_t value) { return number(GgufKind::u32, value); }
GgufValue GgufValue::of_u64(std::uint64_t value) { return number(GgufKind::u64, value); }
GgufValue GgufValue::of_u16(std::uint16_t value) { return number(GgufKind::u16, value); }
GgufValue GgufValue::of_i32(std::int32_t value) {
    return number(GgufKind::i32, static_cast<std::uint32_t>(value));
}
GgufValue GgufValue::of_f32(float value) {
    return number(GgufKind::f32, std::bit_cast<std::uint32_t>(value));
}
GgufValue GgufValue::of_boolean(bool value) { return number(GgufKind::boolean, value ? 1 : 0); }
GgufValue GgufValue::of_text(std::string_view value) {
    std::vector<std::byte> bytes;
    store_text(bytes, value);
    return of_bytes(GgufKind::text, GgufKind::text, 1, bytes);
}
GgufValue GgufValue::of_texts(std::span<const std::string> values) {
    std::vector<std::byte> bytes;
    for (const std::string& each : values) store_text(bytes, each);
    return of_bytes(GgufKind::array, GgufKind::text, values.size(), bytes);
}
GgufValue GgufValue::of_floats(std::span<const float> values) {
    std::vector<std::byte> bytes;
    for (const float each : values) store(bytes, std::bit_cast<std::uint32_t>(each), 4);
    return of_bytes(GgufKind::array, GgufKind::f32, values.size(), bytes);
}
GgufValue GgufValue::of_integers(std::span<const std::int32_t> values) {
    std::vector<std::byte> bytes;
    for (const std::int32_t each : values) store(bytes, static_cast<std::uint32_t>(each), 4);
    return of_bytes(GgufKind::array, GgufKind::i32, values.size(), bytes);
}
GgufValue GgufValue::of_bytes(GgufKind kind, GgufKind element, std::size_t count,
                              std::span<const std::byte> bytes) {
    GgufValue value;
    value.kind_ = kind;
    value.element_ = element;
    value.count_ = count;
    value.bytes_.assign(bytes.begin(), bytes.end());
    return value;
}

const GgufValue* find(const GgufMetadata& metadata, std::string_view key) noexcept {
    for (const auto& [name, value] : metadata)
        if (name == key) return &value;
    return nullptr;
}

}  // namespace fewbit::inline v0::io
