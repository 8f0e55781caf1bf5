#include "fault_injection.hpp"

#if defined(__linux__) && defined(__GLIBC__)
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace {

bool armed = false;
fewbit_test::FaultPlan plan;

int refuse(int reason) {
    errno = reason;
    return -1;
}

bool interrupted() {
    if (plan.interruptions <= 0) return false;
    --plan.interruptions;
    return true;
}

/// Cuts a write to what the plan lets through. True: it ends here, with `result`.
bool intercepted(int descriptor, std::size_t& size, ssize_t& result) {
    if (!armed || descriptor <= 2) return false;
    result = 0;
    if (interrupted()) {
        result = refuse(EINTR);
        return true;
    }
    if (plan.write_nothing) return true;
    size = std::min({size, plan.longest_write_bytes, plan.space_bytes});
    if (size == 0 && plan.write_error != 0) {
        result = refuse(plan.write_error);
        return true;
    }
    plan.space_bytes -= size;
    return false;
}

}  // namespace

extern "C" ssize_t write(int descriptor, const void* data, std::size_t size) {
    ssize_t result = 0;
    if (intercepted(descriptor, size, result)) return result;
    return static_cast<ssize_t>(::syscall(SYS_write, descriptor, data, size));
}

extern "C" ssize_t pwrite(int descriptor, const void* data, std::size_t size, off_t offset) {
    ssize_t result = 0;
    if (intercepted(descriptor, size, result)) return result;
    return static_cast<ssize_t>(::syscall(SYS_pwrite64, descriptor, data, size, offset));
}

extern "C" int fsync(int descriptor) {
    if (armed) {
        struct stat status {};
        const bool directory = ::fstat(descriptor, &status) == 0 && S_ISDIR(status.st_mode);
        if (interrupted()) return refuse(EINTR);
        const int reason = directory ? plan.directory_fsync_error : plan.fsync_error;
        if (reason != 0) return refuse(reason);
    }
    return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

extern "C" int rename(const char* from, const char* to) noexcept {
    if (armed && plan.rename_error != 0) return refuse(plan.rename_error);
    return static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0u));
}

fewbit_test::Faults::Faults(const FaultPlan& chosen) {
    plan = chosen;
    armed = true;
}
fewbit_test::Faults::~Faults() { armed = false; }
bool fewbit_test::Faults::available() { return true; }

#else

fewbit_test::Faults::Faults(const FaultPlan&) {}
fewbit_test::Faults::~Faults() = default;
bool fewbit_test::Faults::available() { return false; }

#endif
