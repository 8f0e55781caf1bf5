// Counts and fails allocations: allocation_watch.cpp replaces operator new in this test program.
#pragma once

#include <cstddef>

namespace fewbit_test {

class AllocationWatch {
public:
    /// Allocation number `fail_at` (from 0) of the object's lifetime fails; by default none.
    explicit AllocationWatch(std::size_t fail_at = static_cast<std::size_t>(-1));
    ~AllocationWatch();
    AllocationWatch(const AllocationWatch&) = delete;
    AllocationWatch& operator=(const AllocationWatch&) = delete;

    [[nodiscard]] std::size_t count() const;
    [[nodiscard]] std::size_t largest_bytes() const;
    [[nodiscard]] std::size_t total_bytes() const;
};

}  // namespace fewbit_test
