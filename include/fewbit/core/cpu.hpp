// What this CPU can run, asked at run time.
#pragma once

#include <cstddef>

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

#if defined(__x86_64__) && defined(__GNUC__)
namespace detail {
/// EAX and EDX of CPUID's leaf 7: features that older compilers cannot ask for by name. EAX of subleaf 0 counts the others.
struct CpuidLeaf7 {
    unsigned eax = 7, edx = 0;
    explicit CpuidLeaf7(unsigned subleaf) noexcept {
        [[maybe_unused]] unsigned b = 0, c = subleaf;
        __asm__("cpuid" : "+a"(eax), "=b"(b), "+c"(c), "=d"(edx));
    }
};
}  // namespace detail
#endif

/// VNNI on 256 bits without AVX-512, besides what cpu_has_avx2() asks for.
[[nodiscard]] inline bool cpu_has_avx_vnni() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
    constexpr unsigned avx_vnni = 1u << 4;
    return cpu_has_avx2() && detail::CpuidLeaf7(0).eax >= 1 && (detail::CpuidLeaf7(1).eax & avx_vnni) != 0;
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

#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__)
namespace detail {
extern "C" long fewbit_syscall(long number, ...) __asm__("syscall");
/// Linux saves the 8 KiB of tiles only for processes that ask for it.
inline bool may_use_tiles() noexcept {
    constexpr long arch_prctl = 158, request_permission = 0x1023, tile_data = 18;
    return fewbit_syscall(arch_prctl, request_permission, tile_data) == 0;
}
}  // namespace detail
#endif

/// Products of 8-bit matrices in tiles (AMX), besides what cpu_has_avx512_vnni() asks for. The first call asks the system to
/// let this process use tiles.
[[nodiscard]] inline bool cpu_has_amx_int8() noexcept {
#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__)
    static const bool has = [] {
        if (!cpu_has_avx512_vnni()) return false;
        constexpr unsigned amx_tile = 1u << 24, amx_int8 = 1u << 25, both = amx_tile | amx_int8;
        return (detail::CpuidLeaf7(0).edx & both) == both && detail::may_use_tiles();
    }();
    return has;
#else
    return false;
#endif
}

// Arm tells features through the operating system. Its functions are declared here under names of their own: its headers
// are not for public ones, and a second declaration would have to match each C library's exception specification.
#if defined(__aarch64__) && defined(__linux__)
namespace detail {
extern "C" unsigned long fewbit_getauxval(unsigned long type) __asm__("getauxval");
inline bool arm_has(unsigned long type, unsigned bit) noexcept {
    return (fewbit_getauxval(type) >> bit & 1u) != 0;
}
}  // namespace detail
#elif defined(__aarch64__) && defined(__APPLE__)
namespace detail {
extern "C" int fewbit_sysctlbyname(const char* name, void* old, std::size_t* old_size, void* fresh,
                                   std::size_t fresh_size) __asm__("_sysctlbyname");
inline bool arm_has(const char* feature) noexcept {
    int value = 0;
    std::size_t size = sizeof value;
    return fewbit_sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
}  // namespace detail
#endif

/// NEON, which every 64-bit Arm CPU has.
[[nodiscard]] inline bool cpu_has_neon() noexcept {
#if defined(__aarch64__)
    return true;
#else
    return false;
#endif
}

/// sdot, udot.
[[nodiscard]] inline bool cpu_has_neon_dotprod() noexcept {
#if defined(__aarch64__) && defined(__linux__)
    return detail::arm_has(16, 20);  // AT_HWCAP, HWCAP_ASIMDDP
#elif defined(__aarch64__) && defined(__APPLE__)
    return detail::arm_has("hw.optional.arm.FEAT_DotProd");
#else
    return false;
#endif
}

/// smmla, besides what cpu_has_neon_dotprod() asks for.
[[nodiscard]] inline bool cpu_has_neon_i8mm() noexcept {
#if defined(__aarch64__) && defined(__linux__)
    return cpu_has_neon_dotprod() && detail::arm_has(26, 13);  // AT_HWCAP2, HWCAP2_I8MM
#elif defined(__aarch64__) && defined(__APPLE__)
    return cpu_has_neon_dotprod() && detail::arm_has("hw.optional.arm.FEAT_I8MM");
#else
    return false;
#endif
}

/// Tells the CPU that this thread waits for another by looking again and again.
inline void cpu_pause() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ volatile("yield");
#endif
}

}  // namespace fewbit::inline v0
