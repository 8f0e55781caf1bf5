// The main function of every test program, for Catch2 v2 and v3, and the count of skipped test cases.
#if !__has_include(<catch2/catch_test_macros.hpp>)
#define CATCH_CONFIG_RUNNER
#endif
#include "catch.hpp"

#if FEWBIT_CATCH2_MAJOR == 3
#include <catch2/catch_session.hpp>
#include <catch2/catch_test_case_info.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
#endif

#include <cstddef>
#include <cstdio>
#include <set>
#include <string>

namespace {

constexpr int exit_skipped = 77;  // ctest's SKIP_RETURN_CODE, set in tests/CMakeLists.txt

std::string current_case;
std::set<std::string> skipped_cases;
int cases = 0;

#if FEWBIT_CATCH2_MAJOR == 3
using ListenerBase = Catch::EventListenerBase;
#else
using ListenerBase = Catch::TestEventListenerBase;
#endif

struct CaseCounter : ListenerBase {
    using ListenerBase::ListenerBase;
    void testCaseStarting(const Catch::TestCaseInfo& info) override {
        current_case = info.name;
        ++cases;
    }
};
CATCH_REGISTER_LISTENER(CaseCounter)

}  // namespace

void fewbit_test::report_skip(const std::string& reason) {
    skipped_cases.insert(current_case);
    std::printf("SKIPPED: %s: %s\n", current_case.c_str(), reason.c_str());
    std::fflush(stdout);
}

int main(int argc, char* argv[]) {
    const int failures = Catch::Session().run(argc, argv);
    if (failures == 0 && cases > 0 && skipped_cases.size() == static_cast<std::size_t>(cases))
        return exit_skipped;
    return failures == 0 ? 0 : 1;  // not the count: 77 failures are no skip
}
