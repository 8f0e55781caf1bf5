#include <array>

#include "fewbit/io/safetensors.hpp"
#include "src/io/safetensors_layout.hpp"

namespace fewbit::inline v0::io {
namespace {

struct TypeRow {
    std::string_view name;
    std::size_t bits;
    std::optional<Scalar> scalar;
};

// In the order of SafetensorsType.
constexpr std::array<TypeRow, 22> rows{{
    {"BOOL", 8, {}},
    {"F4", 4, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"U8", 8, Scalar::u8},
    {"I8", 8, Scalar::i8},
    {"F8_E5M2", 8, Scalar::fp8_e5m2},
    {"F8_E4M3", 8, Scalar::fp8_e4m3},
    {"F8_E8M0", 8, Scalar::e8m0},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"F16", 16, Scalar::f16},
    {"BF16", 16, Scalar::bf16},
    {"I32", 32, Scalar::i32},
    {"U32", 32, Scalar::u32},
    {"F32", 32, Scalar::f32},
    {"C64", 64, {}},
    {"F64", 64, Scalar::f64},
    {"I64", 64, Scalar::i64},
    {"U64", 64, {}},
}};
static_assert(rows.size() == static_cast<std::size_t>(SafetensorsType::u64) + 1);

const TypeRow& row(SafetensorsType type) noexcept { return rows[static_cast<std::size_t>(type)]; }

}  // namespace

std::string_view name(SafetensorsType type) noexcept { return row(type).name; }
std::size_t bits(SafetensorsType type) noexcept { return row(type).bits; }
std::optional<Scalar> scalar(SafetensorsType type) noexcept { return row(type).scalar; }

SafetensorsType safetensors_type(Scalar type) noexcept {
    std::size_t i = 0;
    while (rows[i].scalar != type) ++i;  // every Scalar has its row
    return static_cast<SafetensorsType>(i);
}

std::optional<SafetensorsType> detail::parse_safetensors_type(std::string_view name) noexcept {
    for (std::size_t i = 0; i < rows.size(); ++i)
        if (rows[i].name == name) return static_cast<SafetensorsType>(i);
    return std::nullopt;
}

}  // namespace fewbit::inline v0::io
