// What every other header needs to know about this build: the version, how symbols are exported, whether
// definitions are inline. CMake reads the version from here, so that it is written in one place.
#pragma once

#define FEWBIT_VERSION_MAJOR 0
#define FEWBIT_VERSION_MINOR 1
#define FEWBIT_VERSION_PATCH 0

// One number to compare: 0.1.0 is 100, 1.2.3 is 10203.
#define FEWBIT_VERSION (FEWBIT_VERSION_MAJOR * 10000 + FEWBIT_VERSION_MINOR * 100 + FEWBIT_VERSION_PATCH)

#define FEWBIT_STRINGIZE_(x) #x
#define FEWBIT_STRINGIZE(x) FEWBIT_STRINGIZE_(x)
#define FEWBIT_VERSION_STRING              \
    FEWBIT_STRINGIZE(FEWBIT_VERSION_MAJOR) \
    "." FEWBIT_STRINGIZE(FEWBIT_VERSION_MINOR) "." FEWBIT_STRINGIZE(FEWBIT_VERSION_PATCH)

// -ffast-math and -Ofast set both macros, -ffinite-math-only the second. With
// them the compiler assumes that there is no NaN and no infinity and removes the checks that find them in
// weights, and it reorders sums, so that the same weights would give other bytes than every other build
// gives.
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ + 0 != 0)
#error \
    "fewbit refuses -ffast-math, -Ofast and -ffinite-math-only: NaN checks would vanish and bytes would differ"
#endif

// FEWBIT_API marks what a shared library exports; everything else stays hidden.
// FEWBIT_SHARED: fewbit is a shared library. FEWBIT_EXPORTS: this file is compiled into it. CMake sets both.
#if defined(FEWBIT_HEADER_ONLY)
#define FEWBIT_API
#elif defined(_WIN32) && defined(FEWBIT_SHARED)
#if defined(FEWBIT_EXPORTS)
#define FEWBIT_API __declspec(dllexport)
#else
#define FEWBIT_API __declspec(dllimport)
#endif
#elif defined(__GNUC__) && defined(FEWBIT_SHARED)
#define FEWBIT_API __attribute__((visibility("default")))
#else
#define FEWBIT_API
#endif

// FEWBIT_INLINE stands before definitions that fewbit::headers takes from a header and fewbit::fewbit from
// its library.
#if defined(FEWBIT_HEADER_ONLY)
#define FEWBIT_INLINE inline
#else
#define FEWBIT_INLINE
#endif
