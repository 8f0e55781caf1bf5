// Kinds of metadata and types of tensors in GGUF files.
#include <array>
#include <bit>

#include "fewbit/core/text.hpp"
#include "src/io/gguf_layout.hpp"

namespace fewbit::inline v0::io {
namespace {

constexpr std::array<GgufTensorType, 16> other_types{{
    {0, "f32", 1, 4, Scalar::f32, {}},
    {1, "f16", 1, 2, Scalar::f16, {}},
    {30, "bf16", 1, 2, Scalar::bf16, {}},
    {24, "i8", 1, 1, Scalar::i8, {}},
    {25, "i16", 1, 2, {}, {}},
    {26, "i32", 1, 4, Scalar::i32, {}},
    {27, "i64", 1, 8, Scalar::i64, {}},
    {28, "f64", 1, 8, Scalar::f64, {}},
    {9, "q8_1", 32, 36, {}, {}},
    {16, "iq2_xxs", 256, 66, {}, {}},
    {17, "iq2_xs", 256, 74, {}, {}},
    {22, "iq2_s", 256, 82, {}, {}},
    {18, "iq3_xxs", 256, 98, {}, {}},
    {21, "iq3_s", 256, 110, {}, {}},
    {19, "iq1_s", 256, 50, {}, {}},
    {29, "iq1_m", 256, 56, {}, {}},
}};
constexpr std::size_t others = other_types.size();

constexpr auto all_types = [] {
    std::array<GgufTensorType, others + ggml::block_types.size()> all{};
    for (std::size_t i = 0; i < others; ++i) all[i] = other_types[i];
    for (std::size_t i = 0; i < ggml::block_types.size(); ++i) {
        const ggml::BlockTraits& t = ggml::block_types[i];
        all[others + i] = {t.id, t.name, t.elements, t.bytes, {}, t.type};
    }
    return all;
}();

constexpr std::string_view kind_names[] = {"u8",      "i8",   "u16",   "i16", "u32", "i32", "f32",
                                           "boolean", "text", "array", "u64", "i64", "f64"};
constexpr std::size_t kind_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

}  // namespace

const GgufTensorType* gguf_tensor_type(std::uint32_t id) noexcept {
    for (const GgufTensorType& type : all_types)
        if (type.id == id) return &type;
    return nullptr;
}
const GgufTensorType* gguf_tensor_type(std::string_view name) noexcept {
    for (const GgufTensorType& type : all_types)
        if (type.name == name) return &type;
    return nullptr;
}

std::string_view name(GgufKind kind) noexcept { return kind_names[static_cast<std::size_t>(kind)]; }

namespace detail {

std::size_t size_bytes(GgufKind kind) noexcept { return kind_bytes[static_cast<std::size_t>(kind)]; }

Result<std::size_t> gguf_tensor_bytes(const GgufTensorType& type, std::span<const std::size_t> sizes) {
    const std::size_t row = sizes.empty() ? 1 : sizes[0];
    if (row % type.elements != 0)
        return fail(ErrorKind::bad_input, "rows of ", row, " elements do not fill blocks of ", type.elements,
                    ", which ", type.name, " has");
    // The product of the elements themselves must not overflow either: readers multiply them.
    const auto elements = checked_product(sizes, 1);
    const auto bytes = checked_product(sizes, type.bytes);
    if (!elements || !bytes || *bytes / type.elements > std::size_t{1} << 62)
        return fail(ErrorKind::bad_input, "the size of shape ", shape_text(sizes), " of ", type.name,
                    " overflows");
    return *bytes / type.elements;
}

Result<std::size_t> gguf_alignment(const GgufMetadata& metadata) {
    const GgufValue* value = find(metadata, alignment_key);
    if (value == nullptr) return gguf_default_alignment;
    if (value->kind() != GgufKind::u32)
        return fail(ErrorKind::bad_input, "'", alignment_key, "' is of kind ", name(value->kind()),
                    ", not u32");
    const auto alignment = static_cast<std::size_t>(*value->as_unsigned());
    if (!std::has_single_bit(alignment) || alignment > max_gguf_alignment)
        return fail(ErrorKind::bad_input, "'", alignment_key, "' is ", alignment,
                    "; it must be a power of two and at most ", max_gguf_alignment);
    return alignment;
}

}  // namespace detail
}  // namespace fewbit::inline v0::io
