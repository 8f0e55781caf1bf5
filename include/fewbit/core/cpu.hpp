// What this CPU can run, asked at run time.
#pragma once

namespace fewbit::inline v0 {

/// AVX2 with FMA and F16C, and an operating system that saves the registers.
[[nodiscard]] inline bool cpu_has_avx2() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
    // F16C came before AVX2 on every CPU that has both; older compilers cannot ask for it by name.
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

/// VNNI on 256 bits without AVX-512, besides what cpu_has_avx2() asks for.
[[nodiscard]] inline bool cpu_has_avx_vnni() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
    if (!cpu_has_avx2()) return false;
    // Older compilers cannot ask for it by name: leaf 7, whose subleaf 0 counts the others; bit 4 of EAX of subleaf 1.
    const auto leaf_7 = [](unsigned subleaf) {
        unsigned a = 7, b = 0, c = subleaf, d = 0;
        __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        return a;
    };
    return leaf_7(0) >= 1 && (leaf_7(1) >> 4 & 1u) != 0;
#else
    return false;
#endif
}

/// AVX-512 F, BW, VL, DQ and VNNI, besides what cpu_has_avx2() asks for.
[[nodiscard]] inline bool cpu_has_avx512_vnni() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
    return cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

/// AVX-512 BF16, besides what cpu_has_avx512_vnni() asks for.
[[nodiscard]] inline bool cpu_has_avx512_bf16() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
    return cpu_has_avx512_vnni() && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

}  // namespace fewbit::inline v0
