// Instruction sets by name, and which of them this CPU has.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "fewbit/core/cpu.hpp"
#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0 {

struct IsaInfo {
    Isa isa;
    std::string_view name;
    std::string_view architecture;  ///< "any", "x86-64", "aarch64"
    std::string_view features;      ///< what a CPU must have, for messages
};

inline constexpr std::array isa_table{
    IsaInfo{Isa::generic, "generic", "any", "nothing beyond C++"},
    IsaInfo{Isa::avx2, "avx2", "x86-64", "AVX2, FMA and F16C"},
    IsaInfo{Isa::avx_vnni, "avx_vnni", "x86-64", "AVX-VNNI"},
    IsaInfo{Isa::avx512vl_vnni, "avx512vl_vnni", "x86-64", "AVX-512 F, BW, VL, DQ and VNNI"},
    IsaInfo{Isa::avx512_vnni, "avx512_vnni", "x86-64", "AVX-512 F, BW, VL, DQ and VNNI"},
    IsaInfo{Isa::avx512_bf16, "avx512_bf16", "x86-64", "AVX-512 F, BW, VL, DQ, VNNI and BF16"},
    IsaInfo{Isa::amx_int8, "amx_int8", "x86-64",
            "AMX-INT8 beside AVX-512 with VNNI, and a system that lends its tiles"},
    IsaInfo{Isa::neon, "neon", "aarch64", "64-bit Arm"},
    IsaInfo{Isa::neon_dotprod, "neon_dotprod", "aarch64",
            "the dot products of 8-bit integers (FEAT_DotProd)"},
    IsaInfo{Isa::neon_i8mm, "neon_i8mm", "aarch64", "the products of 8-bit matrices (FEAT_I8MM)"},
};

[[nodiscard]] constexpr const IsaInfo& info(Isa isa) noexcept {
    return isa_table[static_cast<std::size_t>(isa)];
}
[[nodiscard]] constexpr std::string_view name(Isa isa) noexcept { return info(isa).name; }

[[nodiscard]] constexpr std::optional<Isa> isa_from_name(std::string_view name) noexcept {
    for (const IsaInfo& row : isa_table)
        if (row.name == name) return row.isa;
    return std::nullopt;
}

/// Whether the CPU (and the operating system's saved registers) can run it.
[[nodiscard]] inline bool cpu_supports(Isa isa) noexcept {
    switch (isa) {
        case Isa::generic: return true;
        case Isa::avx2: return cpu_has_avx2();
        case Isa::avx_vnni: return cpu_has_avx_vnni();
        case Isa::avx512vl_vnni:
        case Isa::avx512_vnni: return cpu_has_avx512_vnni();
        case Isa::avx512_bf16: return cpu_has_avx512_bf16();
        case Isa::amx_int8: return cpu_has_amx_int8();
        case Isa::neon: return cpu_has_neon();
        case Isa::neon_dotprod: return cpu_has_neon_dotprod();
        case Isa::neon_i8mm: return cpu_has_neon_i8mm();
    }
    return false;
}

}  // namespace fewbit::inline v0
