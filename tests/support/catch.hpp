// Catch2 v2 (Debian 12) and v3 under one name, and a skip that tells why.
//
// Include this, not Catch2. Approx is Catch::Approx. There is one main, in main.cpp.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_message.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/catch_tostring.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#include <catch2/matchers/catch_matchers_all.hpp>
#define FEWBIT_CATCH2_MAJOR 3
#elif __has_include(<catch2/catch.hpp>)
#include <catch2/catch.hpp>
#define FEWBIT_CATCH2_MAJOR 2
namespace Catch {
using Detail::Approx;
}
#else
#error "Catch2 was not found (Debian and Ubuntu: catch2)"
#endif

#include <cstdlib>
#include <string>

namespace fewbit_test {

/// Whether tests are to run a part of their cases: sanitizers and emulators need minutes for what other builds run whole.
[[nodiscard]] inline bool sampled() {
    const char* seed = std::getenv("FEWBIT_CONTRACT_SAMPLE");
    return seed != nullptr && *seed != '\0';
}

// Prints the reason and counts the skip, so that no test is missed in silence. See FEWBIT_SKIP.
void report_skip(const std::string& reason);

}  // namespace fewbit_test

// Leaves the test case. scripts/test collects the printed lines; a program whose every test case was skipped
// counts as skipped for ctest too.
#define FEWBIT_SKIP(reason)                 \
    do {                                    \
        ::fewbit_test::report_skip(reason); \
        return;                             \
    } while (false)
