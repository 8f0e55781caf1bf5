// A disk that fails on command: fault_injection.cpp defines write, pwrite, fsync and rename for this test program,
// and passes on to the kernel what the plan lets through.
#pragma once

#include <cstddef>

namespace fewbit_test {

struct FaultPlan {
    std::size_t space_bytes =
        static_cast<std::size_t>(-1);  ///< write: so many bytes are taken, then write_error
    int write_error = 0;               ///< errno of a full disk; 0: none
    std::size_t longest_write_bytes = static_cast<std::size_t>(-1);  ///< longer writes are cut short
    int interruptions = 0;       ///< so many writes and fsyncs fail with EINTR first
    bool write_nothing = false;  ///< write returns 0
    int fsync_error = 0;
    int directory_fsync_error = 0;
    int rename_error = 0;
};

/// The plan holds for writes to files whose descriptors are above 2, until the object is gone.
class Faults {
public:
    explicit Faults(const FaultPlan& plan);
    ~Faults();
    Faults(const Faults&) = delete;
    Faults& operator=(const Faults&) = delete;

    /// Whether this program's write() is really called by the library.
    [[nodiscard]] static bool available();
};

}  // namespace fewbit_test
