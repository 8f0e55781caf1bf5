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

}  // namespace fewbit::inline v0
